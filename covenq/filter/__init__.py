"""Filters: the grammar and its syntax tree, evaluated as a predicate or compiled to SQL, and explained term by term.

Routes, commands, API and dashboard share the one grammar (covenq-filter(7)). May import `model`, `net` and the layers below them.
"""
