"""The file engine: a journal in a directory of JSON Lines segments, owned by one process.

`open` makes one, `engine` is it, `committer` writes and syncs, `reader` reads beside a daemon that writes. `recovery`
says what the files hold when nobody is writing, `verify` proves them, `salvage` and `erase` make new segments of old
ones. `files` is the one place that makes file calls.
"""
