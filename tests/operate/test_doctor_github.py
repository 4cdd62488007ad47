"""`covenq doctor` on what GitHub says of the webhooks, against the stand-in over real HTTP: each drift, and GitHub away."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.filter.grammar import parse
from covenq.operate.maintain import github_look
from covenq.operate.maintain.github_look import look
from covenq.routing.wanted_events import may_match, named_events
from tests.support.daemon import Daemon
from tests.support.github_log import APP_ID, Fault, GithubLog, app_table, github
from tests.support.github_settings import Hook, Installation
from tests.support.requests import issue, signed

HOOK_PATH = "/repos/octo/hello/hooks/7"
Make = Callable[..., Daemon]
GRANTED = {"issues": "read", "metadata": "read"}


@pytest.fixture
def server() -> Iterator[GithubLog]:
    """An App that is installed once, and subscribed to what the one route wants."""
    with github("/api/v3") as found:
        found.settings.installations = [Installation(5, GRANTED)]
        yield found


def config_of(server: GithubLog, directory: Path, *, match: str = "event:issues", more: str = "") -> str:
    return f"""
{app_table(server, directory, client_id=None)}
{more}
[[route]]
name = "fix"
match = "{match}"
run = ["true"]
"""


HOOK_CONFIG = """
[[github.hook]]
id = "7"
repo = "octo/hello"
token.value = "a-token-of-seven"
"""


def with_hook(server: GithubLog, **settings: Any) -> str:
    server.tokens[f"{HOOK_PATH}/deliveries"] = "a-token-of-seven"
    server.settings.hooks[HOOK_PATH] = Hook(**settings)
    return HOOK_CONFIG


@pytest.fixture
def doctor(make_daemon: Make, server: GithubLog, tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """Run it without a daemon, on an empty directory, and give the findings that are about GitHub, and its clock."""

    def run(**config: str) -> list[dict[str, Any]]:
        daemon = make_daemon(config_of(server, tmp_path, **config), start=False)
        daemon.data.mkdir(mode=0o700, exist_ok=True)
        assert daemon.config is not None
        daemon.config.chmod(0o600)
        said = daemon.cli("doctor", "--json", exit_code=1)
        found: list[dict[str, Any]] = json.loads(said.stdout)["findings"]
        problems = [one["words"] for one in found if one["level"] == "problem"]
        assert problems == ["none is running: nothing is received"], "nothing that GitHub says, or doesn't, is one"
        assert b"a-token-of-seven" not in said.stdout + said.stderr and b"eyJ" not in said.stdout + said.stderr
        return [one for one in found if one["check"] == "github" or "GitHub" in one["words"]]

    return run


Doctor = Callable[..., list[dict[str, Any]]]


def warned(found: list[dict[str, Any]]) -> list[str]:
    assert all(one["next"] for one in found if one["level"] != "ok")
    return [one["words"] for one in found if one["level"] != "ok"]


def told(found: list[dict[str, Any]]) -> str:
    return "\n".join(one["words"] for one in found)


def test_where_nothing_drifted_it_says_what_is_and_from_where_webhooks_come(server: GithubLog, doctor: Doctor) -> None:
    found = doctor(more=with_hook(server))
    assert not warned(found)
    assert f"app {APP_ID}: 1 event, delivered to https://hooks.example.org/webhook" in told(found)
    assert "hook 7 of octo/hello: 1 event" in told(found)
    assert "webhooks are sent from 192.30.252.0/22, 2a0a:a440::/29: for a proxy's allow-list" in told(found)
    assert [one.partition("/api/v3")[2] for one in server.asked] == [
        "/app", "/app/hook/config", "/app/installations?per_page=100&page=1", "/app/hook/deliveries?per_page=100",
        HOOK_PATH, f"{HOOK_PATH}/deliveries?per_page=100", "/meta",
    ]  # fmt: skip
    assert "authorization" not in server.seen_headers[-1]  # what everybody is told, is asked for as anybody


def test_without_anything_of_github_s_configured_nothing_is_asked(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    daemon = make_daemon('[[route]]\nname = "a"\nmatch = "event:push"\nrun = ["true"]\n', start=False)
    daemon.data.mkdir(mode=0o700)
    found = daemon.cli_json("doctor", exit_code=1)["findings"]
    assert "github" not in {one["check"] for one in found} and not server.asked


# ---- deliveries out of the log alone


LOG_ALONE = "[github]\ningress = 'log'\n"


def test_where_the_log_alone_is_read_any_host_that_may_be_somebody_s_is_a_warning(
    server: GithubLog, doctor: Doctor
) -> None:
    server.settings.app.url = "https://hooks.example.org/webhook"
    (words,) = warned(doctor(more=LOG_ALONE))
    assert "hooks.example.org/webhook: whoever is there gets what is to be taken from the log alone" in words
    server.settings.app.url = "http://Covenq.INVALID/webhook"
    assert not warned(doctor(more=LOG_ALONE))
    server.settings.app.url = "https://covenq.invalid.example.org/webhook"
    assert len(warned(doctor(more=LOG_ALONE))) == 1


def test_where_the_log_alone_is_read_a_hook_that_is_not_active_is_a_warning_and_a_401_is_none(
    server: GithubLog, doctor: Doctor
) -> None:
    server.settings.app.url = "https://covenq.invalid/webhook"
    server.add(status_code=401)
    (words, other) = warned(doctor(more=LOG_ALONE + with_hook(server, active=False)))
    assert "is not active: GitHub notes nothing in its log" in words and "hooks.example.org" in other


# ---- events


def test_an_event_that_a_route_wants_and_that_is_not_subscribed_to_is_a_warning(
    server: GithubLog, doctor: Doctor
) -> None:
    server.settings.app.events = ["issues", "push", "fork"]
    found = doctor(match="event:issues,release,installation,push -event:push")
    assert warned(found) == ["routes want release, and no webhook that is configured here is subscribed to it"]
    assert f"app {APP_ID} is subscribed to fork, push, which no route wants: kept, and ignored" in told(found)


@pytest.mark.parametrize("events", [["release"], ["*"]])
def test_what_any_webhook_is_subscribed_to_comes(server: GithubLog, doctor: Doctor, events: list[str]) -> None:
    assert not warned(doctor(match="event:issues,release", more=with_hook(server, events=events)))


def test_what_came_lately_has_a_webhook_that_is_not_configured_here(
    make_daemon: Make, server: GithubLog, tmp_path: Path
) -> None:
    daemon = make_daemon(config_of(server, tmp_path, match="event:release,deployment"))
    body, headers = signed("release", issue(1))
    assert daemon.request("POST", "/webhook", body, headers).status == 202
    assert warned([one for one in daemon.cli_json("doctor")["findings"] if one["check"] == "github"]) == [
        "routes want deployment, and no webhook that is configured here is subscribed to it"
    ]


def test_of_a_webhook_that_told_nothing_no_subscription_is_missed(server: GithubLog, doctor: Doctor) -> None:
    server.faults.append(Fault(404, on=HOOK_PATH))
    found = doctor(match="event:release", more=with_hook(server))
    assert len(warned(found)) == 1 and "(404)" in warned(found)[0] and "hook 7" in warned(found)[0]


@pytest.mark.parametrize(
    ("text", "named", "matches", "doesnt"),
    [
        ("event:issues,push label:x", {"issues", "push"}, "push", "fork"),
        ("event:issues,push -event:push", {"issues"}, "issues", "push"),
        ("event:issue*", set(), "issue_comment", "push"),
        ("-event:push", set(), "issues", "push"),
        ("event:issues,push event:push,fork", {"push"}, "push", "issues"),
        ("label:x", set(), "anything", None),
    ],
)
def test_what_filters_want(text: str, named: set[str], matches: str, doesnt: str | None) -> None:
    filter = parse([text])
    assert named_events([filter]) == named
    assert may_match(filter, matches) and (doesnt is None or not may_match(filter, doesnt))


# ---- the address


def test_an_address_in_clear_and_certificates_that_are_not_verified_are_warnings(
    server: GithubLog, doctor: Doctor
) -> None:
    server.settings.app.url = "http://hooks.example.org/webhook"
    found = warned(doctor(more=with_hook(server, insecure_ssl="1")))
    assert [one.partition(" delivers to ")[2] for one in found] == [
        "http://hooks.example.org/webhook: what it sends crosses the network in clear",
        "https://hooks.example.org/webhook without a look at its certificate",
    ]


def test_a_form_is_as_good_as_json(server: GithubLog, doctor: Doctor) -> None:
    server.settings.app.content_type = "form"
    assert not warned(doctor())


def test_a_hook_that_is_not_active_is_a_warning(server: GithubLog, doctor: Doctor) -> None:
    assert warned(doctor(more=with_hook(server, active=False))) == [
        "hook 7 of octo/hello is not active: GitHub delivers nothing"
    ]


@pytest.mark.parametrize(
    ("url", "fits"),
    [
        ("https://hooks.example.org/webhook", True),
        ("https://HOOKS.example.org:443/webhook/?from=github", True),
        ("https://hooks.example.org/", False),
        ("https://other.example.org/webhook", False),
        ("https://hooks.example.org:8443/webhook", False),
        ("https://hooks.example.org:99999/webhook", False),
    ],
)
def test_another_address_than_the_public_one_is_a_warning(
    server: GithubLog, doctor: Doctor, url: str, fits: bool
) -> None:
    server.settings.app.url = url
    found = warned(doctor(more='[server]\npublic_url = "https://hooks.example.org"'))
    ours = "https://hooks.example.org/webhook"
    assert found == (
        [] if fits else [f"app {APP_ID} delivers to {url}, and [server] public_url with the webhook's path is {ours}"]
    )


# ---- installations


def test_suspended_installations_and_those_that_lack_permissions_are_warnings(
    server: GithubLog, doctor: Doctor
) -> None:
    server.settings.permissions = {"issues": "write", "checks": "read"}
    server.settings.installations = [
        Installation(1, {"issues": "write", "checks": "read"}, suspended_at="2026-11-20T10:00:00Z", account="acme"),
        Installation(2, {"issues": "read"}, account="octo"),
        Installation(3, {"issues": "write", "checks": "write"}, account="fine"),
    ]
    found = doctor()
    assert warned(found) == [
        "the installation of acme is suspended since 2026-11-20T10:00:00Z: nothing comes of it",
        "the installation of octo lacks permissions that the App asks for: checks (read), issues (write)",
    ]
    assert any("organizations/octo/settings/installations/2" in (one["next"] or "") for one in found)


def test_an_app_that_is_installed_nowhere_is_a_warning(server: GithubLog, doctor: Doctor) -> None:
    server.settings.installations = []
    (words,) = warned(doctor())
    assert "is installed nowhere" in words


def test_of_many_installations_few_have_a_finding_and_few_requests_are_made(server: GithubLog, doctor: Doctor) -> None:
    server.settings.installations = [Installation(n, {}, account=f"a{n}") for n in range(450)]
    found = warned(doctor())
    assert len(found) == 6 and found[5] == f"295 more findings of installations of app {APP_ID}"
    assert len(server.requests("/app/installations")) == 3


# ---- the log, the clock


def test_401s_are_a_warning_until_a_delivery_is_accepted_again(server: GithubLog, doctor: Doctor) -> None:
    now = time.time()
    server.add(at=now - 900, status_code=202)
    for ago in (600, 500):
        server.add(at=now - ago, status_code=401)
    server.add(at=now - 400, status_code=0)
    (words,) = warned(doctor())
    assert "2 of the newest 4 deliveries were answered 401" in words and "its secret is not valid here" in words
    server.add(at=now - 300, status_code=202)
    assert not warned(doctor())


def test_a_clock_that_is_wrong_is_a_warning_though_nothing_else_can_be_had(server: GithubLog, doctor: Doctor) -> None:
    server.clock = lambda: time.time() - 300
    found = doctor()
    assert any("GitHub's is -" in words and "seconds from this machine's" in words for words in warned(found))


# ---- GitHub away, limited, or unlike itself


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(500), "answered 500, 1 time"),
        (
            Fault(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(time.time()) + 900)}),
            "takes no more requests until",
        ),
        (Fault(429, {"Retry-After": "600"}), "takes no more requests until"),
        (Fault(401), "did not take the credentials"),
        (Fault(200, body=b"[]"), "is not as documented"),
        (Fault(200, body=b"{"), "is not as documented"),
        (Fault(truncated=True), "broke off its answer"),
    ],
    ids=["500", "limited", "secondary", "401", "another shape", "no JSON", "cut"],
)
def test_what_github_does_not_tell_is_one_finding(server: GithubLog, doctor: Doctor, fault: Fault, words: str) -> None:
    server.faults.append(fault)
    found = warned(doctor())
    assert len(found) == 1 and found[0].startswith(f"app {APP_ID}: not all could be asked: ") and words in found[0]
    assert len(server.asked) == 1  # and nothing is asked again


def test_of_several_webhooks_one_reason_is_one_finding(server: GithubLog, doctor: Doctor) -> None:
    more = with_hook(server)
    server.server_close()
    (words,) = warned(doctor(more=more))
    assert words.startswith(f"app {APP_ID} and 1 other: not all could be asked: 127.0.0.1 takes no connection")


def test_what_was_told_before_github_fell_silent_counts(server: GithubLog, doctor: Doctor) -> None:
    server.settings.app.url = "http://hooks.example.org/webhook"
    server.faults.append(Fault(500, on="/app/installations"))
    found = warned(doctor())
    assert len(found) == 2 and any("crosses the network in clear" in words for words in found)


def test_networks_that_can_not_be_had_are_no_warning(server: GithubLog, doctor: Doctor) -> None:
    server.faults.append(Fault(403, on="/meta"))
    found = doctor()
    assert not warned(found) and "the networks that GitHub sends from could not be had" in told(found)


def test_after_its_time_nothing_more_is_asked(server: GithubLog, tmp_path: Path) -> None:
    from covenq.config.load import load

    path = tmp_path / "covenq.toml"
    path.write_text(config_of(server, tmp_path, more=with_hook(server)))
    now = [0.0]

    def monotonic() -> float:
        now[0] += github_look.WHOLE_S / 2.5
        return now[0]

    seen = look(load(path, {}).github_logs, {}, monotonic=monotonic)
    assert [one.error is not None and "nothing more was asked" in one.error for one in seen.webhooks] == [True, True]
    assert len(server.asked) == 2 and not seen.ranges


def test_what_is_authorised_by_a_secret_that_can_not_be_read_is_not_asked_for(
    server: GithubLog, doctor: Doctor, tmp_path: Path
) -> None:
    found = doctor(match="event:release", more=with_hook(server).replace('value = "a-token-of-seven"', 'env = "NONE"'))
    assert not warned(found) and "not asked about: 1 webhook of the configuration" in told(found)
    assert not server.requests(HOOK_PATH)


def test_hostile_words_of_github_s_are_shown_as_words(server: GithubLog, doctor: Doctor, tmp_path: Path) -> None:
    server.settings.installations = [Installation(1, GRANTED, suspended_at="\x1b[2J", account="a\nb" + "x" * 5000)]
    (words,) = warned(doctor())
    assert "\x1b" not in words and "\n" not in words and len(words) < 600
