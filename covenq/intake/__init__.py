"""Receiving: admission, identity, twins, the one durable append before the answer, and the log of what was refused.

Knows no HTTP server. May import `routing`, `github`, `config` and what is below them; not `state`.
"""
