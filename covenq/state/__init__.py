"""The state: a fold of the journal into SQLite (state.db), and the questions asked of it.

A cache: deleted, it is folded again to the same rows. May import `routing`, `github`, `config` and what is below them; not
`intake`.
"""
