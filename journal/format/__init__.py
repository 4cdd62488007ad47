"""Format 1: what a record is as bytes, whatever keeps them; every engine writes it, and one verifier reads all of them.

- `codec` is a record's line, and the sum over it; `entries` those of one append
- `header` is the header of a segment, which gives the salt of its lines
- `check` verifies segments, line by line and as they follow each other; `recoverable_ids` reads delivery ids out of damaged lines

So a journal can move from one engine to another with its seqs and its sums.
"""
