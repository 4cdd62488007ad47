"""Scheduling: candidates, fairness between installations, concurrency limits, claims with fencing tokens, leases.

Decides and appends; starts no process. May import `state`, `intake` and what is below them.
"""
