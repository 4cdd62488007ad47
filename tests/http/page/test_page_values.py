"""What the pages are made of, function by function: hosts, origins, addresses, sessions, bounds, colours, and what is escaped."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covenq.config.api_tokens import Tokens, create, revoke
from covenq.config.load import build
from covenq.config.page import LOOPBACK
from covenq.errors import ConfigError, FilterError, TookTooLong, TooMany, UsageError
from covenq.http.page import links
from covenq.http.page.attempts_limit import ADDRESSES_MAX, FAILED_MAX, WINDOW_S, AttemptsLimit
from covenq.http.page.bounded import Turns, bounded
from covenq.http.page.dispatch import WithPages
from covenq.http.page.hosts import is_allowed
from covenq.http.page.listing import FIELDS_HINT, ListView, Problem, Row, problem_of
from covenq.http.page.moment import moment
from covenq.http.page.payload import SHOWN_MAX, payload_lines
from covenq.http.page.render import render
from covenq.http.page.same_origin import is_same_origin
from covenq.http.page.sessions import SESSION_S, SESSIONS_MAX, Session, Sessions
from covenq.http.page.story import Line, Section, StoryView, Verdict
from covenq.http.page.style import sheet
from tests.support.browser import Document
from tests.support.contrast import ENOUGH, contrast, rgb

# ---- settings


def page_of(**api: object) -> object:
    return build({"api": api}, None, {}).page


def test_there_are_no_pages_unless_they_are_asked_for() -> None:
    assert build({}, None, {}).page is None
    assert page_of() is None and page_of(page=False) is None
    found = build({"api": {"page": True}}, None, {}).page
    assert found is not None and found.hosts == LOOPBACK and not found.payloads


@pytest.mark.parametrize(
    ("bind", "hosts", "names"),
    [
        ("127.0.0.1:0", [], ()),
        ("0.0.0.0:8788", [], ()),
        ("[::]:8788", [], ()),
        ("10.0.0.5:8788", [], ("10.0.0.5",)),
        ("[FD00:0::5]:8788", [], ("[fd00::5]",)),
        (
            "ops.example.org:8788",
            ["Covenq.Example.org", "localhost", "my_host"],
            ("ops.example.org", "covenq.example.org", "my_host"),
        ),
        ("0.0.0.0:1", ["192.0.2.7", "::1", "2001:DB8::1"], ("192.0.2.7", "[2001:db8::1]")),
    ],
)
def test_the_hosts_of_the_pages_are_this_machine_the_bind_and_those_named(
    bind: str, hosts: list[str], names: tuple[str, ...]
) -> None:
    found = build({"api": {"page": True, "bind": bind, **({"hosts": hosts} if hosts else {})}}, None, {}).page
    assert found is not None and found.hosts == (*LOOPBACK, *names)


@pytest.mark.parametrize(
    ("api", "said"),
    [
        ({"page": "yes"}, "api.page: must be true or false"),
        ({"payloads": True}, "api.payloads: is of the pages alone"),
        ({"hosts": ["a"], "page": False}, "api.hosts: is of the pages alone"),
        ({"page": True, "payloads": 1}, "api.payloads: must be true or false"),
        ({"page": True, "hosts": []}, "api.hosts: is empty"),
        ({"page": True, "hosts": "a"}, "api.hosts: must be a list of texts"),
        *(
            ({"page": True, "hosts": [one]}, "api.hosts: ")
            for one in ("", "*", "a:80", "https://a", "a/b", "-a", "a..b", "1.2.3", "[a]", "a b", "é.org", "x" * 300)
        ),
        ({"page": True, "hosts": [f"h{n}" for n in range(101)]}, "more than 100"),
        ({"pages": True}, "did you mean page?"),
    ],
)
def test_a_setting_that_can_not_be_meant_is_refused(api: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        page_of(**api)


# ---- who asks


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8788", "127.0.0.1:1", "[::1]:8788", "covenq.example.org", "a"]
)
def test_a_host_on_the_list_is_allowed_in_any_case_and_at_any_port(host: str) -> None:
    assert is_allowed(host, (*LOOPBACK, "covenq.example.org", "a"))


@pytest.mark.parametrize(
    "host",
    [None, "", "evil.example", "localhost.evil.example", "evil.localhost", "127.0.0.1.nip.io", "::1", "a:b", "a, b"],
)
def test_another_host_is_not(host: str | None) -> None:
    assert not is_allowed(host, (*LOOPBACK, "a"))


@pytest.mark.parametrize(
    ("site", "origin", "host", "ours"),
    [
        ("same-origin", "null", "a", True),  # as a browser says it that sends no referrer
        ("none", None, "a", True),
        ("cross-site", "http://a", "a", False),
        ("same-site", None, "a", False),
        ("", None, "a", False),
        (None, "https://a:8788", "A:8788", True),
        (None, "http://b", "a", False),
        (None, "http://a.evil", "a", False),
        (None, "null", "a", False),
        (None, "http://[", "a", False),
        (None, "", "", False),
        (None, None, "a", True),  # no browser
    ],
)
def test_a_form_is_of_these_pages_where_the_browser_says_so(
    site: str | None, origin: str | None, host: str, ours: bool
) -> None:
    assert is_same_origin(site, origin, host) is ours


@given(
    st.text(max_size=40) | st.sampled_from(["//evil", "/page@evil", "/pages", "/page/../x", "http://evil", "/page\\x"])
)
def test_no_address_from_outside_leads_to_another_site(given: str) -> None:
    found = links.own(given)
    assert re.match(r"/page(?:[/?]|\Z)", found)
    assert not re.search(r"[\\\s\x00-\x1f]", found) and found.isascii()
    assert links.own(f"/page{given}").startswith("/page")


def test_the_address_of_a_page_is_what_one_is_led_to() -> None:
    for path in ("/page", "/page/deliveries/7/x", "/page/deliveries?filter=repo%3Aa%2Fb&after=9"):
        assert links.own(path) == path
    for path in ("/page/login", "/page/logout", "/page/login?next=/page/tasks", "/page/" + "x" * 3000, None):
        assert links.own(path) == "/page"


# ---- sessions


@pytest.fixture
def tokens(tmp_path: Path) -> Iterator[Tokens]:
    create(tmp_path / "tokens.json", "support", "read")
    yield Tokens(tmp_path / "tokens.json")


def test_a_session_ends_by_its_time_by_logging_out_and_with_its_token(tokens: Tokens) -> None:
    now = [0.0]
    sessions = Sessions(tokens, monotonic=lambda: now[0])
    (token,) = tokens.now()
    first, second, third = (sessions.begin(token) for _ in range(3))
    assert len({first, second, third}) == 3 and len(first) == 43
    assert sessions.end(first) == Session(token, SESSION_S) and sessions.find(first) is None
    now[0] = SESSION_S - 1
    assert sessions.find(second) == Session(token, SESSION_S)
    now[0] = SESSION_S
    assert sessions.find(second) is None
    fourth = sessions.begin(token)
    assert sessions.find(fourth) is not None
    revoke(tokens.path, "support")
    assert sessions.find(fourth) is None
    create(tokens.path, "support", "read")
    assert sessions.find(fourth) is None, "another token of that name"
    for odd in (None, "", "x", "\udcff", "x" * 5000):
        assert sessions.find(odd) is None and sessions.end(odd) is None


def test_there_are_so_many_sessions_at_most(tokens: Tokens) -> None:
    sessions = Sessions(tokens)
    (token,) = tokens.now()
    first = sessions.begin(token)
    others = [sessions.begin(token) for _ in range(SESSIONS_MAX)]
    assert sessions.find(first) is None and sessions.find(others[0]) is not None


def test_who_logs_in_again_and_again_ends_nobody_elses_session(tokens: Tokens) -> None:
    create(tokens.path, "program", "read")
    sessions = Sessions(tokens)
    support, program = tokens.now()
    own = sessions.begin(support)
    others = [sessions.begin(program) for _ in range(SESSIONS_MAX)]
    assert sessions.find(own) is not None
    assert [sessions.find(others[at]) is not None for at in (0, 1, -1)] == [False, True, True]


def test_a_file_of_tokens_that_others_may_write_ends_every_session(tokens: Tokens) -> None:
    sessions = Sessions(tokens)
    id = sessions.begin(tokens.now()[0])
    tokens.path.chmod(0o666)
    assert sessions.find(id) is None


def test_so_many_log_ins_fail_in_a_minute_and_then_wait() -> None:
    now = [100.0]
    limit = AttemptsLimit(lambda: now[0])
    for _ in range(FAILED_MAX):
        assert limit.wait_s("a") == 0
        limit.failed("a")
    assert limit.wait_s("a") == WINDOW_S and limit.wait_s("b") == 0
    now[0] += WINDOW_S - 0.5
    assert limit.wait_s("a") == 1
    now[0] += 0.5
    assert limit.wait_s("a") == 0
    limit.failed("a")
    assert limit.wait_s("a") == 0, "a window of its own"


def test_the_addresses_that_are_kept_are_bounded() -> None:
    limit = AttemptsLimit(lambda: 0.0)
    for number in range(ADDRESSES_MAX + 5):
        limit.failed(str(number))
    assert len(limit._failed) == ADDRESSES_MAX


def test_a_hint_that_sends_one_to_a_command_is_not_given() -> None:
    assert problem_of(UsageError("no such thing")) == Problem("no such thing", FIELDS_HINT)
    assert problem_of(FilterError("odd", column=1)).hint == FIELDS_HINT
    assert problem_of(UsageError("odd", hint="Say it once.")).hint == "Say it once."


# ---- bounds


class NoRecords:
    """A journal of nothing."""

    epoch = "e"

    def read(self, after: int, only: object = None, *, payloads: bool = True) -> Iterator[object]:
        yield from ("one", "two")

    def get(self, seq: int) -> None:
        return None

    def head(self) -> None:
        return None


def test_what_takes_too_long_to_read_ends_with_a_sentence() -> None:
    with closing(sqlite3.connect(":memory:")) as conn:
        counting = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT count(*) FROM n"
        now = iter(float(n) for n in range(10_000))
        with pytest.raises(TookTooLong, match="5 s"), bounded(conn, NoRecords(), monotonic=lambda: next(now)):  # type: ignore[arg-type]
            conn.execute(counting, (10_000_000,)).fetchone()
        assert conn.execute(counting, (100_000,)).fetchone() == (100_000,), "the next has its own time"
        now = iter((0.0, 4.0, 6.0, 6.0))
        with pytest.raises(TookTooLong), bounded(conn, NoRecords(), monotonic=lambda: next(now)) as records:  # type: ignore[arg-type]
            assert records.get(1) is None
            records.get(1)
        now = iter((0.0, 4.0, 6.0))
        with pytest.raises(TookTooLong), bounded(conn, NoRecords(), monotonic=lambda: next(now)) as records:  # type: ignore[arg-type]
            list(records.read(0))
        with pytest.raises(sqlite3.OperationalError, match="no such table"), bounded(conn, NoRecords()):  # type: ignore[arg-type]
            conn.execute("SELECT * FROM no_rows")


def test_so_many_pages_read_at_a_time() -> None:
    turns = Turns(1, wait_s=0.0)
    with turns.one(), pytest.raises(TooMany), turns.one():
        raise AssertionError("two at a time")
    with turns.one():
        pass


def test_the_application_is_made_at_the_first_page() -> None:
    made: list[str] = []

    def api(environ: object, start: object) -> list[bytes]:
        return [b"api"]

    def make() -> object:
        made.append("pages")
        return lambda environ, start: [b"page"]

    app = WithPages(api, make)  # type: ignore[arg-type]

    def ask(path: str, method: str = "GET") -> bytes:
        return b"".join(app({"PATH_INFO": path, "REQUEST_METHOD": method}, None))  # type: ignore[arg-type]

    for path in ("/api/v1/status", "/healthz", "/pages", "/webhook", ""):
        assert ask(path) == b"api"
    assert ask("/", "POST") == b"api" and made == []
    assert [ask(path) for path in ("/page", "/page/", "/page/x", "/")] == [b"page"] * 4
    assert made == ["pages"]


# ---- what it looks like


def test_every_colour_has_enough_contrast_on_every_background_of_its_scheme() -> None:
    """In the style sheet as it is served: the dashboard's colours, dark and light, WCAG 2.2's 4.5:1."""
    light, dark = (
        dict(re.findall(r"--(\w+):(#[0-9a-f]{6})", block)) for block in re.findall(r":root\{[^}]*\}", sheet())
    )
    backgrounds = {"page", "panel", "surface"}
    texts = set(light) - backgrounds
    assert (
        texts == {"text", "accent", "bad", "warning", "good", "active", "waiting", "muted"} == set(dark) - backgrounds
    )
    for scheme in (light, dark):
        for name in texts:
            for behind in ("page", "surface", *(["panel"] if name in ("text", "accent", "muted") else [])):
                found = contrast(rgb(scheme[name]), rgb(scheme[behind]))
                assert found >= ENOUGH, f"{name} on {behind}: {found:.2f}"


def test_the_style_has_no_other_colour_and_hides_nothing_behind_one() -> None:
    rules = sheet().partition("}}\n")[2]
    assert set(re.findall(r"var\(--(\w+)\)", rules)) <= set(re.findall(r"--(\w+):#", sheet()))
    assert not re.search(r"#[0-9a-fA-F]{3,8}\b|rgba?\(|hsl|opacity: *0|url\(|@import|expression|</", rules)
    colours = re.findall(r"(?<![\w-])(?:color|background|border[\w-]*): *([^;}]+)", rules)
    named = {word for one in colours for word in re.findall(r"[a-zA-Z][\w-]*", re.sub(r"var\([^)]*\)", "", one))}
    assert named <= {"solid", "px", "transparent", "currentColor", "collapse"}, named


# ---- nothing unescaped

hostile = st.lists(
    st.sampled_from(
        [
            "<script>",
            "</style>",
            '"',
            "'",
            "&",
            "<img src=x onerror=y>",
            "\x1b[2J",
            "\u202e",
            "\u200b",
            "\n",
            "{{7*7}}",
            "é",
        ]
    )
    | st.text(max_size=8),
    min_size=1,
    max_size=6,
).map(lambda parts: "x" + "".join(parts))


@settings(max_examples=60, deadline=None)
@given(hostile)
def test_whatever_is_shown_is_text(text: str) -> None:
    """Every value of every view that comes from outside, at once: the page stays the page that it is with plain words."""

    def pages(value: str) -> list[str]:
        when = moment("2026-11-23T02:34:56.123456Z", 1e10)
        row = Row("/page/deliveries/7/x", when, value, "bad", value, value, value, value)
        shown = ListView(value, "/page/deliveries", value, [row], None, "/page", False, Problem(value, value))
        lines = [Line(value, value, True), Line(value, value, False), Line("", value, False)]
        story = StoryView(
            value, "/page", Verdict(value, "bad", value), value, "bad", value, value, value, value, when,
            [Section(value, lines)], None, None,
        )  # fmt: skip
        return [
            render("list", session=None, view=shown),
            render("story", session=None, view=story),
            render("error", session=None, title=value, hint=value),
            render("login", session=None, onward=value, problem=value, host=value),
            render("payload", session=None, id=value, story="/page", lines=[value], size=value, cut=value),
        ]

    for plain, found in zip(pages("x"), pages(text), strict=True):
        assert tags(found) == tags(plain)
        assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e\u200b-\u200f\u2066-\u2069\ud800-\udfff]", found)


def tags(html: str) -> list[tuple[str, str]]:
    return [(tag, name) for tag, name, _ in Document(html).attributes]


def test_a_payload_is_shown_as_it_came_but_for_the_space_in_it() -> None:
    assert payload_lines(b'{"a":[1.50,1e400,{"a":1,"a":2}]}') == [
        "{", '  "a": [', "    1.50,", "    1e400,", "    {", '      "a": 1,', '      "a": 2', "    }", "  ]", "}",
    ]  # fmt: skip
    assert payload_lines(b"payload=%7B%7D\xff") == ["payload=%7B%7D\N{REPLACEMENT CHARACTER}"]
    assert sum(map(len, payload_lines(b"[" + b"1," * SHOWN_MAX + b"1]"))) == SHOWN_MAX


@pytest.mark.parametrize(("depth", "shown_whole"), [(3, True), (900, False), (5000, False), (SHOWN_MAX // 4, False)])
def test_a_payload_that_nests_deep_is_shown_as_it_came(depth: int, shown_whole: bool) -> None:
    """Indented it would be a page of hundreds of megabytes, or one that can't be made."""
    items = b"[" * depth + b"1," * ((SHOWN_MAX - 2 * depth) // 4) + b"1" + b"]" * depth
    assert (len(payload_lines(items)) > 1) is shown_whole
    assert shown_whole or payload_lines(items) == [items.decode()]
    text = b'{"a":"' + b'\\"[' * 40_000 + b'"}'
    assert len(payload_lines(text)) == 3, "a bracket in a string nests nothing"
    assert len(payload_lines(b'"' + b'\\"' * (SHOWN_MAX // 2 - 1))) == 1, "nor does one that isn't closed"
