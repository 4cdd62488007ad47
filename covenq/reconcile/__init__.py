"""Reconciliation with GitHub: which deliveries GitHub's log lists that the journal has none of.

`logs` opens a delivery log and reads its pages and details, `walk` goes from page to page back to a time, `identity` finds out
the hook whose log it is, `compare` groups attempts by their delivery and sorts out those that are not held, and `compare_pass`
does these in their order.

A delivery is (hook, GUID), and the log has no hook ids. So the hook's is learnt first; without it nothing counts as held, and
what is then fetched without need is recognised by its own headers when it is imported. A delivery counts as missing only when
the journal has no record at all of its identity: what was erased keeps its first record, and is never fetched.

What the journal holds, and the clock, are passed in: values in, values out. May import `github` and the layers below it.
"""
