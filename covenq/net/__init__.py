"""Connections: to a daemon, by an HTTP client, its address and token, and Unix sockets at paths of any length; and to others.

Nothing here knows a delivery or a task. May import `errors` and the layers below it.
"""
