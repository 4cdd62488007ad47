"""Where /metrics is answered: not where the world posts deliveries, unless that is asked for; and on an address of its own."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from covenq.config.load import build
from covenq.errors import ConfigError
from tests.support.daemon import Daemon, free_port
from tests.support.requests import Answer, ask


def get(port: int, path: str, headers: dict[str, str] | None = None, method: str = "GET") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        return ask(connection, method, path, None, headers)
    finally:
        connection.close()


def test_metrics_are_not_where_the_world_posts_deliveries(make_daemon: Callable[..., Daemon]) -> None:
    port = free_port()
    daemon = make_daemon(f'[metrics]\nbind = "127.0.0.1:{port}"\n[api]\nbind = "127.0.0.1:0"\n')
    for path in ("/metrics", "/metrics/"):
        for headers in ({}, {"X-Forwarded-For": "192.0.2.7"}):
            answer = get(daemon.port, path, headers)
            assert (answer.status, answer.json["error"]) == (404, "path_unknown")
            assert b"covenq_ready" not in answer.body
    assert "[server] metrics" in get(daemon.port, "/metrics").json["detail"]
    assert get(daemon.port, "/metrics", method="HEAD").status == 404
    assert b"covenq_ready 1.0" in daemon.api("/metrics").body
    own = get(port, "/metrics")
    assert own.status == 200 and b'covenq_http_connections{listener="metrics"}' in own.body
    assert get(port, "/readyz").status == 200
    for path in ("/webhook", "/api/v1/status", "/"):
        assert get(port, path, method="POST").status == 404, "nothing else is on it"
    assert get(port, "/api/v1/status").status == 404
    daemon.wait_told(f"metrics  http://127.0.0.1:{port}/metrics\n")


def test_the_old_place_is_a_setting(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon("[server]\nmetrics = true\n")
    assert b"covenq_ready 1.0" in daemon.get("/metrics").body
    assert daemon.config is not None
    settings = {one["name"]: one["value"] for one in daemon.cli_json("info")["settings"]}
    assert (settings["server.metrics"], settings["metrics.bind"]) == (True, None)


def test_a_taken_port_is_named_with_its_setting(make_daemon: Callable[..., Daemon]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon = make_daemon(f'[metrics]\nbind = "127.0.0.1:{taken.getsockname()[1]}"\n', start=False)
        said = daemon.start(wait=False).wait_exit(60)
    assert said == 4 and "[metrics] bind" in daemon.log_tail()


def test_the_settings() -> None:
    assert build({}, None, {}).metrics_bind is None
    assert build({"metrics": {}}, None, {}).metrics_bind == "127.0.0.1:8789"
    for raw, place in (
        ({"server": {"metrics": "yes"}}, "server.metrics: must be true or false"),
        ({"metrics": {"bind": "x"}}, "metrics.bind: 'x' is no address"),
    ):
        with pytest.raises(ConfigError, match=place):
            build(raw, None, {})


def test_the_pages_say_where(tmp_path: Path) -> None:
    from tests.support.checkout import ROOT

    page = (ROOT / "man" / "covenq-http.7").read_text()
    section = page.partition(".SH GET /metrics")[2].partition(".SH ")[0]
    for place in ("[api]", "[metrics] bind", "[server] metrics", "covenq.sock"):
        assert place in section.replace("\\fB", "").replace("\\fI", "").replace("\\fR", ""), place
