"""What GitHub's requests mean: signature, identity, the columns of a payload, and samples of the common events.

May import `config` and what is below it. Nothing here keeps anything.
"""
