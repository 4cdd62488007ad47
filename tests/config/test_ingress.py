"""[github] ingress: what it asks of the rest of the configuration, and what overrides it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from covenq.config.ingress import is_undeliverable
from covenq.config.load import Config, load
from covenq.errors import ConfigError

APP = "[github.app]\nid = 1\nprivate_key_file = 'app.pem'\n"
LOG = "[github]\ningress = 'log'\n"


@pytest.fixture
def read(write_config: Callable[[str], Path]) -> Callable[..., Config]:
    return lambda text, **env: load(write_config(text), env)


def test_deliveries_are_posted_unless_it_is_said_otherwise(read: Callable[..., Config]) -> None:
    found = read(APP)
    assert not found.follows_log and (found.reconcile.every_s, found.reconcile.grace_s) == (300, 300)
    found = read(LOG + APP)
    assert found.follows_log and (found.reconcile.every_s, found.reconcile.grace_s) == (60, 0)
    found = read(LOG + APP + "[reconcile]\nevery = '10m'\ngrace = '5m'\n")
    assert (found.reconcile.every_s, found.reconcile.grace_s) == (600, 0)
    assert read(f"{LOG}{APP}[reconcile]\nevery = '1d'\n").reconcile.every_s == 86_400
    assert read(f"{APP}[reconcile]\nevery = '2d'\n").reconcile.every_s == 2 * 86_400


def test_the_environment_wins(read: Callable[..., Config]) -> None:
    assert read(APP, COVENQ_INGRESS="log").follows_log
    assert not read(LOG, COVENQ_INGRESS="webhook").follows_log
    assert read(LOG + APP, COVENQ_INGRESS="").follows_log
    with pytest.raises(ConfigError, match="COVENQ_INGRESS: 'mail' is none of webhook, log"):
        read(APP, COVENQ_INGRESS="mail")


def test_listening_with_a_webhooks_configuration_passes_over_what_fits_no_log(read: Callable[..., Config]) -> None:
    for every, expected in (("0s", 60), ("2d", 60), ("10m", 600)):
        text = f"{APP}[reconcile]\nmode = 'redeliver'\nevery = '{every}'\ngrace = '1m'\n"
        found = read(text, COVENQ_INGRESS="log").reconcile
        assert (found.redelivers, found.every_s, found.grace_s) == (False, expected, 0)
        assert read(text).reconcile.redelivers
    for wrong in ("grace = 'soon'", "mode = 'x'", "every = '10ms'", "patience = '2d'"):
        for more in ("", LOG):
            with pytest.raises(ConfigError, match=f"reconcile.{wrong.partition(' ')[0]}"):
                read(f"{more}{APP}[reconcile]\n{wrong}\n", COVENQ_INGRESS="log")


def test_a_log_has_to_be_there_to_be_followed(read: Callable[..., Config], write_config: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match="needs a delivery log") as told:
        read(LOG)
    assert "covenq init --github-app --ingress log" in told.value.hint
    with pytest.raises(ConfigError, match="needs a delivery log"):
        load(None, {"COVENQ_INGRESS": "log"})
    assert load(write_config(LOG), {}, complete=False).follows_log
    hook = "[[github.hook]]\nid = 7\nrepo = 'o/r'\ntoken = { env = 'T' }\n"
    assert read(LOG + hook).follows_log


@pytest.mark.parametrize(
    ("reconcile", "said"),
    [
        ("every = '0s'", "must be longer than nothing"),
        ("mode = 'redeliver'", "mode"),
        ("every = '10ms'", "1s or longer"),
        ("every = '1441m'", "1d at most"),
    ],
)
def test_what_would_have_nothing_come_is_refused(read: Callable[..., Config], reconcile: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(f"{LOG}{APP}[reconcile]\n{reconcile}\n")
    with pytest.raises(ConfigError, match="ingress"):
        read("[github]\ningress = 'mail'\n")


def test_no_port_is_taken_from_another_section_by_an_address_that_isn_t_listened_on(
    read: Callable[..., Config],
) -> None:
    api = "[api]\nbind = '127.0.0.1:8787'\n"
    assert read(LOG + APP + api).api_bind == "127.0.0.1:8787"
    with pytest.raises(ConfigError, match="share a port"):
        read(APP + api)


def test_nobody_is_ever_at_a_name_under_invalid() -> None:
    assert is_undeliverable("covenq.invalid") and is_undeliverable("A.INVALID.")
    for host in ("invalid", "covenq.invalid.example.org", "example.org", ""):
        assert not is_undeliverable(host)
