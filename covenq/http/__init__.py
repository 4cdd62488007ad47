"""HTTP: the webhook, the API, metrics and health. Each parses a request, calls one function below, and answers.

`server` has all that depends on waitress, `api` the resources, `openapi` the one table of operations. May import
`operate` and what is below it; not `client`.
"""
