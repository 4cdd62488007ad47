"""Notices: what tells operators of transitions without being asked, by a command or a URL ([notify]).

What holds now is found by `conditions`, a function of values; what of it is to be told by `transitions`, a state machine of
values; what is owed is kept by `outbox`, and brought to a target by `send`. The daemon's threads around them are
`covenq.daemon.notifier`'s.

May import what `operate` may, and of it nothing.
"""
