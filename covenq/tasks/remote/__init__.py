"""Remote workers: the claims that a daemon grants and the reports on them, and `covenq worker`, which makes both.

May import `tasks.execution`, `tasks.scheduling` and what is below them.
"""
