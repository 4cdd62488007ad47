"""The client of GitHub's API, against the stand-in over real HTTP: credentials, limits, faults, and where a secret never goes."""

from __future__ import annotations

import json
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from covenq.config.github_api import is_github_com
from covenq.errors import ConfigError, CovenqError, GithubLimited, GithubRefused, OutgoingFailed, UsageError
from covenq.github import app_auth
from covenq.github.api_client import API_VERSION, GithubApi, Pacing, Usage, no_pacing, pacing_towards
from covenq.github.app_auth import AppAuth, TokenAuth
from covenq.net.outgoing import OutgoingClient, proxy_for, proxy_parts
from tests.support.certificates import server_tls
from tests.support.github_log import CLIENT_ID, Fault, GithubLog, github, new_key
from tests.support.proxy import Proxy, proxying

LOG = "/app/hook/deliveries"


@pytest.fixture
def server() -> Iterator[GithubLog]:
    with github("/api/v3") as found:
        yield found


def api_of(
    server: GithubLog,
    *,
    auth: Any = None,
    pacing: Pacing | None = None,
    clock: Callable[[], float] = time.time,
    base: str | None = None,
    usage: Usage | None = None,
) -> GithubApi:
    client = OutgoingClient(base or server.url, {}, silence_s=5.0)
    return GithubApi(
        client, auth or AppAuth(CLIENT_ID, [server.private_key], clock), pacing or no_pacing(), clock, usage
    )


def get(api: GithubApi, **more: Any) -> Any:
    return json.loads(api.get(LOG, {"per_page": "100"}, body_max=1 << 20, **more).body)


# ---- authentication


def test_a_jwt_is_a_minute_back_and_nine_minutes_long_and_is_renewed_in_time() -> None:
    pem, public = new_key()
    now = [1_800_000_000.0]
    auth = AppAuth("Iv1.a", [pem], lambda: now[0])
    token = auth.header().removeprefix("Bearer ")
    claims = jwt.decode(token, public, algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False})
    assert claims == {"iat": 1_800_000_000 - 60, "exp": 1_800_000_000 + 540, "iss": "Iv1.a"}
    now[0] += 300
    assert auth.header() == f"Bearer {token}"
    now[0] += 200
    assert auth.header() != f"Bearer {token}"
    now[0] -= 1000  # a clock that was set back: GitHub would refuse what seems to come from its future
    claims = jwt.decode(
        auth.header()[7:], public, algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False}
    )
    assert claims["iat"] == 1_800_000_500 - 1000 - 60


def test_a_change_is_asked_for_once_and_of_two_keys_by_the_one_that_github_takes(server: GithubLog) -> None:
    api = api_of(server, auth=AppAuth(CLIENT_ID, [new_key()[0], server.private_key], time.time))
    assert json.loads(api.patch("/app/hook/config", b'{"secret":"a new one"}', body_max=1 << 20).body)["url"]
    assert server.settings.app.secrets == ["a new one"] and len(server.asked) == 2
    assert server.seen_headers[-1]["content-type"] == "application/json"
    server.faults.append(Fault(503))
    with pytest.raises(OutgoingFailed):
        api.patch("/app/hook/config", b'{"secret":"another"}', body_max=1 << 20)
    assert server.settings.app.secrets == ["a new one"] and len(server.asked) == 3


def test_of_two_keys_the_one_that_github_takes_is_found(server: GithubLog) -> None:
    api = api_of(server, auth=AppAuth(CLIENT_ID, [new_key()[0], server.private_key], time.time))
    assert get(api) == []
    assert len(server.asked) == 2
    with pytest.raises(GithubRefused, match="did not take the credentials"):
        get(api_of(server, auth=AppAuth(CLIENT_ID, [new_key()[0]] * 2, time.time)))


def test_a_clock_that_is_wrong_is_named(server: GithubLog) -> None:
    for skew in (-700.0, 700.0):
        with pytest.raises(GithubRefused, match=r"its clock is [+-]") as caught:
            get(api_of(server, clock=lambda skew=skew: time.time() + skew))  # type: ignore[misc]
        assert "NTP" in caught.value.hint
    assert get(api_of(server, clock=lambda: time.time() + 40.0)) == []


@pytest.mark.parametrize(
    "pem", [b"", b"hush hush", b"-----BEGIN RSA PRIVATE KEY-----\nhush\n-----END RSA PRIVATE KEY-----\n"]
)
def test_what_is_no_key_is_said_so_and_not_shown(pem: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        AppAuth("1", [pem], time.time)
    assert "hush" not in str(caught.value) and caught.value.__suppress_context__


def test_a_key_of_another_kind_or_behind_a_password_is_refused() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    kind, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    with pytest.raises(ConfigError, match="no RSA key"):
        app_auth.load_key(other.private_bytes(kind, form, serialization.NoEncryption()))
    key = load_pem_private_key(new_key()[0], None)
    assert isinstance(key, RSAPrivateKey)
    with pytest.raises(ConfigError, match="locked with a password"):
        app_auth.load_key(key.private_bytes(kind, form, serialization.BestAvailableEncryption(b"p")))


@pytest.mark.parametrize("token", [b"a b", b"a\nb", "ü".encode(), b"a\x00"])
def test_a_token_that_would_break_a_header_is_refused(token: bytes) -> None:
    with pytest.raises(ConfigError):
        TokenAuth(token)


def test_a_hooks_log_is_read_by_its_token(server: GithubLog) -> None:
    path = "/repos/o/r/hooks/7/deliveries"
    server.tokens[path] = "github_pat_right"
    server.add()
    api = api_of(server, auth=TokenAuth(b"github_pat_right"))
    assert len(json.loads(api.get(path, body_max=1 << 20).body)) == 1
    with pytest.raises(GithubRefused) as caught:
        api_of(server, auth=TokenAuth(b"github_pat_wrong")).get(path, body_max=1 << 20)
    assert "github_pat" not in f"{caught.value} {caught.value.hint}"


# ---- limits and faults


@pytest.mark.parametrize(
    ("fault", "waits"),
    [
        (Fault(500), [1.0]),
        (Fault(502, body=b"<html>"), [1.0]),
        (Fault(truncated=True), [1.0]),
        (Fault(429, {"Retry-After": "7"}), [7.0]),
        (Fault(403, {"Retry-After": "3"}), [3.0]),
        (Fault(429), [60.0]),
        (Fault(403, body=b'{"message": "You have exceeded a secondary rate limit."}'), [60.0]),
    ],
    ids=["500", "502", "truncated", "429", "403", "429 bare", "403 secondary"],
)
def test_what_may_pass_is_waited_for_and_asked_again(server: GithubLog, fault: Fault, waits: list[float]) -> None:
    waited: list[float] = []
    server.add()
    server.faults.append(fault)
    assert len(get(api_of(server, pacing=no_pacing(waited.append)))) == 1
    assert waited == waits


def test_the_backoff_doubles_and_ends(server: GithubLog) -> None:
    waited: list[float] = []
    server.faults += [Fault(503)] * 9
    with pytest.raises(OutgoingFailed, match="503, 5 times"):
        get(api_of(server, pacing=no_pacing(waited.append)))
    assert waited == [1.0, 2.0, 4.0, 8.0] and len(server.asked) == 5


def test_the_primary_limit_is_waited_for_where_that_is_short_and_told_where_it_is_long(server: GithubLog) -> None:
    waited: list[float] = []
    clock = Moving(time.time())
    server.clock = clock.now

    def spent(seconds: int) -> Fault:
        return Fault(403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(int(clock.now()) + seconds)})

    pacing = Pacing(lambda seconds: clock.wait(waited, seconds))
    server.faults.append(spent(3000))
    with pytest.raises(GithubLimited, match="no more requests until"):
        get(api_of(server, pacing=pacing, clock=clock.now))
    assert waited == []
    server.faults.append(spent(30))
    assert get(api_of(server, pacing=pacing, clock=clock.now)) == []
    assert len(waited) == 1 and 29 <= waited[0] <= 32


@pytest.mark.parametrize("ahead", ["7300", "99999999999"])
def test_a_time_that_no_limit_ends_at_keeps_nothing_from_being_asked(server: GithubLog, ahead: str) -> None:
    reset = str(min(int(time.time()) + int(ahead), 999999999999))
    headers = {"X-RateLimit-Limit": "5000", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": reset}
    server.faults.append(Fault(500, headers))
    api = api_of(server)
    assert get(api) == [] and get(api) == [] and len(server.asked) == 3


class Moving:
    """A clock that moves when it is waited for."""

    def __init__(self, start: float) -> None:
        self.start, self.later = start, 0.0

    def now(self) -> float:
        return self.start + self.later

    def wait(self, waited: list[float], seconds: float) -> None:
        waited.append(seconds)
        self.later += seconds


def test_half_of_what_github_leaves_is_left_to_others(server: GithubLog) -> None:
    server.remaining = 21
    api = api_of(server)
    with pytest.raises(GithubLimited, match="half of what"):
        for _ in range(30):
            get(api)
    assert len(server.asked) == 11 and server.remaining == 10


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_never_followed(server: GithubLog, status: int) -> None:
    with github() as other:
        server.faults.append(Fault(status, {"Location": f"{other.url}{LOG}"}))
        with pytest.raises(GithubRefused, match="redirect"):
            get(api_of(server))
        assert other.asked == []


@pytest.mark.parametrize("status", [400, 404, 403, 422])
def test_a_refusal_is_final_unless_it_is_wanted(server: GithubLog, status: int) -> None:
    server.faults += [Fault(status)] * 2
    with pytest.raises(GithubRefused):
        get(api_of(server))
    answer = api_of(server).get(LOG, body_max=1 << 20, allowed=frozenset({status}))
    assert answer.status == status and len(server.asked) == 2


def test_an_answer_has_a_bound(server: GithubLog) -> None:
    server.faults.append(Fault(200, body=b"[" + b" " * 200_000 + b"]"))
    with pytest.raises(OutgoingFailed, match="more than"):
        api_of(server).get(LOG, body_max=100_000)
    assert len(server.asked) == 1


def test_an_enterprise_server_gets_no_version_that_it_may_not_know(server: GithubLog) -> None:
    get(api_of(server))
    assert "x-github-api-version" not in server.seen_headers[-1]
    assert server.seen_headers[-1]["accept"] == "application/vnd.github+json"
    assert API_VERSION and is_github_com("api.github.com") and is_github_com("api.octo.ghe.com")
    assert not is_github_com("api.github.com.evil.example") and not is_github_com("ghe.example.org")


def test_nobody_there_is_one_sentence() -> None:
    with github() as server:
        url = server.url
    waited: list[float] = []
    with pytest.raises(OutgoingFailed, match="takes no connection"):
        get(api_of(server, base=url, pacing=no_pacing(waited.append)))
    assert len(waited) == 4


def test_a_server_that_falls_silent_is_given_up() -> None:
    quiet = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"[")
            quiet.wait(30)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        client = OutgoingClient(f"http://127.0.0.1:{server.server_address[1]}", {}, silence_s=0.2)
        with pytest.raises(OutgoingFailed, match=r"silent|broke off"):
            client.ask("GET", "/", body_max=1000)
    finally:
        quiet.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_that_dribbles_is_given_up_in_time() -> None:
    ended = threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "100000")
            self.end_headers()
            while not ended.wait(0.02):
                try:
                    self.wfile.write(b" ")
                except OSError:
                    return

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        client = OutgoingClient(f"http://127.0.0.1:{server.server_address[1]}", {}, whole_s=0.3)
        with pytest.raises(OutgoingFailed, match="for an answer"):
            client.ask("GET", "/", body_max=1_000_000)
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def test_requests_keep_their_distance_and_none_towards_this_machine(server: GithubLog) -> None:
    waited: list[float] = []
    clock = Moving(time.time())
    server.clock = clock.now
    pacing = Pacing(lambda seconds: clock.wait(waited, seconds))
    api = api_of(server, pacing=pacing, clock=clock.now)
    for _ in range(3):
        get(api)
    assert len(waited) == 2 and all(abs(one - pacing.gap_s) < 0.001 for one in waited)
    assert 60 / pacing.gap_s <= 900 and no_pacing().gap_s == no_pacing().write_gap_s == 0.0


def test_writes_are_a_second_apart_and_count_for_five_reads(server: GithubLog) -> None:
    waited: list[float] = []
    clock = Moving(time.time())
    server.clock = clock.now
    pacing = Pacing(lambda seconds: clock.wait(waited, seconds))
    one, usage = server.add(), Usage()
    for _ in range(2):  # another client goes on where the one before ended
        api = api_of(server, pacing=pacing, clock=clock.now, usage=usage)
        for _ in range(2):
            api.post(f"{LOG}/{one.id}/attempts", body_max=1 << 20)
    get(api)
    assert [round(each, 3) for each in waited] == [1.0, 1.0, 1.0, round(5 * pacing.gap_s, 3)]
    assert len(server.requests("/attempts")) == 4 and 60 / pacing.write_gap_s * 5 <= 900


def test_a_wish_for_a_redelivery_is_made_once_and_follows_no_redirect(server: GithubLog) -> None:
    api, path = api_of(server), f"{LOG}/{server.add().id}/attempts"
    assert api.post(path, body_max=1 << 20).status == 202
    for fault, error in (
        (Fault(307, {"Location": "https://example.org/"}), GithubRefused),
        (Fault(403), GithubRefused),
        (Fault(429, {"Retry-After": "1"}), GithubLimited),
        (Fault(502), OutgoingFailed),
    ):
        server.faults.append(fault)
        with pytest.raises(error):
            api.post(path, body_max=1 << 20)
    server.faults.append(Fault(422))
    assert api.post(path, body_max=1 << 20, allowed=frozenset({422})).status == 422
    assert len(server.requests("/attempts")) == 6


# ---- the way there


def test_plain_http_goes_to_this_machine_alone() -> None:
    with pytest.raises(UsageError, match="https alone"):
        OutgoingClient("http://ghe.example.org/api/v3", {})
    assert pacing_towards(OutgoingClient("http://localhost:1", {})).sleep is not time.sleep
    assert pacing_towards(OutgoingClient("https://api.github.com", {})).sleep is time.sleep


@pytest.mark.parametrize(
    ("env", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy:3128"}, "http://proxy:3128"),
        ({"https_proxy": "proxy:3128"}, "http://proxy:3128"),
        ({"HTTP_PROXY": "http://proxy:3128"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "x.org, .github.com"}, None),
        ({"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "hub.com"}, "http://proxy:3128"),
    ],
)
def test_the_proxy_is_the_environments(env: dict[str, str], proxy: str | None) -> None:
    assert proxy_for("https", "api.github.com", env) == proxy


@pytest.mark.parametrize(
    ("named", "said"),
    [("me:hush", b"me:hush"), ("me", b"me:"), ("%40:%E2%82%AC%3a", "@:€:".encode()), ("é:%E9", b"\xc3\xa9:\xe9")],
)
def test_any_name_and_password_are_said_to_a_proxy(named: str, said: bytes) -> None:
    address, headers = proxy_parts(f"http://{named}@proxy.example:3128")
    assert address == "http://proxy.example:3128"
    assert headers == {"proxy-authorization": f"Basic {b64encode(said).decode()}"}


def test_a_proxy_that_is_none_is_refused_and_its_password_never_shown() -> None:
    with pytest.raises(UsageError) as caught:
        OutgoingClient("https://api.github.com", {"HTTPS_PROXY": "socks5://me:hush@proxy:1080"})
    assert "hush" not in str(caught.value)


def test_what_is_asked_goes_through_the_proxy_and_its_password_only_there() -> None:
    with proxying(Proxy(0)) as proxy:
        proxy.refusal = (502, "no way")
        client = OutgoingClient("https://github.example.org", {"HTTPS_PROXY": f"http://me:h%75sh@{proxy.netloc}"})
        with pytest.raises(OutgoingFailed) as caught:
            client.ask("GET", "/", headers={"Authorization": "Bearer hidden"}, body_max=1000)
    assert proxy.asked == [("CONNECT", "github.example.org:443", "Basic bWU6aHVzaA==")]
    said = f"{caught.value} {caught.value.hint}"
    assert "proxy 127.0.0.1" in said and "hush" not in said and "h%75sh" not in said and "hidden" not in said


def test_an_own_authority_is_trusted_where_it_is_named_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, context = server_tls(tmp_path)
    with github() as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        url = server.url.replace("http://", "https://")
        with pytest.raises(OutgoingFailed, match="can't be verified") as caught:
            get(api_of(server, base=url))
        assert "SSL_CERT_FILE" in caught.value.hint
        monkeypatch.setenv("SSL_CERT_FILE", str(cert))
        assert get(api_of(server, base=url)) == []


def test_no_error_shows_what_authorises(server: GithubLog) -> None:
    for fault in (Fault(500), Fault(401), Fault(404), Fault(302), Fault(200, body=b"x" * 200_000), Fault(429)):
        server.faults += [fault] * 6
        with pytest.raises(CovenqError) as caught:
            api_of(server).get(LOG, body_max=100_000)
        shown = f"{caught.value!r} {caught.value} {caught.value.hint}"
        assert "eyJ" not in shown and "Bearer" not in shown
        server.faults.clear()
