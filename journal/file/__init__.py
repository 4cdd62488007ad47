"""The file engine: a journal in a directory of JSON Lines segments, owned by one process.

One line per module, highest layer first:

- `open` opens a journal, recovering what a crash left; `engine` is the journal that it gives; `reader` is one for reading only
- `settings` is how one writes: its clock, its randomness, when a segment ends
- `committer` writes and syncs batches in its thread; `request` is an append on its way through it
- `salvage` makes a new journal of what verifies in a damaged one; `verify` checks every byte of a journal
- `backup` copies a journal while it is written; `segment_check` checks one segment's file, for both
- `reserve` keeps disk space free for the records that end running work
- `recovery` makes the end of the log safe to append to; `examine` finds what is proven, torn or damaged; `torn` is a torn tail
- `erase` takes content out of sealed segments; `scan` reads records out of segments
- `cursor` reads records without their payloads, and goes on where it ended; `walk` does so in one segment, in bounded memory
- `catalogue` looks up subjects and offsets; `index` is their cache in SQLite
- `segment` is a segment's file
- `lock` is the lock on the directory; `files` makes all file calls
"""
