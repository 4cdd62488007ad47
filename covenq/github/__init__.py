"""GitHub's side of a delivery: signature, identity and body of a request, the columns of a payload, and sample deliveries.

Also its API, as far as it is asked: authentication, a client that keeps to its limits, and the delivery log. Only that client has
state. May import `config` and the layers below it.
"""
