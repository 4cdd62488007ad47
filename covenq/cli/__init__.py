"""The command line: each command parses its options, calls one function of a lower package, and prints the answer.

`commands` has one file per command; the other modules are what commands share. May import everything.
"""
