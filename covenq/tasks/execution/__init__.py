"""Execution: the pool of worker threads, commands with all their processes, their output, forwarding to a URL.

May import `tasks.scheduling` and what is below it.
"""
