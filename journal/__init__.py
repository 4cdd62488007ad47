"""An append-only, hash-chained log of records, fsynced before it answers. Knows nothing of GitHub, tasks or HTTP.

TODO
"""

DISTRIBUTION = "covenq"
"""Whose package this is: PyPI has another distribution with a package of this name (`covenq.cli.main`)."""
