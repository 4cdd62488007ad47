"""The parser of the filter grammar: text in, a syntax tree out.

    field:value      field:a,b is either      different fields are and      -field:value or not:field:value negates
    *                is any text, everywhere but inside "double quotes", which also keep spaces and commas
    number:12        number:10..20, number:10.. and number>10 are ranges of whole numbers
    age<1h age>1h    since:2d before:1h; since and before also take a date or a time of day: 2026-11-23, 2026-11-23T02:00:00Z
    word             is looked for in repository, title and ids, in upper or lower case
    payload.a.b:x    reaches into the body; a list on the way means any of its elements

`covenq.filter.tree` defines which rows a term holds for.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from covenq.errors import FilterError, UsageError
from covenq.filter.fields import delivery_fields, task_fields
from covenq.filter.tree import (
    DIGITS_MAX,
    Age,
    And,
    Filter,
    InRange,
    Match,
    Node,
    Not,
    Pattern,
    Payload,
    Word,
    fold_case,
)
from covenq.model import Category, State, at_text, now_text, parse_duration

__all__ = ["FIELDS", "Filter", "delivery_fields", "parse", "task_fields"]

TEXT_MAX = 8192
TERMS_MAX = 100
VALUES_MAX = 200

FIELDS: dict[str, str] = {
    "id": "a delivery's GUID or hook/GUID; a task's id",
    "guid": "the delivery's GUID",
    "hook": "the hook's id",
    "seq": "the delivery's place in the journal",
    "event": "X-GitHub-Event: push, issues, pull_request, …",
    "action": "the payload's action: opened, labeled, …",
    "repo": "the repository, owner/name",
    "repo_id": "the repository's number, which survives a renaming",
    "owner": "the repository's owner",
    "sender": "who caused the event",
    "installation": "the GitHub App installation's number",
    "number": "the issue's or pull request's number",
    "sha": "the head commit",
    "ref": "the branch or tag, as the payload spells it: refs/heads/main of a push, main of a run",
    "target": "what it is about: issue, pull, commit, branch, release, …",
    "label": "the label put on or taken off, else any label of the issue or pull request",
    "state": "received, ignored, queued, running, completed, failed, cancelled, superseded",
    "reason": "why it is in that state",
    "route": "the route that made the task",
    "kind": "how the task is run: run, forward or pull",
    "purpose": "what the task is for, in its route's word",
    "familiar": "the agent that the task is run as",
    "worker": "who runs it, or ran it last",
    "node": "the node it runs on, or ran on last",
    "category": "why it failed: exit, signal, timeout, …",
    "attempts": "how many attempts a task had",
    "duplicates": "how often the delivery came again",
    "size": "the payload's bytes",
    "source": "http, import, or send (what `covenq send` sent)",
    "secret": "the name of the secret that verified it",
    "twin": "the GUID of an earlier delivery with the same body",
    "age": "how long ago it came: age<1h, age>2d",
    "since": "came within this time, or since that date",
    "before": "came before that",
}
"""Every field and what it means, but `payload.…`."""

NUMBERS = frozenset({"seq", "repo_id", "installation", "number", "attempts", "duplicates", "size"})
WORDS: dict[str, frozenset[str]] = {
    "state": frozenset(str(s) for s in State),
    "category": frozenset(str(c) for c in Category),
}
FIXED = {"kind": ("act", "forward", "pull", "run"), "source": ("http", "import", "send")}
"""All values that these fields have. Others are no error, and match nothing."""
TIMES = frozenset({"age", "since", "before"})


@dataclass(frozen=True, slots=True)
class _WordChar:
    """One character of a word; quoted ones have no special meaning. `column` counts from 1."""

    text: str
    quoted: bool
    column: int


_WordChars = Sequence[_WordChar]
_HEAD = re.compile(r"([A-Za-z_][0-9A-Za-z_.-]*)(:|<=|>=|<|>)")
_WHOLE = re.compile(r"[0-9]+\Z")
_RANGE = re.compile(r"([0-9]*)\.\.([0-9]*)\Z")


def parse(words: str | Sequence[str]) -> Filter:
    """A filter of one text, or of words as a shell passed them. Raises FilterError with the column in the joined text."""
    text = words if isinstance(words, str) else " ".join(words)
    if len(text) > TEXT_MAX:
        raise FilterError(f"a filter of over {TEXT_MAX} characters", column=TEXT_MAX + 1, hint="Write a shorter one.")
    for index, char in enumerate(text):
        if char == "\0" or "\ud800" <= char <= "\udfff":
            raise FilterError("a character that is no text", column=index + 1, hint="Filters are UTF-8 without NUL.")
    nodes = tuple(_term(word) for word in _split(text))
    if len(nodes) > TERMS_MAX:
        raise FilterError(f"over {TERMS_MAX} terms", column=1, hint="Write field:a,b for either of several values.")
    return Filter(And(nodes), text.strip())


def _split(text: str) -> list[list[_WordChar]]:
    words: list[list[_WordChar]] = []
    word: list[_WordChar] | None = None
    opened = 0
    index = 0
    while index < len(text):
        char, column = text[index], index + 1
        if opened:
            if char == '"':
                opened = 0
            else:
                if char == "\\" and text[index + 1 : index + 2] in ('"', "\\"):
                    index += 1
                    char = text[index]
                assert word is not None
                word.append(_WordChar(char, True, column))
        elif char.isspace():
            if word is not None:
                words.append(word)
            word = None
        else:
            word = [] if word is None else word
            if char == '"':
                opened = column
                word.append(_WordChar("", True, column))  # so that "" is a value, and a word
            else:
                word.append(_WordChar(char, False, column))
        index += 1
    if opened:
        raise FilterError(
            "a quote that isn't closed", column=opened, hint='Close it, or write \\" inside quotes for a quote.'
        )
    if word is not None:
        words.append(word)
    return words


def _plain(chars: _WordChars) -> str:
    """The word's text with NUL for quoted characters, so that only the others are read as syntax."""
    return "".join("\0" if char.quoted else char.text for char in chars)


def _term(word: _WordChars) -> Node:
    negate = False
    start = word[0].column
    while True:
        plain = _plain(word)
        if plain.startswith("-"):
            negate, word = not negate, word[1:]
        elif plain.startswith("not:"):
            negate, word = not negate, word[4:]
        else:
            break
        if not word:
            raise FilterError("nothing to negate", column=start, hint="Write -field:value or -word.")
    node = _positive(word)
    return Not(node) if negate else node


def _positive(word: _WordChars) -> Node:
    plain, column = _plain(word), word[0].column
    head = _HEAD.match(plain)
    if head is None:
        if ":" in plain:
            raise FilterError(
                f"{plain.partition(':')[0][:40]!r} is no field",
                column=column,
                hint="Put quotes around text with a colon.",
            )
        chunks = _pattern(word).chunks
        return Word(Pattern(tuple(fold_case(chunk) for chunk in ("", *_inner(chunks), ""))))
    name, op = head[1], head[2]
    value = word[head.end() :]
    in_payload = name.startswith("payload.")
    if not in_payload and name not in FIELDS:
        near = difflib.get_close_matches(name, [*FIELDS, "payload", "not"], n=1)
        if near == ["payload"]:
            hint = "Say which part of it, and its value: payload.issue.user.login:octocat"
        else:
            hint = f"Did you mean {near[0]}{op}?" if near else f"Fields are {', '.join(FIELDS)} and payload.…"
        raise FilterError(f"{name[:40]!r} is no field", column=column, hint=hint)
    if not value:
        raise FilterError(f"{name}{op} without a value", column=column + head.end(), hint=_example(name))
    if in_payload:
        return _payload(name, op, value, column)
    if name in TIMES:
        return _time(name, op, value)
    if name in NUMBERS:
        return _numbers(name, op, value)
    if op != ":":
        raise FilterError(
            f"{name} is text and can't be compared with {op}", column=column + len(name), hint=f"Write {name}:value."
        )
    return Match(name, _patterns(name, value))


def _inner(chunks: tuple[str, ...]) -> tuple[str, ...]:
    """A bare word's chunks, to be put between two stars, without stars of its own at the ends."""
    while len(chunks) > 1 and not chunks[0]:
        chunks = chunks[1:]
    while len(chunks) > 1 and not chunks[-1]:
        chunks = chunks[:-1]
    return chunks


def _example(name: str) -> str:
    if name == "age":
        return "Write age<1h or age>2d."
    if name in TIMES:
        return f"Write {name}:2d or {name}:2026-11-23."
    return f'Write {name}:value; {name}:* is any, {name}:"" is empty, -{name}:* is none.'


def _pattern(chars: _WordChars) -> Pattern:
    chunks = [""]
    for char in chars:
        if char.text == "*" and not char.quoted:
            chunks.append("")
        else:
            chunks[-1] += char.text
    # Two stars in a row mean the same as one.
    return Pattern((chunks[0], *(c for c in chunks[1:-1] if c), chunks[-1]) if len(chunks) > 1 else (chunks[0],))


def _items(name: str, value: _WordChars) -> list[_WordChars]:
    items: list[list[_WordChar]] = [[]]
    for char in value:
        if char.text == "," and not char.quoted:
            if not items[-1]:
                raise FilterError(f"an empty value for {name}", column=char.column, hint=_example(name))
            items.append([])
        else:
            items[-1].append(char)
    if not items[-1]:
        raise FilterError(f"an empty value for {name}", column=value[-1].column, hint=_example(name))
    if len(items) > VALUES_MAX:
        raise FilterError(f"over {VALUES_MAX} values for {name}", column=value[0].column, hint="Ask in parts.")
    return list(items)


def _patterns(name: str, value: _WordChars) -> tuple[Pattern, ...]:
    patterns = []
    for item in _items(name, value):
        pattern = _pattern(item)
        known = WORDS.get(name)
        if known is not None and pattern.literal is not None and pattern.literal not in known:
            near = difflib.get_close_matches(pattern.literal, known, n=1)
            hint = f"Did you mean {name}:{near[0]}?" if near else f"It is one of {', '.join(sorted(known))}."
            raise FilterError(f"{pattern.literal[:40]!r} is no {name}", column=item[0].column, hint=hint)
        patterns.append(pattern)
    return tuple(patterns)


def _payload(name: str, op: str, value: _WordChars, column: int) -> Payload:
    path = tuple(name.split(".")[1:])
    if op != ":":
        raise FilterError(
            f"{name[:40]} can't be compared with {op}", column=column + len(name), hint="Write payload.path:value."
        )
    if not all(path) or len(path) > 32:
        raise FilterError(f"{name[:40]!r} is no path", column=column, hint="Write payload.issue.user.login:octocat.")
    return Payload(path, _patterns(name, value))


def _number(text: str, column: int) -> int:
    if len(text) > DIGITS_MAX:
        raise FilterError("a number that is too long", column=column, hint=f"At most {DIGITS_MAX} digits.")
    return int(text)


def _numbers(name: str, op: str, value: _WordChars) -> InRange:
    if op != ":":
        text, column = "".join(char.text for char in value), value[0].column
        if not _WHOLE.match(text):
            raise FilterError(f"{text[:40]!r} is no whole number", column=column, hint=f"Write {name}{op}10.")
        number = _number(text, column)
        match op:
            case ">":
                return InRange(name, ((number + 1, None),))
            case ">=":
                return InRange(name, ((number, None),))
            case "<":
                return InRange(name, ((None, number - 1),))
            case _:
                return InRange(name, ((None, number),))
    ranges: list[tuple[int | None, int | None]] = []
    for item in _items(name, value):
        text, column = "".join(char.text for char in item), item[0].column
        span = _RANGE.match(text)
        if text == "*":
            ranges.append((None, None))
        elif span and (span[1] or span[2]):
            low = _number(span[1], column) if span[1] else None
            ranges.append((low, _number(span[2], column) if span[2] else None))
        elif _WHOLE.match(text):
            number = _number(text, column)
            ranges.append((number, number))
        else:
            raise FilterError(
                f"{text[:40]!r} is no whole number", column=column, hint=f"Write {name}:12, {name}:10..20 or {name}:*."
            )
    return InRange(name, tuple(ranges))


_AGE_OPS = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""A smaller age is a later time."""


def _time(name: str, op: str, value: _WordChars) -> Age:
    text, column = "".join(char.text for char in value), value[0].column
    if (op == ":") == (name == "age"):
        raise FilterError(f"{name}{op} can't be read", column=column, hint=_example(name))
    try:
        ago = parse_duration(text)
    except UsageError:
        at = None if name == "age" else _moment(text)
        if at is None:
            raise FilterError(f"{text[:40]!r} is no time", column=column, hint=_example(name)) from None
        return Age(">=" if name == "since" else "<", None, at)
    if name == "age":
        return Age(_AGE_OPS[op], ago, None)
    return Age(">=" if name == "since" else "<", ago, None)


def _moment(text: str) -> str | None:
    """A date, or a date and time, as RFC 3339 UTC; without an offset it is UTC."""
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        return now_text(moment) if moment.year >= 1970 else at_text(0)
    except (ValueError, OverflowError):
        return None
