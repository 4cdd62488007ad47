"""The filter grammar: words to a syntax tree, the tree to a predicate and to SQL, and why a row matches or doesn't.

One grammar for routes, commands, API and dashboard (covenq-filter(7)). May import `model` and what is below it.
"""
