"""Operations on the stored deliveries and on the data directory.

`act` (replay, requeue, cancel, pause, import), `inspect` (status, why, tail, stats), `maintain` (upkeep, backup, verify),
`notify` (what operators are told unasked).

Commands, API and dashboard call these. May import `tasks`, `intake`, `state` and what is below them; not `http`, `client`.
"""
