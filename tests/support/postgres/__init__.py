"""A PostgreSQL of the tests' own: the machine's programs, in a scratch directory, alone or with a synchronous standby."""
