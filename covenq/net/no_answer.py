"""Why a request had no answer, for people and records.

In the system's words, never in those of whoever was asked, or of a proxy: they may quote what was sent, or hold anything else.
"""

from __future__ import annotations

import socket
from http.client import HTTPException, IncompleteRead

REASON_MAX = 200


def reason(error: Exception, proxy: str | None = None) -> str:
    """`error` is one that a connection raised; `proxy` the host of that by which it was to go."""
    if proxy is None:
        return _reason(error)
    if (
        isinstance(error, OSError)
        and error.errno is None
        and not isinstance(error, (TimeoutError, HTTPException, ConnectionError))
    ):
        return f"the proxy {proxy} makes no way there"  # http.client says nothing but a sentence, which quotes the proxy's answer
    return f"{_reason(error)}, through the proxy {proxy}"


def _reason(error: Exception) -> str:
    import ssl  # most commands meet no error

    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, socket.gaierror):
        return "its name can't be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {error.verify_message}"[:REASON_MAX]
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or 'protocol error'}"[:REASON_MAX]
    if isinstance(error, ConnectionError) and not error.strerror:
        return "it closed the connection"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror[:REASON_MAX]
    if isinstance(error, IncompleteRead):
        return "its answer broke off"
    if isinstance(error, HTTPException):
        return f"it does not speak HTTP ({type(error).__name__})"
    return type(error).__name__
