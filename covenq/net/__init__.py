"""Connections to a daemon: an HTTP client, the address of a daemon elsewhere, Unix sockets at paths of any length.

Knows no delivery and no task. May import `errors` and what is below it.
"""
