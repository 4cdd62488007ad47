"""Tasks: scheduling, execution in this daemon, and claims of pull workers elsewhere.

`scheduling` picks and claims, `execution` runs commands and forwards deliveries, `remote` serves pull workers and is one. May
import `state`, `intake` and what is below them; not `operate`.
"""
