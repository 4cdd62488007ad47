"""Tasks: which one runs next, how it runs here, and how workers elsewhere claim it.

`scheduling` decides and claims, `execution` runs commands and forwards, `remote` serves and is the pull worker. May import
`state`, `intake` and what is below them; not `operate`.
"""
