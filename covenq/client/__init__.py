"""The client of the command line and the dashboard: a daemon's API, or the files where no daemon runs.

`interface` is the protocol, `local` (over `local_files`) and `remote` implement it, `open` chooses. May import
`operate` and what is below it; not `http`.
"""
