"""The projection of the journal into SQLite (state.db): schema, fold, the thread that keeps it current, and queries.

It is a cache: if it is deleted, folding the journal again gives the same rows. May import `routing`, `github`, `config` and
the layers below them, but not `intake`.
"""
