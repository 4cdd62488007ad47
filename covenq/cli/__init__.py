"""The command line: each command parses, calls one function below, and prints.

`commands` has a file a verb, everything else is what they share. May import everything.
"""
