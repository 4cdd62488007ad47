"""Execution: the pool of worker threads, a command and all that it started, its output, forwarding to a URL.

May import `tasks.scheduling` and what is below it.
"""
