"""What the command line and the dashboard read and act through: a daemon's API, or the files where no daemon runs.

`interface` says what there is, `local` and `remote` do it, `open` chooses. May import `operate` and what is below it; not
`http`.
"""
