"""The HTTP client for what covenq asks of others on the network: one answer a call, whole and within its bounds, or an error.

What authorises a request must reach one host alone. So redirects are answers and are never followed, plain http is for this
machine alone, and certificates are checked against the system's authorities or SSL_CERT_FILE's. HTTPS_PROXY (HTTP_PROXY
likewise) and NO_PROXY are honoured; nothing for this machine goes through a proxy.

urllib3 is imported when a client is made: no other command than those that use the network pays for it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urlsplit

from covenq.errors import OutgoingFailed, UsageError
from covenq.net.address import is_loopback, parse_url

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

CONNECT_S = 10.0
SILENCE_S = 30.0
"""Seconds without a byte after which an answer is given up."""
WHOLE_S = 300.0
"""Seconds for a whole answer, however it dribbles."""
CHUNK = 64 * 1024
HEADERS_MAX = 200
HEADER_MAX = 16 * 1024
"""Characters of a header's value; a longer one is passed over."""
_USER_AGENT = "covenq"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status, its headers by lower-case name, and its whole body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class OutgoingClient:
    """Requests to one address, over connections that are kept. Not for several threads at once."""

    def __init__(
        self, base: str, env: Mapping[str, str], *, silence_s: float = SILENCE_S, whole_s: float = WHOLE_S
    ) -> None:
        """`base` is scheme, host and perhaps a path. Raises UsageError for an address that can't be one."""
        from urllib3 import Timeout

        parts = parse_url(base)
        host = parts.hostname or ""
        if parts.scheme != "https" and not is_loopback(host):
            raise UsageError("what authorises a request is sent over https alone", hint="Write https://…")
        self.base = base.rstrip("/")
        self.host = host
        self.loopback = is_loopback(host)
        self._whole_s = whole_s
        self._timeout = Timeout(connect=CONNECT_S, read=silence_s)
        self._proxy = proxy_for(parts.scheme, host, env)
        self._manager = _manager(self._proxy)

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        body_max: int,
        timer: Callable[[], float] = time.monotonic,
    ) -> Answer:
        """One request and its whole answer, whatever its status. Raises OutgoingFailed, whose message quotes no header."""
        from urllib3.exceptions import HTTPError

        url = self.base + path + (f"?{urlencode(query)}" if query else "")
        given = {"User-Agent": _USER_AGENT, **(headers or {})}
        try:
            response = self._manager.request(
                method,
                url,
                body=body,
                headers=given,
                redirect=False,
                retries=False,
                preload_content=False,
                timeout=self._timeout,
            )
            try:
                return Answer(
                    response.status, _headers(response), self._read(response, body_max, timer() + self._whole_s, timer)
                )
            except BaseException:
                response.close()  # its rest is not wanted: the connection can't be used again
                raise
            finally:
                response.release_conn()
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            raise self._failed(error) from None

    def close(self) -> None:
        self._manager.clear()

    def _read(self, response: BaseHTTPResponse, limit: int, deadline: float, timer: Callable[[], float]) -> bytes:
        pieces: list[bytes] = []
        size = 0
        while piece := response.read1(
            CHUNK
        ):  # what is there, so that the deadline is looked at however slowly it comes
            size += len(piece)
            if size > limit:
                raise OutgoingFailed(f"{self.host} answered with more than {limit:,} bytes", retry=False)
            if timer() > deadline:
                raise OutgoingFailed(f"{self.host} took over {self._whole_s:g} seconds for an answer")
            pieces.append(piece)
        return b"".join(pieces)

    def _failed(self, error: Exception) -> OutgoingFailed:
        """In words of its own: the library's may quote a proxy's address, which may hold a password."""
        from urllib3 import exceptions

        through = "" if self._proxy is None else f" through the proxy {urlsplit(self._proxy).hostname}"
        match error:
            case exceptions.SSLError():
                words = f"the certificate of {self.host}{through} can't be verified"
                hint = "If an authority of your own signed it, name its file with SSL_CERT_FILE."
                return OutgoingFailed(words, hint=hint, retry=False)
            case exceptions.ProxyError():
                return OutgoingFailed(f"{self.host} can't be reached{through}", hint="Check HTTPS_PROXY and NO_PROXY.")
            case exceptions.NameResolutionError():
                return OutgoingFailed(f"the name {self.host} can't be resolved", sent=False)
            case exceptions.NewConnectionError():
                return OutgoingFailed(f"{self.host} takes no connection{through}", sent=False)
            case exceptions.ConnectTimeoutError():
                words = f"{self.host} took no connection within {CONNECT_S:g} seconds{through}"
                return OutgoingFailed(words, sent=False)
            case exceptions.ReadTimeoutError() | TimeoutError():
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


def _manager(proxy: str | None) -> PoolManager:
    from urllib3 import PoolManager, ProxyManager

    context = ssl.create_default_context()  # OpenSSL reads SSL_CERT_FILE and SSL_CERT_DIR by itself
    if proxy is None:
        return PoolManager(num_pools=1, ssl_context=context)
    address, headers = proxy_parts(proxy)
    return ProxyManager(address, num_pools=1, proxy_headers=headers, ssl_context=context, proxy_ssl_context=context)


def proxy_parts(proxy: str) -> tuple[str, dict[str, str]]:
    """A proxy's address, without the name and password in it, and the headers that say these to it."""
    from urllib.parse import unquote

    from urllib3 import make_headers

    parts = urlsplit(proxy)
    headers = {}
    if parts.username is not None:
        headers = make_headers(proxy_basic_auth=f"{unquote(parts.username)}:{unquote(parts.password or '')}")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), headers


def _headers(response: BaseHTTPResponse) -> dict[str, str]:
    kept: dict[str, str] = {}
    for name, value in list(response.headers.items())[:HEADERS_MAX]:
        if len(value) <= HEADER_MAX:
            kept[name.lower()] = value
    return kept
