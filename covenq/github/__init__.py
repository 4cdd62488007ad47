"""GitHub's side of a delivery: signature, identity and body of a request, the columns of a payload, and sample deliveries.

Nothing here has state. May import `config` and the layers below it.
"""
