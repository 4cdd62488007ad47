"""Scopes of secrets: which of those that signed a delivery has it in its scope, and which repository a name of a scope is.

A repository is its number: renames and transfers change its name, and a name that was given up is used again. So the first
delivery that a name of a scope lets in binds the name to that delivery's `repository.id`. From then on the scope is that number,
under whatever name it comes, `repository.renamed` itself included, and whoever has the name next is refused. It stays so until an
operator unbinds it (`covenq.operate.act.scopes`). A body without a number goes by its name, and `owner/*` by the owner's.

The argument: the binding's record stands **before** the delivery's in one append. So whatever prefix of the append a crash
leaves, a delivery that is durable has its binding; a binding alone is of a delivery that was verified, and never answered. Each
name of a scope has a subject of its own, and the record is appended against its newest: of two first deliveries at once one
binds, and the other gets a Conflict, reads that record, and is decided by it. What is kept here in memory is read from the
journal's newest records alone, never from the fold, and is only ever behind them by a binding: so it holds from the first request
after a start on, after a rebuild of the caches, and over every reload. An unbinding takes effect when `forget` is called, after
its append.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from covenq.config.secret_keys import Key
from covenq.filter.tree import fold_case
from covenq.intake.scope_words import out_of_scope
from covenq.model import DeliveryId
from covenq.model.scope_record import BOUND, subject_of
from journal.errors import JournalError
from journal.interface import Reading
from journal.records import Entry

log = logging.getLogger("covenq.intake")


@dataclass(frozen=True, slots=True)
class Binding:
    """What a delivery is recorded with if it is the first of a name: `entry` comes before its own in the same append."""

    secret: str
    name: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class OutOfScope:
    """Why no secret that signed it has it in its scope: a refusal's word and sentence."""

    word: str
    sentence: str


@dataclass(frozen=True, slots=True)
class _Name:
    """A name of a scope: the repository that it is bound to, if any, and the seq of its subject's newest record, or 0."""

    repo_id: int | None
    seq: int


@dataclass(frozen=True, slots=True)
class _BoundScope:
    """The repositories of one scope, without `owner/*`; `numbers` are those that its names are bound to."""

    names: Mapping[str, _Name]
    numbers: frozenset[int]
    unread: tuple[str, ...] = ()
    """Names whose record can't be read: who is none of the others may be one of these."""


_Scopes = Mapping[str, _BoundScope]
"""By the secret's name; those that have repositories in their scope."""


class ScopeBindings:
    """The bindings of the keys in effect, in memory. Methods may be called from any thread."""

    def __init__(self, journal: Reading) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._read: tuple[Sequence[Key] | None, _Scopes] = (None, {})
        """The keys that were read for, and what was read. Replaced whole."""

    def ready(self, keys: Sequence[Key]) -> bool:
        """Whether `admit` has nothing to read for these keys, so that it doesn't wait."""
        known, scopes = self._read
        if known is keys:
            return not any(one.unread for one in scopes.values())
        if any(key.scope.repositories for key in keys):
            return False
        self._read = keys, {}
        return True

    def admit(
        self,
        keys: Sequence[Key],
        signers: Sequence[Key],
        delivery: DeliveryId,
        installation: int | None,
        repo: str | None,
        repo_id: int | None,
    ) -> tuple[str, Binding | None] | OutOfScope:
        """The name of the first of `signers`, some of `keys`, whose scope has the delivery, and what that binds.

        Raises JournalError.
        """
        elsewhere: OutOfScope | None = None
        for key in signers:
            scope = key.scope
            if not scope.repositories or repo_id is None:
                if scope.covers(delivery.hook, installation, repo):
                    return key.name, None
                continue
            if not scope.admits(delivery.hook, installation):
                continue
            bound = self._scopes(keys)[key.name]
            name = None if repo is None else fold_case(repo)
            known = None if name is None else bound.names.get(name)
            if name is not None and known is not None and known.repo_id is None:
                return key.name, _binding(key.name, name, known.seq, delivery, repo_id)
            if repo_id in bound.numbers or scope.names_owner(repo):
                return key.name, None
            for unread in bound.unread:
                self._newest(key.name, unread)  # raises, unless it can be read by now
                self.forget()
                return self.admit(keys, signers, delivery, installation, repo, repo_id)
            if known is not None and elsewhere is None:
                elsewhere = _bound_elsewhere(key.name, name, known.repo_id, repo_id)
        if elsewhere is not None:
            return elsewhere
        bound_scopes = self._scopes(keys) if any(key.scope.repositories for key in signers) else {}
        numbers = {name: one.numbers for name, one in bound_scopes.items()}
        said = out_of_scope(signers, numbers, delivery.hook, installation, repo, repo_id)
        return OutOfScope("signature_out_of_scope", said)

    def reread(self, secret: str, name: str) -> None:
        """Read again what a name is bound to: after its binding was recorded, by this delivery or another. Raises nothing."""
        with self._lock:
            keys, scopes = self._read
            if secret not in scopes:
                return
            try:
                names = {**scopes[secret].names, name: self._newest(secret, name)}
            except JournalError:  # who needs it next reads it, and may say so
                self._read = (None, {})
            else:
                unread = tuple(one for one in scopes[secret].unread if one != name)
                self._read = keys, {**scopes, secret: replace(_bound_scope(names), unread=unread)}

    def forget(self) -> None:
        """Read everything again before the next decision: something was, or may have been, unbound."""
        with self._lock:
            self._read = (None, {})

    def _scopes(self, keys: Sequence[Key]) -> _Scopes:
        known, scopes = self._read
        if known is keys:
            return scopes
        with self._lock:
            known, scopes = self._read
            if known is not keys:
                scopes = {key.name: self._scope(key) for key in keys if key.scope.repositories}
                self._read = keys, scopes
            return scopes

    def _scope(self, key: Key) -> _BoundScope:
        """What its names are bound to. One that can't be read, behind damage, holds up no other."""
        names: dict[str, _Name] = {}
        unread: list[str] = []
        for name in key.scope.repositories_named:
            try:
                names[name] = self._newest(key.name, name)
            except JournalError as error:
                log.error("what %s in the scope of secret %s is bound to can't be read: %s", name, key.name, error)
                unread.append(name)
        return replace(_bound_scope(names), unread=tuple(unread))

    def _newest(self, secret: str, name: str) -> _Name:
        record = self._journal.last(subject_of(secret, name))
        if record is None:
            return _Name(None, 0)
        number = record.data.get("repo_id") if record.kind == BOUND else None
        return _Name(number if type(number) is int else None, record.seq)


def _bound_scope(names: Mapping[str, _Name]) -> _BoundScope:
    return _BoundScope(names, frozenset(one.repo_id for one in names.values() if one.repo_id is not None))


def _binding(secret: str, name: str, newest: int, delivery: DeliveryId, repo_id: int) -> Binding:
    data = {"secret": secret, "repo_id": repo_id, "hook": delivery.hook, "guid": delivery.guid}
    return Binding(secret, name, Entry(subject_of(secret, name), BOUND, data, {"repo": name}, expect=newest))


def _bound_elsewhere(secret: str, name: str | None, bound: int | None, repo_id: int) -> OutOfScope:
    return OutOfScope(
        "scope_bound_elsewhere",
        f"Secret {secret!r} signed it, whose scope has {name} bound to repository {bound}; this {name} is repository {repo_id}.",
    )
