"""The configuration: TOML, environment and secret files in, frozen values out; replaced whole when something changes.

May import `filter`, `net` and what is below them; it opens no socket and starts no thread but the one that looks at its files.
"""
