"""`covenq tui`: a live dashboard over a client, read-only where nothing may be written.

`app` composes it: `refresh` reads what is in view, `row_actions`, `journal_actions`, `filter_menu` and `commands` do what the
keys ask for. `panes` are the pages, `screens` lie over them, and both draw with `widgets`. May import `client` and what is
below it; not `http`.
"""
