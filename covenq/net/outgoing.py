"""What covenq asks of others by TCP: GitHub, receivers of what is forwarded, and daemons elsewhere.

A `Route` is the way to one host: HTTPS_PROXY (HTTP_PROXY likewise) and NO_PROXY are honoured, nothing for this machine goes
through a proxy, and certificates are checked against the system's authorities or SSL_CERT_FILE's. An `OutgoingConnection` asks
on it, and waits no longer than it is told to, however slowly an answer comes. Redirects are answers and are never followed,
since what authorises a request must reach one host alone.

`OutgoingClient` is for GitHub's API: one answer a call, whole and within its bounds, or an error.

urllib3 is imported when a connection is made: no other command than those that use the network pays for it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlencode, urlsplit

from covenq.errors import OutgoingFailed, UsageError
from covenq.net.address import is_loopback, parse_url
from covenq.net.transport import NO_ANSWER, TookTooLong, read_up_to, shut_down
from covenq.net.watchdog import Watchdog

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse
    from urllib3.connection import HTTPConnection
    from urllib3.exceptions import HTTPError

CONNECT_S = 10.0
SILENCE_S = 30.0
"""Seconds without a byte after which an answer is given up."""
WHOLE_S = 300.0
"""Seconds for a whole answer, however it dribbles."""
HEADERS_MAX = 200
HEADER_MAX = 16 * 1024
"""Characters of a header's value; a longer one is passed over."""
USER_AGENT = "covenq"


class Route:
    """The way to the host of an address: straight, or by the proxy that the environment names for it.

    The authorities that its connections trust are read once, when the first one needs them, and again after one was not trusted.
    """

    def __init__(self, address: SplitResult, env: Mapping[str, str]) -> None:
        """Raises UsageError for a proxy that is no address."""
        self._address = address
        self.host = address.hostname or ""
        self.proxy: str | None = None
        """The host of the proxy."""
        self._through: SplitResult | None = None
        self._proxy_headers: Mapping[str, str] = {}
        proxy = proxy_for(address.scheme, self.host, env)
        if proxy is not None:
            without_password, self._proxy_headers = proxy_parts(proxy)
            self._through = urlsplit(without_password)
            self.proxy = self._through.hostname
        self._authorities: ssl.SSLContext | None = None

    @property
    def _forwarded(self) -> bool:
        """Whether the proxy itself is asked, and sees what for: there is no tunnel."""
        return self._through is not None and self._address.scheme == "http"

    @property
    def headers(self) -> Mapping[str, str]:
        """Those of each request that are the proxy's."""
        return self._proxy_headers if self._forwarded else {}

    def target(self, path: str) -> str:
        """What a request asks for: a path, or of a proxy the whole address."""
        return f"http://{self._address.netloc.rpartition('@')[2]}{path}" if self._forwarded else path

    def connection(self, timeout: float) -> HTTPConnection:
        """A connection, not yet open. Raises OSError where the authorities' certificates can't be read."""
        from urllib3.connection import HTTPConnection, HTTPSConnection, ProxyConfig
        from urllib3.util import parse_url

        to, through = self._through or self._address, self._through
        host, port = to.hostname or "", to.port or (443 if to.scheme == "https" else 80)
        tls = "https" in (to.scheme, self._address.scheme)
        context = self._trusted() if tls else None  # reading all authorities costs most of a request
        proxy = None if through is None else parse_url(through.geturl())
        config = None if through is None else ProxyConfig(context, False, None, None)
        if context is None:
            return HTTPConnection(host, port, timeout=timeout, proxy=proxy, proxy_config=config)
        made = HTTPSConnection(host, port, timeout=timeout, ssl_context=context, proxy=proxy, proxy_config=config)
        if through is not None and not self._forwarded:
            made.set_tunnel(self.host, self._address.port or 443, self._proxy_headers, scheme=through.scheme)
        return made

    def _trusted(self) -> ssl.SSLContext:
        if self._authorities is None:
            # OpenSSL reads SSL_CERT_FILE and SSL_CERT_DIR by itself.
            self._authorities = ssl.create_default_context()
        return self._authorities

    def distrust(self) -> None:
        """A certificate did not hold: read the authorities anew, which may have been exchanged."""
        self._authorities = None


class OutgoingConnection:
    """`covenq.net.transport.Connection` by TCP."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._connection: HTTPConnection | None = None
        self._sock: socket.socket | None = None
        self._watch: Watchdog | None = None
        """What bounds the answer that is read."""
        self.reached = False
        """Whether the newest request had a connection to go on: without one nothing was sent."""

    @property
    def is_open(self) -> bool:
        return self._connection is not None and self._connection.is_connected

    def ask(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        body: bytes | None,
        *,
        wait_s: float,
        whole_s: float,
        endless: bool = False,
    ) -> OutgoingResponse:
        """As its protocol says; opens the connection, for which one wait is CONNECT_S at most."""
        self.reached = self.is_open
        if not self.reached:
            self.close()
            self._connection = self._route.connection(min(wait_s, CONNECT_S))
        connection = self._connection
        assert connection is not None
        self.unwatch(self._watch)
        watch = Watchdog(connection, whole_s)
        watch.start()
        try:
            with answering(watch):
                if not self.reached:
                    connection.connect()
                    self.reached = True
                watch.sock = self._sock = connection.sock
                connection.timeout = wait_s
                given = {"User-Agent": USER_AGENT, **headers, **self._route.headers}
                try:
                    connection.request(
                        method, self._route.target(target), body=body, headers=given, preload_content=False
                    )
                except (BrokenPipeError, ConnectionResetError):
                    pass  # it may have answered before it closed, and then says why: else there is nothing to read either
                response = connection.getresponse()
            goes_on = endless and response.status == 200
            if goes_on:
                watch.stop()
            else:
                self._watch = watch
            return OutgoingResponse(self, response, self._watch)
        except BaseException as error:
            watch.stop()
            self.close()
            if isinstance(error, ssl.SSLCertVerificationError):
                self._route.distrust()
            raise

    def shutdown(self) -> None:
        if self._sock is not None:
            shut_down(self._sock)

    def unwatch(self, watch: Watchdog | None) -> None:
        """The answer that this bounds is read, or given up. Repeatable."""
        if watch is not None and self._watch is watch:
            self._watch = None
            watch.stop()

    def close(self) -> None:
        self.unwatch(self._watch)
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    __del__ = close  # of one that was forgotten, as urllib3's own pools do


class OutgoingResponse:
    """`covenq.net.transport.Response`."""

    def __init__(self, connection: OutgoingConnection, response: BaseHTTPResponse, watch: Watchdog | None) -> None:
        self.status = response.status
        self.headers = response.headers
        self._connection = connection
        self._response = response
        self._watch = watch
        self._ended = False

    def header(self, name: str) -> str | None:
        return self._response.headers.get(name)

    def read1(self, most: int) -> bytes:
        with answering(self._watch):
            piece = self._response.read1(most)
        self._ended = not piece
        return piece

    def close(self) -> None:
        self._connection.unwatch(self._watch)
        self._watch = None
        self._response.close()
        if not self._ended:
            self._connection.close()


@contextmanager
def answering(watch: Watchdog | None) -> Iterator[None]:
    """Raises NO_ANSWER for urllib3's errors, whose words may quote addresses, and for an end that the watchdog made."""
    from urllib3.exceptions import HTTPError

    try:
        yield
    except (
        HTTPError,
        *NO_ANSWER,
        ValueError,
        AttributeError,
    ) as error:  # the last two of TLS that was shut down meanwhile
        if watch is not None and watch.fired == "deadline":
            raise TookTooLong from None
        raise (beneath(error) if isinstance(error, HTTPError) else error) from None
    if watch is not None and watch.fired == "deadline":  # a connection that was shut down looks like the answer's end
        raise TookTooLong


def beneath(error: HTTPError) -> Exception:
    """The system's or the standard library's error that is the cause of one of urllib3's, or one in their place."""
    cause = error.__cause__
    if isinstance(cause, NO_ANSWER):
        return cause
    return (
        ValueError("a host name that can't be one")
        if isinstance(error, ValueError)
        else HTTPException(type(error).__name__)
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status, its headers by lower-case name, and its whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class OutgoingClient:
    """Requests to one address, over a connection that is kept. Not for several threads at once."""

    def __init__(
        self, base: str, env: Mapping[str, str], *, silence_s: float = SILENCE_S, whole_s: float = WHOLE_S
    ) -> None:
        """`base` is scheme, host and perhaps a path. Raises UsageError for an address that can't be one."""
        parts = parse_url(base)
        host = parts.hostname or ""
        if parts.scheme != "https" and not is_loopback(host):
            raise UsageError("what authorises a request is sent over https alone", hint="Write https://…")
        self.base = base.rstrip("/")
        self.host = host
        self.loopback = is_loopback(host)
        self._path = parts.path.rstrip("/")
        self._silence_s, self._whole_s = silence_s, whole_s
        self._route = Route(parts, env)
        self._connection = OutgoingConnection(self._route)

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        body_max: int,
    ) -> Answer:
        """One request and its whole answer, whatever its status. Raises OutgoingFailed, whose message quotes no header."""
        target = self._path + path + (f"?{urlencode(query)}" if query else "")
        try:
            response = self._asked(method, target, headers, body)
            try:
                whole = read_up_to(response, body_max)
            finally:
                response.close()
        except (*NO_ANSWER, ValueError) as error:
            raise self._failed(error) from None
        if len(whole) > body_max:
            raise OutgoingFailed(f"{self.host} answered with more than {body_max:,} bytes", retry=False)
        return Answer(response.status, _headers(response), whole)

    def status(self, method: str, path: str, *, headers: Mapping[str, str], body: bytes, body_max: int) -> int:
        """The status of an answer, whatever becomes of the rest, which is passed over so far. Raises OutgoingFailed."""
        try:
            response = self._asked(method, self._path + path, headers, body)
        except (*NO_ANSWER, ValueError) as error:
            raise self._failed(error) from None
        try:
            with suppress(*NO_ANSWER, ValueError):
                read_up_to(response, body_max)
        finally:
            response.close()
        return response.status

    def _asked(
        self, method: str, target: str, headers: Mapping[str, str] | None, body: bytes | None
    ) -> OutgoingResponse:
        return self._connection.ask(method, target, headers or {}, body, wait_s=self._silence_s, whole_s=self._whole_s)

    def close(self) -> None:
        self._connection.close()

    def _failed(self, error: Exception) -> OutgoingFailed:
        """In words of its own, and as the other's where it may have got the request."""
        proxy, reached = self._route.proxy, self._connection.reached
        through = "" if proxy is None else f" through the proxy {proxy}"
        match error:
            case TookTooLong():
                return OutgoingFailed(f"{self.host} took over {self._whole_s:g} seconds for an answer", sent=reached)
            case ssl.SSLError():
                words = f"the certificate of {self.host}{through} can't be verified"
                hint = "If an authority of your own signed it, name its file with SSL_CERT_FILE."
                return OutgoingFailed(words, hint=hint, retry=False)
            case OSError() if proxy is not None and not reached:
                hint = "Check HTTPS_PROXY and NO_PROXY."
                return OutgoingFailed(f"{self.host} can't be reached{through}", hint=hint, sent=False)
            case socket.gaierror():
                return OutgoingFailed(f"the name {self.host} can't be resolved", sent=False)
            case TimeoutError() if not reached:
                return OutgoingFailed(f"{self.host} took no connection within {CONNECT_S:g} seconds", sent=False)
            case OSError() if not reached:
                return OutgoingFailed(f"{self.host} takes no connection", sent=False)
            case TimeoutError():
                return OutgoingFailed(f"{self.host} fell silent in the middle of an answer{through}")
            case ValueError():
                return OutgoingFailed(f"the answer of {self.host} is no HTTP", retry=False)
        return OutgoingFailed(f"{self.host} broke off its answer{through}")


def proxy_for(scheme: str, host: str, env: Mapping[str, str]) -> str | None:
    """The proxy that the environment names for a host; None for this machine. Raises UsageError for one that is no address."""
    name = f"{scheme}_proxy"
    proxy = env.get(name) or env.get(name.upper())
    if not proxy or is_loopback(host) or _is_direct(host, env.get("no_proxy") or env.get("NO_PROXY") or ""):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    try:
        parts = urlsplit(proxy)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:  # not quoted, since it may hold a password
        raise UsageError(f"{name.upper()} is no proxy's address", hint="Write http://HOST:PORT.")
    return proxy


def _is_direct(host: str, exceptions: str) -> bool:
    """Whether NO_PROXY names the host: itself, a domain that it is in, or everything."""
    host = host.lower()
    for one in (word.strip().lower().removeprefix("*").lstrip(".") for word in exceptions.split(",") if word.strip()):
        if not one or host == one or host.endswith(f".{one}"):
            return True
    return False


def proxy_parts(proxy: str) -> tuple[str, dict[str, str]]:
    """A proxy's address, without the name and password in it, and the headers that say these to it."""
    from base64 import b64encode
    from urllib.parse import unquote_to_bytes

    parts = urlsplit(proxy)
    headers = {}
    if parts.username is not None:
        said = unquote_to_bytes(parts.username) + b":" + unquote_to_bytes(parts.password or "")
        headers["proxy-authorization"] = f"Basic {b64encode(said).decode()}"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), headers


def _headers(response: OutgoingResponse) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in list(response.headers.items())[:HEADERS_MAX]:
        if len(value) <= HEADER_MAX:
            kept[name.lower()] = value
    return kept
