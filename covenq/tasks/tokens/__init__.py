"""Installation tokens of attempts: got from GitHub for an attempt's work, kept until they are revoked, and revoked.

`keeper` has their life and the argument that none is forgotten, `owed` the files of those that have to be revoked, `apis` how
GitHub is asked, and `given` the file that a command reads one from.
"""
