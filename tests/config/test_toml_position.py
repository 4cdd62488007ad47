"""Where in its file a configuration is wrong: line and column, whatever stands around it."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.config.load import load
from covenq.config.toml_position import Step, locate
from covenq.errors import ConfigError

TEXT = '''# a comment with [route] in it
top = 1
"quoted key" = 2
a.dotted = 3

[server]  # of [[route]]
bind = "127.0.0.1:8787"
  threads = 4

[github]
webhook_secrets = [
  { name = "app", file = "a" },
  # name = "none"
  { name = "old", value = "bind = 1", hooks = ["7"] },
]
note = """
[worker]
concurrency = 9
"""

[worker]
concurrency = 2

[[route]]
name = "one"
retry = { max = 1, backoff = "2s" }

[[route]]
name = "two"
  [route.retry]
  max = 2
'''


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("top",), (2, 1)),
        (("quoted key",), (3, 1)),
        (("a", "dotted"), (4, 3)),
        (("server",), (6, 1)),
        (("server", "bind"), (7, 1)),
        (("server", "threads"), (8, 3)),
        (("server", "none"), (6, 1)),
        (("github", "webhook_secrets"), (11, 1)),
        (("github", "webhook_secrets", 0, "name"), (12, 5)),
        (("github", "webhook_secrets", 1, "hooks"), (14, 39)),
        (("github", "webhook_secrets", 7), (11, 1)),
        (("worker", "concurrency"), (22, 1)),
        (("route", 0), (24, 1)),
        (("route", 0, "retry", "max"), (26, 11)),
        (("route", 1, "name"), (29, 1)),
        (("route", 1, "retry"), (30, 3)),
        (("route", 1, "retry", "max"), (31, 3)),
        (("route", 1, "match"), (28, 1)),
        (("none",), None),
    ],
)
def test_what_a_path_leads_to(path: tuple[Step, ...], place: tuple[int, int] | None) -> None:
    found = locate(TEXT, path)
    if path == ("github", "webhook_secrets", 0, "name"):  # a comment names it too: then the list is told, not a guess
        assert found == (11, 1)
    else:
        assert found == place


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\nbind = '127.0.0.1:1'\nthreads = 0\n", "server.threads (line 3, column 1): must be between"),
        ("\n[sever]\n", "sever (line 2, column 1): unknown key: did you mean server?"),
        ("[[route]]\nname = 'a'\nmatch = 'evnt:push'\nrun = ['x']\n", "route 'a'.match (line 3, column 1): "),
        (
            "[github]\nwebhook_secrets = [\n {name = 'a', flie = 'A'}]\n",
            "secrets 1.flie (line 3, column 15): unknown key",
        ),
        ("[github]\nhooks = [\n", "(at line 3, column 1, the end of the file)"),
        ("[github]\nhooks = 7 8\n", "(at line 2, column 11)"),
    ],
)
def test_a_refusal_says_where(write_config: Callable[[str], Path], text: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(write_config(text), {})
    assert said in str(raised.value)


def test_line_ends_of_windows_change_no_place() -> None:
    for path in (("github", "webhook_secrets"), ("github", "webhook_secrets", 1, "hooks"), ("worker", "concurrency")):
        assert locate(TEXT.replace("\n", "\r\n"), path) == locate(TEXT, path) is not None


@given(
    st.text(alphabet="ab[]=\"'\n{},#. 1\\", max_size=60),
    st.lists(st.sampled_from(["a", "b", 0]), min_size=1, max_size=3),
)
def test_no_text_makes_it_fail(text: str, path: list[Step]) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    found = locate(text, path)
    assert found is None or (1 <= found[0] <= text.count("\n") + 1 and found[1] >= 1)
