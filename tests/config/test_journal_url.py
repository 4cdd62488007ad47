"""A password in the URL of the journal's database is found, and never shown, whatever characters it has."""

from __future__ import annotations

import pytest

from covenq.cli.postgres_setup import checked, role_of
from covenq.config.journal import JournalSettings, has_password, shown_url
from covenq.errors import UsageError

SECRETS = (
    "hunter2",
    "hun#ter2",
    "hun?ter2",
    "hun/ter2",
    "hun@ter2",
    "hun:ter2",
    "#hunter2",
    "hun?password=ter2",
    "hun[ter2",
    "h%40ter2",
)


@pytest.mark.parametrize("secret", SECRETS)
def test_a_password_is_found_and_not_shown(secret: str) -> None:
    for url in (f"postgresql://ann:{secret}@db.example.org/covenq", f"postgresql://ann:{secret}@[::1]:5432/covenq"):
        assert has_password(url)
        shown = shown_url(JournalSettings(url)) or ""
        assert "ter2" not in shown and "hun" not in shown and shown.startswith("postgresql://ann@")
        with pytest.raises(UsageError, match=r"has a password in it|that is no URL"):
            checked(url, {})


@pytest.mark.parametrize("query", ["password=hunter2", "sslpassword=hunter2", "host=/run&password=hunter2"])
def test_a_password_of_the_query_too(query: str) -> None:
    url = f"postgresql://ann@db/covenq?{query}"
    assert has_password(url) and "hunter2" not in (shown_url(JournalSettings(url)) or "")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann@db/covenq", "postgresql://ann@db/covenq"),
        ("postgres://db:5433/covenq", "postgresql://db:5433/covenq"),
        ("postgresql://ann@a:1,b:2/covenq?target_session_attrs=read-write", "postgresql://ann@a:1,b:2/covenq"),
        ("postgresql://ann@/covenq?host=/run/postgresql&port=5432", "postgresql://ann@/covenq?host=/run/postgresql"),
        ("postgresql://db:secret/covenq", "postgresql://…"),
    ],
)
def test_what_is_shown_else(url: str, shown: str) -> None:
    assert shown_url(JournalSettings(url)) == shown and not has_password(url)


@pytest.mark.parametrize(
    ("url", "role"),
    [
        ("postgresql://user@db/covenq", '"user"'),
        ("postgresql://my%20role@db/covenq", '"my role"'),
        ("postgresql://a%22b@db/covenq", '"a""b"'),
        ("postgresql://db/covenq?user=ann", '"ann"'),
        ("postgresql://db/covenq", '"covenq"'),
    ],
)
def test_the_role_is_named_as_an_identifier(url: str, role: str) -> None:
    assert role_of(url) == role
