"""The configuration: TOML, environment and secret files in, frozen values out; reloaded as a whole when a file changes.

It opens no socket and starts no thread. May import `filter` and the layers below it.
"""
