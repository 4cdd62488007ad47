"""Connections to a daemon: an HTTP client, the address and token of a remote daemon, Unix sockets at paths of any length.

Nothing here knows a delivery or a task. May import `errors` and the layers below it.
"""
