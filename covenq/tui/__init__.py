"""`covenq tui`: a live dashboard over a client, read-only where nothing may be written.

`panes` are the pages, `screens` the layers over them, `widgets` what both draw with. May import `client` and what is below
it; not `http`.
"""
