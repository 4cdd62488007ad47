"""The daemon: puts all parts together, waits for signals, and takes them apart in order.

May import everything but `cli` and `tui`.
"""
