"""Routing: which tasks a delivery becomes, by the routes of the configuration.

`decide` decides; `verdicts` says why, term by term; `diff` says how two sets of routes differ.

Values in, values out. May import `config` and the layers below it, but not `github`.
"""
