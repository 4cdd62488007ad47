"""Filters and journals that hypothesis draws: few values, so that filters meet them."""

from __future__ import annotations

from hypothesis import strategies as st

from covenq.filter.grammar import parse
from covenq.filter.tree import And, Filter, Not
from journal.records import Entry
from tests.support.records import START, moved, of, queued, received

NOW = START + 10

# Few values, so that filters meet them; among them all that GLOB, SQL and Unicode make special.
TEXTS = [
    "a",
    "A",
    "ab",
    "a/b",
    "octo/hello",
    "Octo/HELLO",
    "x*y",
    "x?y",
    "[a]",
    "a]",
    "^",
    "",
    "'",
    "%",
    "é",
    "É",
    "ß",
    "a\0b",
    "-",
    "7",
]

_texts = st.none() | st.sampled_from(TEXTS)

_numbers = st.none() | st.sampled_from([0, 1, 7, 12, 120, -1, 1 << 62])

_labels = st.none() | st.lists(st.sampled_from(TEXTS), max_size=3)

_about = st.fixed_dictionaries(
    {"repo": _texts, "owner": _texts, "sender": _texts, "number": _numbers, "head_sha": _texts, "title": _texts}
    | {"label": _texts, "labels": _labels}
)

_data = st.fixed_dictionaries(
    {
        "event": _texts,
        "action": _texts,
        "installation": _numbers,
        "repo_id": _numbers,
        "secret": _texts,
        "source": _texts,
    }
)

_hooks = st.sampled_from(["9", "-", "a"])

_guids = st.sampled_from(["g1", "ab", "A-7", "t0a"])

_routes = st.sampled_from(["a", "fix", "7"])


@st.composite
def journals(draw: st.DrawFn) -> list[Entry]:
    """Deliveries, most with tasks, some of which ran."""
    entries: list[Entry] = []
    for hook, guid in draw(st.lists(st.tuples(_hooks, _guids), unique=True, max_size=5)):
        body = draw(st.sampled_from([b"{}", b'{"a":{"b":[1,"x*y",null]}}', b"payload=%7B%22a%22%3A5%7D", b"nonsense"]))
        entries.append(received(guid, hook, payload=body, about=draw(_about), **draw(_data)))
        for route in draw(st.lists(_routes, unique=True, max_size=2)):
            task = of(guid, hook, route)
            labels = {"purpose": draw(_texts), "familiar": draw(_texts)}
            entries.append(queued(guid, hook, route, about=draw(_about), **draw(_data), **labels))
            if draw(st.booleans()):
                entries.append(moved("claimed", task, attempt=draw(st.integers(1, 3)), worker=draw(_texts)))
                end = draw(st.sampled_from(["phase", "failed", "completed", "cancelled"]))
                entries.append(moved(end, task, category="exit", reason=draw(_texts)))
        if draw(st.booleans()):
            entries.append(Entry(f"delivery.{hook}.{guid}", "delivery.repeated", {}))
    return entries


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_pieces = st.lists(
    st.sampled_from([*TEXTS, "o", "/", "g", "9/"]).map(lambda t: _quoted(t.replace("\0", "\ufffd"))) | st.just("*"),
    min_size=1,
    max_size=3,
)

_pattern = _pieces.map("".join)

_patterns = st.lists(_pattern, min_size=1, max_size=3).map(",".join)

_range = st.sampled_from(["*", "0", "7", "12", "1..12", "7..", "..7", "12..1"])

_ranges = st.lists(_range, min_size=1, max_size=3).map(",".join)

_text_field = st.sampled_from(
    "id guid hook event action repo owner sender sha label reason route kind purpose familiar worker source secret twin".split()
)

_number_field = st.sampled_from("seq repo_id installation number attempts duplicates size".split())

_moments = st.sampled_from(["age<5s", "age<=5s", "age>5s", "age>=5s", "since:5s", "before:5s", "since:2027-01-15"])

_states = st.sampled_from(["state:queued,running", "state:*ed", "state:received", "category:exit", "category:*"])

_payloads = st.builds(
    lambda path, pattern: f"payload.{path}:{pattern}",
    st.sampled_from(["a", "a.b", "a.b.0", "z"]),
    st.sampled_from(["*", "1", "5", "x*", '"x*y"']),
)

_positive = st.one_of(
    st.builds(lambda field, value: f"{field}:{value}", _text_field, _patterns),
    st.builds(lambda field, value: f"{field}:{value}", _number_field, _ranges),
    st.builds(
        lambda field, op, n: f"{field}{op}{n}",
        _number_field,
        st.sampled_from(["<", "<=", ">", ">="]),
        st.sampled_from([0, 7, 12]),
    ),
    _moments,
    _states,
    _pattern,
)

_term = st.builds(lambda sign, term: sign + term, st.sampled_from(["", "", "-", "not:"]), _positive)

sql_filters = st.lists(_term, max_size=3).map(parse)

filters = st.lists(_term | st.builds(lambda sign, t: sign + t, st.sampled_from(["", "-"]), _payloads), max_size=3).map(
    parse
)


def negated(filter: Filter) -> Filter:
    """What matches exactly where `filter` doesn't: no words of the grammar say it of several terms."""
    return Filter(And((Not(filter.node),)), f"not ({filter.text})")
