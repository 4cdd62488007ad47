"""The pages, driven over real sockets as a browser does: logging in, what is shown, and what is refused."""

from __future__ import annotations

import http.client
import json
import re
import socket
import sqlite3
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from covenq.config.api_tokens import create, revoke
from covenq.errors import TookTooLong, TooMany
from covenq.http.api import status as status_api
from covenq.http.page import status as page_status
from covenq.http.page.attempts_limit import FAILED_MAX
from covenq.http.page.status import status_view
from covenq.http.page.story import story_view, without_payload
from covenq.intake import refusal_log
from covenq.model import seconds_of
from covenq.model.answers import LastOutput, Throughput
from covenq.model.route_times import RouteMinutes, RouteTimes
from covenq.model.status import ActivePause, Overdue, SecretProblem, Stuck, Verified
from covenq.operate.inspect import why
from covenq.operate.inspect.story_text import NEAREST_MAX
from tests.support.answers import blank
from tests.support.browser import Browser, Form, Shown
from tests.support.daemon import Daemon, free_port
from tests.support.requests import ask, issue, new_guid
from tests.support.serving import Served, serving

API = {"page": True, "hosts": ["covenq.example.org"]}
ROUTES = [
    {"name": "all", "match": "event:issues payload.issue.body:*work*", "run": ["true"]},
    *(
        {"name": f"never-{n}", "match": "event:issues payload.issue.body:other", "run": ["true"]}
        for n in range(NEAREST_MAX + 1)
    ),
]
EVIL = "<script>alert(1)</script>\x1b[2J\u202eevil\u200b\"'>"


@pytest.fixture(scope="module")
def served(journal_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Without payloads; 60 deliveries of octo/hello, and a hostile one."""
    with serving(tmp_path_factory.mktemp("pages"), {"api": API, "route": ROUTES}) as found:
        yield filled(found)


@pytest.fixture(scope="module")
def served_with_payloads(journal_engine: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("payloads"), {"api": {**API, "payloads": True}, "route": ROUTES}) as found:
        yield found


def filled(served: Served) -> Served:
    for number in range(1, 61):
        assert served.post("issues", issue(number), hook="7").status == 202
    hostile = issue(900, repo="octo/evil", sender={"login": EVIL, "id": 9})
    hostile["issue"] |= {"title": EVIL, "labels": [{"name": EVIL}]}
    assert served.post("issues", hostile, hook="7").status == 202
    assert served.post("star", {"action": "created"}, hook="7").status == 202
    return served


def token(served: Served, role: str = "read") -> str:
    return create(served.data / "tokens.json", new_guid(), role)


@pytest.fixture
def browser(served: Served) -> Browser:
    found = Browser(served.remote_port)
    assert found.log_in(token(served)).url.endswith("/page")
    return found


def delivery(served: Served, filter: str) -> str:
    items = served.ask(f"/api/v1/deliveries?filter={filter}&limit=1").json["items"]
    return str(items[0]["guid"])


# ---- logging in


def test_whoever_logs_in_is_led_to_the_page_that_was_asked_for(served: Served) -> None:
    browser = Browser(served.remote_port)
    asked = f"/page/deliveries/7/{delivery(served, 'number:7')}"
    form = browser.get(asked)
    assert form.status == 200 and "Log in" in form.text and "octo" not in form.text
    assert form.form("/page/login").method == "post", "never in an address"
    assert browser.log_in(token(served), asked).url.endswith(asked)
    assert browser.get("/page/login?next=/page/tasks").url.endswith("/page/tasks")
    assert browser.get("/").url.endswith("/page") and "READY" in browser.get("/page/").text
    (cookie,) = browser.set_cookies
    assert re.fullmatch(r"covenq_session=[\w-]{43}; HttpOnly; Path=/page; SameSite=Strict", cookie)


def test_nothing_is_shown_to_who_has_not_logged_in(served: Served) -> None:
    browser = Browser(served.remote_port)
    guid = delivery(served, "number:7")
    for path in ("/page", "/page/", "/page/deliveries", f"/page/deliveries/{guid}", "/page/tasks/", "/page/nothing"):
        for headers in ({}, {"Cookie": "covenq_session=x"}, {"Cookie": f"covenq_session={'x' * 5000}"}):
            shown = browser.ask("GET", path, None, headers)
            assert shown.status == 303 and shown.headers["location"].startswith("/page/login"), path
            assert shown.html == ""
    assert browser.ask("POST", "/page/deliveries", b"", {}).status == 303
    bearer = {"Authorization": f"Bearer {token(served)}"}
    assert browser.ask("GET", "/page", None, bearer).status == 303, "a token is for the form"


def test_a_session_is_none_to_the_api(served: Served, browser: Browser) -> None:
    cookie = {"Cookie": f"covenq_session={browser.cookies['covenq_session']}"}
    shown = browser.ask("GET", "/api/v1/status", None, cookie)
    assert shown.status == 401 and json.loads(shown.html)["error"] == "token_missing"


def test_a_token_of_another_role_or_none_is_refused_and_noted(served: Served) -> None:
    browser = Browser(served.remote_port)
    before = served.refused()
    for typed, status, said in (
        ("", 400, "Type a token"),
        ("covenq_wrong", 401, "not known, or was revoked"),
        ("x" * 300, 401, "not known, or was revoked"),
        (token(served, "operate"), 403, "take tokens of the role read alone"),
        (token(served, "worker"), 403, "take tokens of the role read alone"),
    ):
        shown = browser.log_in(typed, "/page/tasks")
        assert (shown.status, browser.cookies) == (status, {}) and said in shown.text
        assert shown.form("/page/login").fields["next"] == "/page/tasks", "another try leads there too"
        assert not typed or typed not in shown.html
    after = served.refused()
    assert after["token_wrong"] - before.get("token_wrong", 0) == 2
    assert after["role_insufficient"] - before.get("role_insufficient", 0) == 2
    noted = list(refusal_log.read(served.data))[-1]
    assert (noted.path, noted.client, noted.status) == ("/page/login", "127.0.0.1", 403)


def test_a_token_in_an_address_is_refused(served: Served, browser: Browser) -> None:
    secret = token(served)
    shown = browser.get(f"/page?token={secret}")
    assert shown.status == 400 and "ends up in logs" in shown.text
    noted = list(refusal_log.read(served.data))[-1]
    assert noted.error == "token_in_query" and secret not in repr(noted)
    assert browser.ask("GET", f"/page/login?next=/page&token={secret}", None, {}).status == 400


def test_a_form_that_another_site_sends_does_nothing(served: Served, browser: Browser) -> None:
    login = Form("post", "/page/login", {"token": token(served), "next": "/page"})
    other = Browser(served.remote_port)
    for headers in (
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "", "Origin": "https://evil.example"},
        {"Sec_Fetch_Site": "", "Origin": "null"},
    ):
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        assert other.send(login, **sent).status == 403 and other.cookies == {}
        assert browser.send(Form("post", "/page/logout"), **sent).status == 403
    assert browser.get("/page").status == 200
    own = {"Sec-Fetch-Site": "", "Origin": f"http://127.0.0.1:{served.remote_port}"}
    assert other.send(login, **own).status == 200 and other.cookies, "of a browser before Sec-Fetch-Site"


def test_a_link_in_a_ticket_leads_on_though_the_browser_sends_no_cookie_with_it(
    served: Served, browser: Browser
) -> None:
    path = f"/page/deliveries/7/{delivery(served, 'number:7')}"
    shown = browser.get(path, **{"Sec-Fetch-Site": "cross-site"})
    onward = shown.document.refresh
    assert shown.status == 200 and onward is not None and "octo" not in shown.html
    assert browser.get(onward, **{"Sec-Fetch-Site": "same-origin"}).url.endswith(path)
    assert "Log in" in Browser(served.remote_port).get(onward).text


def test_logging_out_ends_the_session_here_too(served: Served, browser: Browser) -> None:
    cookies = dict(browser.cookies)
    shown = browser.send(browser.get("/page").form("/page/logout"))
    assert shown.url.endswith("/page/login") and browser.cookies == {}
    browser.cookies = cookies
    assert "Log in" in browser.get("/page").text
    assert browser.ask("GET", "/page/logout", None, {}).status == 405


def test_a_revoked_token_ends_its_sessions(served: Served) -> None:
    path = served.data / "tokens.json"
    browser = Browser(served.remote_port)
    browser.log_in(create(path, "leaver", "read"))
    assert "READY" in browser.get("/page").text
    revoke(path, "leaver")
    assert "Log in" in browser.get("/page").text


def test_each_log_in_has_a_session_of_its_own(served: Served, browser: Browser) -> None:
    before = dict(browser.cookies)
    browser.send(Form("post", "/page/login", {"token": token(served), "next": "//evil.example"}))
    assert browser.cookies != before
    browser.cookies = before
    assert "Log in" in browser.get("/page").text, "the one before has ended"


def test_a_cookie_of_that_name_from_elsewhere_keeps_nobody_out(served: Served, browser: Browser) -> None:
    """Of another application on this host, or under its domain: with a longer path it comes first."""
    own = browser.cookies["covenq_session"]
    sent = {"Cookie": f"covenq_session=other; covenq_session={own}; covenq_session="}
    bare = Browser(served.remote_port)
    assert bare.ask("GET", "/page", None, sent).status == 200
    many = {"Cookie": "; ".join(["covenq_session=other"] * 500 + [f"covenq_session={own}"])}
    assert bare.ask("GET", "/page", None, many).status == 303, "but not all of any number are looked at"
    assert bare.ask("POST", "/page/logout", b"", {**sent, "Sec-Fetch-Site": "same-origin"}).status == 303
    assert browser.ask("GET", "/page", None, {}).status == 303, "logged out"


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b'{"token":"x"}', 400),
        ("application/x-www-form-urlencoded", b"token=" + b"x" * 9000, 400),
        ("application/x-www-form-urlencoded", b"&".join(b"a=b" for _ in range(99)), 400),
        ("application/x-www-form-urlencoded", b"token=\xff\x00%ff%00", 400),
        ("application/x-www-form-urlencoded", b"token=%ff%00%0d%0a", 401),
    ],
)
def test_odd_forms_get_a_clear_answer(served: Served, kind: str, body: bytes, status: int) -> None:
    browser = Browser(served.remote_port)
    assert browser.ask("POST", "/page/login", body, {"Content-Type": kind}).status == status


def test_the_cookie_is_secure_wherever_it_leaves_the_machine(served: Served) -> None:
    for host, tls, secure in (
        ("localhost", False, False),
        ("covenq.example.org", True, True),
        ("127.0.0.1", True, True),  # a proxy that sends its own name for the host
        ("covenq.example.org", False, True),
    ):
        browser = Browser(served.remote_port, host, tls_in_front=tls)
        browser.log_in(token(served))
        assert ("Secure" in browser.set_cookies[-1]) is secure, host
        assert bool(browser.cookies) is (tls or not secure)


def test_too_many_failed_log_ins_wait(tmp_path: Path) -> None:
    with serving(tmp_path, {"api": API}) as found:
        right, browser = token(found), Browser(found.remote_port)
        for _ in range(FAILED_MAX):
            assert browser.log_in("covenq_wrong").status == 401
        for typed in ("covenq_wrong", token(found, "operate"), "covenq_wrong"):
            shown = browser.log_in(typed)
            assert shown.status == 429 and 0 < int(shown.headers["retry-after"]) <= 60 and "Too many" in shown.text
        assert browser.cookies == {}
        counts = found.refused()
        assert (counts["token_wrong"], counts["login_limited"]) == (FAILED_MAX, 1), "the others are not noted"
        assert "READY" in browser.log_in(right).text, "nobody is kept out by what others type behind the same proxy"


# ---- where they are


def test_a_host_that_is_not_on_the_list_is_refused(served: Served) -> None:
    for host in ("evil.example", "covenq.example.org.evil.example", "10.0.0.1"):
        shown = Browser(served.remote_port, host).get("/page")
        assert shown.status == 421 and "[api] hosts" in shown.text and "Log in" not in shown.text
        assert "covenq.example.org" not in shown.text.replace(host, ""), "the names that there are"
    assert served.refused()["host_not_allowed"] == 3
    assert Browser(served.remote_port, "covenq.example.org").get("/page").status == 200
    api = Browser(served.remote_port, "evil.example").ask(
        "GET", "/api/v1/status", None, {"Authorization": f"Bearer {token(served)}"}
    )
    assert api.status == 200, "the API goes by the token"


def test_a_daemon_has_them_and_loads_what_they_need_at_the_first(make_daemon: Callable[..., Daemon]) -> None:
    port = free_port()
    daemon = make_daemon(f'[api]\nbind = "127.0.0.1:{port}"\npage = true\n', forked=False)
    browser, maps = Browser(port), Path(f"/proc/{daemon.pid}/maps")
    assert browser.ask("GET", "/healthz", None, {}).status == 200
    if find_spec("markupsafe._speedups") and maps.exists():
        assert "markupsafe" not in maps.read_text()
        assert browser.get("/page").status == 200 and "markupsafe" in maps.read_text()
    assert "READY" in browser.log_in(create(daemon.data / "tokens.json", "support", "read")).text
    assert daemon.get("/page").status == 404, "where deliveries are posted"
    daemon.wait_told("page: support logged in from 127.0.0.1")


def test_they_are_on_the_listener_of_the_api_alone(served: Served) -> None:
    for path in ("/page", "/page/login", "/"):
        assert served.request("GET", path).status == 404
        assert served.ask(path).status == 404


def test_there_are_none_unless_they_are_asked_for(tmp_path: Path) -> None:
    with serving(tmp_path, {"api": {}}) as found:
        for headers, status in (({}, 401), ({"Authorization": f"Bearer {token(found)}"}, 404)):
            plain = http.client.HTTPConnection("127.0.0.1", found.remote_port, timeout=30)
            try:
                assert ask(plain, "GET", "/page", None, headers).status == status
            finally:
                plain.close()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /page HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"get /page HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /page?" + b"x" * 300_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"POST /page/login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", 413),
    ],
)
def test_an_answer_to_what_is_no_request_for_a_page_is_kept_nowhere_either(
    served: Served, sent: bytes, status: int
) -> None:
    with socket.create_connection(("127.0.0.1", served.remote_port), timeout=30) as sock:
        sock.sendall(sent)
        with http.client.HTTPResponse(sock) as answer:
            answer.begin()
            assert (answer.status, answer.getheader("Cache-Control")) == (status, "no-store")


# ---- what is shown


def test_the_status_says_the_verdict_and_what_waits(served: Served, browser: Browser) -> None:
    shown = browser.get("/page")
    assert shown.status == 200 and "READY deliveries are accepted" in shown.text
    assert "61 tasks wait" in shown.text and "61 worker" in shown.text
    assert "/page/deliveries?filter=state%3Aqueued" in shown.document.links
    served.ask("/api/v1/pause", {"what": "repo", "name": "octo/hello", "reason": EVIL})
    try:
        paused = browser.get("/page")
        assert "60 octo/hello paused" in paused.text and "covenq resume repo octo/hello" in paused.text
        assert "<script>alert(1)</script>" in paused.text and "\\u202eevil\\u200b" in paused.text, "as text"
    finally:
        served.ask("/api/v1/resume", {"what": "repo", "name": "octo/hello"})


def test_the_status_says_what_is_wrong_the_worst_first(served: Served) -> None:
    at = "2026-11-23T02:34:56.000000Z"
    well = status_api.status(served.routes.api.status)
    ill = replace(
        well,
        ready=False,
        reasons=["The disk is full."],
        verified=Verified(at, False, 9, 3, 9, 1.0, "segment 1 is cut"),
        overdue=[Overdue("upkeep", "upkeep has not looked for 9m")],
        stuck=[Stuck("t1", "all", None, "running", at, "runs for 9h")],
        secrets=[SecretProblem("app", "it can't be read")],
        pauses=[ActivePause("route", "all", None, at, 1, "root", "a release")],
        state=replace(well.state, lag=9000, left_s=60),
    )
    view = status_view(ill, seconds_of(at) + 3600)
    assert (view.word, view.tone, view.reasons) == ("DAMAGED", "bad", ["The disk is full."])
    assert [(one.label, one.tone) for one in view.wrong] == [
        ("Damaged", "bad"), ("Overdue", "bad"), ("Stuck", "warning"), ("Unreadable", "bad"), ("Paused", "warning"),
        ("Behind", "warning"),
    ]  # fmt: skip
    assert [one.text for one in view.wrong if one.label in ("Damaged", "Paused")] == [
        "found 1h ago: segment 1 is cut, and 2 more",
        "route all, for 1h by root: a release",
    ]
    calm = status_view(replace(well, state=replace(well.state, lag=3)), 0.0)
    assert (calm.word, calm.tone, calm.wrong) == ("READY", "good", [])


def test_the_status_says_which_routes_fail(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "What is wrong" not in browser.get("/page").text
    times = RouteTimes(attempts=9, failed=9, categories={"exit": 9})
    counted = blank(Throughput, routes=[RouteMinutes("deploy", [9], 0, times)])
    monkeypatch.setattr(page_status, "per_minute", lambda conn, *, minutes, now: counted)
    assert "route deploy: 9 of 9 attempts of the last hour failed: exit ×9" in browser.get("/page").text

    def fails(*args: object, **given: object) -> Throughput:
        raise sqlite3.OperationalError("interrupted")

    monkeypatch.setattr(page_status, "per_minute", fails)
    shown = browser.get("/page")
    assert shown.status == 200 and "READY" in shown.text and "known: interrupted" in shown.text


def test_lists_are_paged_as_the_api_pages_them(served: Served, browser: Browser) -> None:
    for path in ("/page/deliveries", "/page/tasks"):
        first = browser.get(f"{path}?filter=repo:octo/hello")
        (older,) = [one for one in first.document.links if "after=" in one]
        second = browser.get(older)
        numbers = [re.findall(r"octo/hello#(\d+)", one.text) for one in (first, second)]
        assert [len(one) for one in numbers] == [50, 10]
        assert [int(one) for part in numbers for one in part] == list(range(60, 0, -1)), "newest first"
        assert not [one for one in second.document.links if "after=" in one]
        assert f"{path}?filter=repo%3Aocto%2Fhello" in second.document.links
        assert "Nothing matches." in browser.get(f"{path}?filter=repo:nobody/*").text


def test_a_screen_reader_tells_the_searches_of_a_page_apart(browser: Browser) -> None:
    for path, searches in (("/page", 1), ("/page/deliveries", 2), ("/page/tasks", 2)):
        found = browser.get(path).document.attributes
        names = {value for tag, name, value in found if (tag, name) == ("form", "aria-label")}
        assert found.count(("form", "role", "search")) == len(names) == searches


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("filter=stat:failed", "'stat' is no field (column 1) Did you mean state:?"),
        ("filter=%22", "a quote that isn't closed"),
        ("filter=state:", "state: without a value"),
        ("after=x", "'x' is no cursor"),
        ("filter=payload.issue.body:*work*", "no page looks into payloads here"),
        ("filter=-payload.issue.body:*work*", "no page looks into payloads here"),
    ],
)
def test_a_mistake_in_a_filter_is_said_beside_what_was_typed(browser: Browser, query: str, said: str) -> None:
    for path in ("/page/deliveries", "/page/tasks"):
        shown = browser.get(f"{path}?{query}")
        assert shown.status == 400 and said in shown.text
        assert shown.form(path).fields["filter"] or query.startswith("after")
        assert "octo/hello" not in shown.text.partition("How to ask")[0]


def test_a_delivery_has_its_verdict_first_at_an_address_of_its_own(served: Served, browser: Browser) -> None:
    guid = delivery(served, "number:7")
    told = served.ask(f"/api/v1/why?id={guid}").json
    for path in (f"/page/deliveries/{guid}", f"/page/deliveries/7/{guid}"):
        shown = browser.get(path)
        assert shown.status == 200
        story = told["stories"][0]
        at = [shown.text.index(part) for part in ("issues.opened", "Queued", "accepted?", "where is it now?", "UTC")]
        assert at == sorted(at)
        for answer in story["answers"].values():
            assert answer["words"] in shown.text
        assert story["verdict"]["text"] in shown.text
        assert all(event["words"] in shown.text for event in story["events"])
        assert f"/page/deliveries/7/{guid}" in shown.document.links
    ignored = browser.get(f"/page/deliveries/{delivery(served, 'event:star')}")
    assert "Ignored: no route matches" in ignored.text


def test_whatever_support_was_given_is_looked_up(served: Served, browser: Browser) -> None:
    guid = delivery(served, "number:7")
    task = served.ask(f"/api/v1/deliveries/{guid}").json["tasks"][0]
    look_up = browser.get("/page").form("/page/why")
    for asked in (guid, f"7/{guid}", task, "octo/hello#7", " https://github.com/octo/hello/issues/7#issuecomment-1 "):
        look_up.fields["id"] = asked
        assert browser.send(look_up).url.endswith(f"/page/deliveries/7/{guid}")
    look_up.fields["id"] = "octo/nothing#1"
    shown = browser.send(look_up)
    assert shown.status == 404 and "Nothing that is held is about octo/nothing#1" in shown.text
    for asked, status in (("", 400), ("!!", 400), (EVIL, 400), (new_guid(), 404), ("x" * 3000, 400)):
        look_up.fields["id"] = asked
        assert browser.send(look_up).status == status


def test_a_guid_of_several_hooks_and_an_issue_of_several_deliveries_are_lists(served: Served, browser: Browser) -> None:
    guid = new_guid()
    for hook in ("8", "9"):
        assert served.post("issues", issue(500, repo="octo/twice"), guid, hook).status == 202
    for path in (f"/page/deliveries/{guid}", "/page/why?id=octo/twice%23500"):
        links = browser.get(path).document.links
        assert {f"/page/deliveries/{hook}/{guid}" for hook in ("8", "9")} <= set(links)


def test_the_rules_are_folded_until_they_are_asked_for(served: Served, browser: Browser) -> None:
    guid = delivery(served, "number:7")
    folded = browser.get(f"/page/deliveries/7/{guid}")
    (link,) = [one for one in folded.document.links if "rules=1" in one]
    whole = browser.get(link)
    for number in range(NEAREST_MAX + 1):
        assert f"never-{number}" in whole.text and (f"never-{number}" in folded.text) is (number < NEAREST_MAX)
    assert not [one for one in whole.document.links if "rules=1" in one]


def test_what_a_payload_says_is_shown_as_text_alone(served: Served, browser: Browser) -> None:
    guid = delivery(served, "number:900")
    for path in ("/page/deliveries", "/page/tasks", f"/page/deliveries/{guid}", "/page/why?id=octo/evil%23900"):
        shown = browser.get(path)  # which holds every tag of it against the policy
        assert "<script" not in shown.html.lower() and "\x1b" not in shown.html and "\u202e" not in shown.html
    shown = browser.get(f"/page/deliveries/{guid}")
    assert "<script>alert(1)</script>\\x1b[2J\\u202eevil\\u200b\"'>" in shown.text, "and it is readable"


# ---- payloads


def test_no_page_shows_what_is_in_a_payload_unless_it_may(served: Served, browser: Browser) -> None:
    guid = delivery(served, "number:7")
    secret = "It does not work."
    assert served.ask(f"/api/v1/deliveries/{guid}/payload").body.find(secret.encode()) > 0
    for path in (f"/page/deliveries/7/{guid}", f"/page/deliveries/7/{guid}?rules=1", "/page/deliveries", "/page/tasks"):
        shown = browser.get(path)
        assert shown.status == 200 and secret not in shown.text and "/payload" not in shown.html
    assert browser.get(f"/page/deliveries/7/{guid}/payload").status == 404


def test_they_are_shown_where_the_configuration_lets_it(served_with_payloads: Served) -> None:
    served = served_with_payloads
    hostile = issue(1)
    hostile["issue"]["body"] = EVIL
    guid = served.post("issues", hostile, hook="7").json["delivery"]
    work = served.post("issues", issue(2), hook="7").json["delivery"]
    browser = Browser(served.remote_port)
    browser.log_in(token(served))
    story = browser.get(f"/page/deliveries/7/{work}")
    assert f"/page/deliveries/7/{work}/payload" in story.document.links and "It does not work." in story.text
    shown = browser.get(f"/page/deliveries/7/{guid}/payload")
    assert "<script>alert(1)</script>\\u001b[2J\\u202eevil\\u200b\\\"'>" in shown.text
    found = browser.get("/page/deliveries?filter=payload.issue.body:*work*")
    assert work in found.text and guid not in found.text
    assert browser.get(f"/page/deliveries/7/{new_guid()}/payload").status == 404


def test_what_may_repeat_a_payload_goes_with_it(served: Served) -> None:
    conn = served.storage.state.reader()
    config = served.routes.api.config
    answer = why.why(
        conn,
        served.journal,
        config.config,
        delivery(served, "number:7"),
        now=0.0,
        waiting=why.waiting(config.caps),
        refused=tuple,
        read_log=lambda *_: b"",
    )
    (story,) = answer.stories
    tasks = [replace(task, last_output=LastOutput(1, "stderr", ["SECRET"])) for task in story.tasks]
    answer.stories = [replace(story, tasks=tasks)]
    assert "SECRET" in repr(story_view(answer, 0.0, payloads=True, all_rules=True))
    assert "does not work" in repr(story_view(answer, 0.0, payloads=True, all_rules=True))
    hidden = repr(story_view(answer, 0.0, payloads=False, all_rules=True))
    assert "SECRET" not in hidden and "does not work" not in hidden
    assert "payload.issue.body:other is not so: it is not shown here" in hidden
    assert without_payload(story).delivery is story.delivery


# ---- errors


odd = st.text(max_size=20) | st.sampled_from(
    ["state:failed", "payload.a:b", "(", "-", "since:1d", "9" * 30, "%00", "7/x"]
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(
        ["", "/deliveries", "/tasks", "/why", "/deliveries/", "/deliveries/7/", "/login", "/deliveries/7/x/"]
    ),
    odd,
    st.dictionaries(st.sampled_from(["filter", "after", "id", "rules", "next", "x"]), odd, max_size=2),
)
def test_whatever_is_asked_for_is_answered_with_a_page(
    browser: Browser, path: str, segment: str, query: dict[str, str]
) -> None:
    """Each is held against the policy by the browser."""
    end = quote(segment, safe="") if path.endswith("/") else ""
    shown = browser.get(f"/page{path}{end}?{urlencode(query)}")
    assert shown.status in (200, 400, 404) and "covenq" in shown.text


def test_errors_are_pages(served: Served, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(path: str) -> Shown:
        shown = browser.get(path)
        assert "covenq" in shown.document.text
        return shown

    assert answer("/page/nothing").status == 404
    assert answer("/page/deliveries/a/b/c").status == 404
    assert answer("/page/deliveries?fliter=x").status == 400
    assert answer("/page/deliveries?filter=a&filter=b").status == 400
    assert answer("/page?x=1").status == 400
    assert answer(f"/page/deliveries/{new_guid()}").status == 404
    assert browser.ask("POST", "/page/deliveries", b"", {}).status == 405
    assert browser.ask("HEAD", "/page/deliveries", None, {}).html == ""

    def fail(*_: object) -> None:
        raise errors.pop()

    monkeypatch.setattr("covenq.operate.inspect.view.deliveries", fail)
    errors: list[Exception] = [ValueError("SECRET of a payload")]
    shown = answer("/page/deliveries")
    assert shown.status == 500 and "SECRET" not in shown.html and "its log says where" in shown.text
    errors = [TookTooLong("this takes longer than 5 s to read")]
    shown = answer("/page/deliveries?filter=a")
    assert shown.status == 503 and "Narrow the filter" in shown.text
    assert shown.form("/page/deliveries").fields["filter"] == "a", "to be narrowed"
    errors = [TooMany("several pages are being read"), sqlite3.OperationalError("disk I/O error")]
    while errors:
        shown = answer("/page/deliveries")
        assert shown.status == 503 and shown.headers["retry-after"] == "30"
