"""Which tasks a delivery becomes, by the routes of the configuration; the same told term by term, and two sets compared.

Values in, values out. May import `config` and what is below it; not `github`.
"""
