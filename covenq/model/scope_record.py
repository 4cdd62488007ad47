"""The records of what a secret's scope is bound to: their kinds, and the subject that each name of a scope has.

A name has a subject of its own, so that its newest record says what it is bound to, without a fold, and an append against that
record binds it once. The subject holds a digest in the name's place, for a subject is never erased. That tells no more of an
erased name than the record's own `about_sha256`, which stays as well.
"""

from __future__ import annotations

import hashlib

BOUND = "ops.scope_bound"
UNBOUND = "ops.scope_unbound"

_PREFIX = "ops.scope_"
_DIGITS = 48
"""Hex digits of the digest: 192 bits."""


def subject_of(secret: str, name: str) -> str:
    """The subject of a name (owner/name, in lower case) in the scope of that secret."""
    return _PREFIX + hashlib.sha256(f"{secret}\0{name}".encode()).hexdigest()[:_DIGITS]


def is_scope_subject(subject: str) -> bool:
    """Whether it is one that `subject_of` makes."""
    return subject.startswith(_PREFIX)
