"""Remote workers: the claims a daemon hands out, and `covenq worker`, which takes them.

May import `tasks.execution`, `tasks.scheduling` and what is below them.
"""
