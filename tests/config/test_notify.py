"""[notify]: who is told, from which thresholds on, and what is refused, with its place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from covenq.config.effective import effective_paths, effective_settings
from covenq.config.load import Config, load
from covenq.config.notify import KINDS, FailureShare, Notify
from covenq.config.secret_source import SecretSource
from covenq.errors import ConfigError

RUN = "[notify]\nrun = ['mail']\n"
URL = "[notify]\nurl = 'https://chat.example.org/T0KEN?x=1'\nsecret = { file = 'key' }\n"


@pytest.fixture
def read(write_config: Callable[[str], Path]) -> Callable[[str], Config]:
    return lambda text: load(write_config(text), {})


def test_nobody_is_told_unless_it_is_said_who(read: Callable[[str], Config], tmp_path: Path) -> None:
    assert read("").notify is None
    assert read(RUN).notify == Notify(run=("mail",)) and read(RUN).notify.targets == ("run",)  # type: ignore[union-attr]
    found = read(URL + "run = ['a', 'b']\n").notify
    assert found is not None and found.targets == ("run", "url") and found.on == KINDS
    assert found.secret == SecretSource("notify", file=tmp_path / "key")


def test_all_of_it(read: Callable[[str], Config]) -> None:
    text = (
        "on = ['disk', 'intake']\ntimeout = '5s'\ndebounce = '0s'\nwaiting = '1h'\ndisk = '5GiB'\n"
        "failures = { share = '20%', least = 50, within = '1h' }\n"
    )
    assert read(RUN + text).notify == Notify(
        ("mail",), None, None, ("intake", "disk"), 5.0, 0.0, FailureShare(0.2, 50, 3600.0), 3600.0, 5 << 30
    )
    assert read(f"{RUN}failures = {{ least = 1 }}\n").notify.failures == FailureShare(0.5, 1, 1800.0)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[notify]\n", "notify .line 1, column 1.: tells nobody"),
        ("[[notify]]\nrun = ['a']\n", "notify: is one section, not several"),
        ("notify = 1\n", "must be a table"),
        (f"{RUN}mail = 'a'\n", "notify.mail .line 3, column 1.: unknown key"),
        ("[notify]\nrun = []\n", "notify.run .line 2"),
        ("[notify]\nrun = 'mail -s'\n", "must be a list of texts"),
        ("[notify]\nrun = ['mail', '{text}']\n", "stands for nothing here"),
        ("[notify]\nrun = ['mail', '{guid}']\n", "comes from the request"),
        ("[notify]\nurl = 'https://a.example'\n", "notify.secret: is missing|notify.secret .*is missing"),
        (f"{RUN}secret = {{ env = 'A' }}\n", "there is no url"),
        (URL.replace("https", "http"), "notify.url .line 2, column 1.: is not https, and leads to another machine"),
        (URL.replace("chat.", "u:p@chat."), "a password in an address"),
        (URL.replace("{ file = 'key' }", "{ file = 'key', env = 'A' }"), "needs exactly one of file, env, credential"),
        (f"{RUN}on = []\n", "notify.on .line 3, column 1.: is empty"),
        (f"{RUN}on = ['intak']\n", "is none of intake, .*: did you mean intake"),
        (f"{RUN}timeout = '0s'\n", "must be longer than nothing"),
        (f"{RUN}timeout = '10m'\n", "must be 300 s at most"),
        (f"{RUN}debounce = '2h'\n", "must be 1h at most"),
        (f"{RUN}waiting = '0s'\n", "must be longer than nothing"),
        (f"{RUN}disk = '10%'\n", "is no size"),
        (f"{RUN}failures = '50%'\n", "must be a table"),
        (f"{RUN}failures = {{ share = '0%' }}\n", "is no share"),
        (f"{RUN}failures = {{ share = 'half' }}\n", "is no share"),
        (f"{RUN}failures = {{ least = 0 }}\n", "must be between 1 and 1000"),
        (f"{RUN}failures = {{ within = '2d' }}\n", "must be 86400 s at most"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place(read: Callable[[str], Config], text: str, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        read(text)


def test_an_address_on_this_machine_needs_no_tls(read: Callable[[str], Config]) -> None:
    for host in ("127.0.0.1:9", "[::1]:9", "localhost"):
        assert read(f"[notify]\nurl = 'http://{host}/x'\nsecret = {{ env = 'A' }}\n").notify is not None


def test_neither_the_secret_nor_the_path_of_an_address_is_shown(read: Callable[[str], Config], tmp_path: Path) -> None:
    config = read(URL)
    settings = {one["name"]: one["value"] for one in effective_settings(config, tmp_path, {})}
    assert settings["notify.url"] == "https://chat.example.org/…"
    assert settings["notify.secret"] == {"name": "notify", "from": "file", "where": str(tmp_path / "key")}
    assert settings["notify.failures"] == {"share": "50%", "least": 5, "within": 1800.0}
    paths = {one["name"]: one["path"] for one in effective_paths(config, tmp_path, {})}
    assert paths["secret of notices"] == str(tmp_path / "key") and paths["notices"] == str(tmp_path / "notices.json")
    assert {one["name"]: one["value"] for one in effective_settings(read(""), tmp_path, {})}["notify.url"] is None
