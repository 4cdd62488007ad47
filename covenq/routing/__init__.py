"""Routing: which tasks a delivery becomes, by the routes of the configuration (`decide`); why, term by term (`verdicts`); and
how two sets of routes differ (`diff`).

Values in, values out. May import `config` and the layers below it, but not `github`.
"""
