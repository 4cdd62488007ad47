"""[server] path: where deliveries are taken instead of /webhook, by both ways through the server and by every command."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import falcon
import pytest

from covenq.config.load import build
from covenq.errors import ConfigError
from covenq.http.server.deferred import PLAIN_MAX
from covenq.http.webhook import Webhook
from tests.support.daemon import Daemon
from tests.support.requests import issue, new_guid, signed
from tests.support.serving import serving

APP = "/api/github/webhooks"


def test_a_slash_at_the_end_is_the_same_address(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow: list[str] = []
    on_post = Webhook.on_post

    def noted(self: Webhook, req: falcon.Request, resp: falcon.Response) -> None:
        slow.append(req.path)
        on_post(self, req, resp)

    monkeypatch.setattr(Webhook, "on_post", noted)
    with serving(data) as served:
        body, headers = signed("issues", issue())
        assert served.request("POST", "/webhook/", body, headers).status == 202
        assert not slow, "the plain delivery takes the fast path there too"
        assert served.request("POST", "/webhook", body, headers).json["duplicate"] is True
        assert not slow, "nor is Falcon asked about the duplicate"
        large = issue(8, more="x" * PLAIN_MAX)
        body, headers = signed("issues", large)
        assert served.request("POST", "/webhook/", body, headers).status == 202
        assert slow == ["/webhook/"]
        assert served.request("GET", "/webhook/").status == 405
        for path in ("/webhook//", "/webhook/x", "/Webhook"):
            assert served.request("POST", path, body, headers).status == 404, path


def test_another_path_takes_the_place_of_webhook(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(
        f'[server]\npath = "{APP}/"\n[[route]]\nname = "all"\nmatch = "event:issues"\nrun = ["true"]\n'
    )
    status = daemon.cli_json("status")
    assert status["webhook_url"] == f"{daemon.url}{APP}"
    daemon.wait_told(f"webhook  {daemon.url}{APP}\n")
    guid = daemon.cli("send", "issues").stdout.decode().strip()
    assert daemon.cli_json("show", guid)["event"] == "issues"
    body, headers = signed("issues", issue(), new_guid())
    for path, expected in ((APP, 202), (f"{APP}/", 200), ("/webhook", 404), ("/webhook/", 404)):
        assert daemon.request("POST", path, body, headers).status == expected, path
    lost = daemon.request("POST", "/webhook", body, headers).json
    assert lost["error"] == "path_unknown" and lost["detail"].endswith(f"deliveries go to {APP}.")
    assert next(iter(daemon.get("/openapi.json").json["paths"])) == APP
    said = daemon.cli("refused").stderr.decode()
    assert "[server] path" in said
    daemon.stop()
    unanswered = daemon.cli("send", "issues", exit_code=6).stderr.decode()
    assert APP in daemon.cli("show", guid, "--curl").stdout.decode(), "also while no daemon says where it is"
    assert re.search(rf"no answer from http://127\.0\.0\.1:[0-9]+{APP}:", unanswered)
    assert {"name": "server.path", "value": APP, "source": "file", "by": str(daemon.config)} in daemon.cli_json("info")[
        "settings"
    ]


@pytest.mark.parametrize(
    "path",
    [
        *("", "webhook", "/a b", "/a?b=c", "/%41", "/a//b", "/a/../b", "/./a", "/é", "/a\n", "/" + "x" * 200, "//"),
        *(
            "/healthz",
            "/readyz/",
            "/metrics",
            "/openapi.json",
            "/api/v1",
            "/api/v1/claims",
            "/api/github/tasks",
            "/api/v1x/../v1",
            "/{a}",
        ),
    ],
)
def test_a_path_that_cannot_be_one_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.path: "):
        build({"server": {"path": path}}, None, {})


@pytest.mark.parametrize("path", ["/", "/webhook", "/a.b/c~d_e-f", "/api/v10", "/api/github/webhooks/", "/hooks/"])
def test_a_path_is_kept_without_its_last_slash(path: str) -> None:
    assert build({"server": {"path": path}}, None, {}).webhook_path == (path.rstrip("/") or "/")
