"""The daemon: starts all parts, serves until a signal, and stops them in order.

May import everything but `cli` and `tui`.
"""
