"""The fast parser of a plain request's head gives what waitress gives for the same bytes, or None."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser

from covenq.http.server import head
from covenq.http.server.parser import BufferedBytes, Parser, RequestLimits

GITHUB = (
    b"POST /webhook HTTP/1.1\r\nHost: covenq.example.org\r\nUser-Agent: GitHub-Hookshot/044aadd\r\nAccept: */*\r\n"
    b"Content-Type: application/json\r\nContent-Length: 7\r\nX-GitHub-Event: issues\r\nX-GitHub-Hook-ID: 446581321\r\n"
    b"X-GitHub-Delivery: b93a9ccb-ac0a-428d-8809-c250bddf4fd4\r\nX-Hub-Signature-256: sha256="
    + b"0a" * 32
    + b"\r\n\r\n"
)
SAID = (
    *("command", "version", "path", "query", "fragment", "request_uri", "first_line", "proxy_scheme", "proxy_netloc"),
    *(
        "url_scheme",
        "headers",
        "content_length",
        "chunked",
        "connection_close",
        "expect_continue",
        "completed",
        "empty",
    ),
)


def _read(data: bytes) -> dict[str, Any]:
    """The parser's result for these bytes, given as the channel gives them: every attribute that is used."""
    parser = Parser(Adjustments(), RequestLimits(1 << 20, 10, 10), BufferedBytes(1 << 20))
    consumed = 0
    while consumed < len(data) and not parser.completed:
        consumed += parser.received(data[consumed:])
    said: dict[str, Any] = {name: getattr(parser, name, None) for name in SAID}
    error = parser.error
    receiver = parser.body_rcv
    return said | {
        "consumed": consumed,
        "error": None if error is None else (error.code, error.body),
        "body": None if receiver is None else (parser.get_body_stream().read(), receiver.__len__()),
        "headers_finished": parser.headers_finished,
        "order": list(parser.headers),
    }


def _slowly(data: bytes) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(head, "read", lambda _: None)
        return _read(data)


def test_what_github_sends_is_plain() -> None:
    found = head.read(GITHUB)
    assert found is not None
    assert found.path == "/webhook" and found.length == 7
    assert found.headers["X_GITHUB_HOOK_ID"] == "446581321" and len(found.headers) == 9
    for rest in (b"1234567", b"123456", b"", b"1234567POST /"):
        assert _read(GITHUB + rest) == _slowly(GITHUB + rest)
    large = GITHUB.replace(b"Length: 7", b"Length: 1048577")
    assert _read(large + b"{}") == _slowly(large + b"{}"), "over the limit"


@pytest.mark.parametrize(
    "data",
    [
        GITHUB.replace(b"POST", b"GET"),
        GITHUB.replace(b"1.1", b"1.0"),
        GITHUB.replace(b"/webhook", b"/webhook?a=b"),
        GITHUB.replace(b"/webhook", b"/web%68ook"),
        GITHUB.replace(b"/webhook", b"//webhook"),
        GITHUB.replace(b"/webhook", b"http://elsewhere/webhook"),
        GITHUB.replace(b"Accept: */*", b"Accept:*/*"),
        GITHUB.replace(b"Accept: */*", b"Accept: */* "),
        GITHUB.replace(b"Accept: */*", b"Accept : */*"),
        GITHUB.replace(b"Accept: */*", b"Accept: */*\r\n folded"),
        GITHUB.replace(b"Accept: */*", b"Accept: \xe9"),
        GITHUB.replace(b"Accept: */*", b"Accept: a\x00b"),
        GITHUB.replace(b"Accept: */*", b"Accept: a\nb"),
        GITHUB.replace(b"Accept: */*", b"Accept: "),
        GITHUB.replace(b"Accept: */*", b"X_GitHub_Event: push"),
        GITHUB.replace(b"Accept: */*", b"Host: again"),
        GITHUB.replace(b"Accept: */*", b"Content-Length: 7"),
        GITHUB.replace(b"Accept: */*", b"Transfer-Encoding: chunked"),
        GITHUB.replace(b"Accept: */*", b"Connection: close"),
        GITHUB.replace(b"Accept: */*", b"Connection: keep-alive"),
        GITHUB.replace(b"Accept: */*", b"Expect: 100-continue"),
        GITHUB.replace(b"Length: 7", b"Length: +7"),
        GITHUB.replace(b"Length: 7", b"Length: 7_0"),
        GITHUB.replace(b"Length: 7", b"Length: " + b"9" * 19),
        b"\r\n" + GITHUB,
        b"POST /webhook HTTP/1.1\r\n\r\n",
        GITHUB.replace(b"Host: covenq.example.org\r\n", b""),
        GITHUB.replace(b"covenq.example.org", b"covenq.example.org/"),
        GITHUB.replace(b"covenq.example.org", b"a, b"),
        GITHUB.replace(b"/webhook", b"/webhook//"),
    ],
)
def test_all_that_is_not_plain_is_waitress_own_to_read(data: bytes) -> None:
    assert head.read(data) is None


_NAMES = st.sampled_from(
    b"Accept Content-Length Content-Type Host Connection Expect Transfer-Encoding X-GitHub-Event X_GitHub_Event x-a".split()
)
_VALUES = st.one_of(
    st.sampled_from(
        [b"7", b"0", b"close", b"chunked", b"100-continue", b"application/json", b"a, b", b"", b" 7", b"7 ", b"\xff"]
    ),
    st.binary(max_size=12),
)
_FIELDS = st.builds(
    lambda name, between, value, end: name + between + value + end,
    _NAMES,
    st.sampled_from([b": "] * 8 + [b":", b" : ", b":\t", b""]),
    _VALUES,
    st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\n ", b"\r\n\r\n"]),
)
_STARTS = st.sampled_from(
    [b"POST /webhook HTTP/1.1\r\n"] * 6
    + [
        b"POST /a/b_c-d HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\n",
        b"POST /webhook HTTP/1.0\r\n",
        b"POST /webhook/ HTTP/1.1\r\n",
    ]
    + [
        b"GET /webhook HTTP/1.1\r\n",
        b"POST /a%20b HTTP/1.1\r\n",
        b"POST /webhook HTTP/1.1\n",
        b"POST  /webhook HTTP/1.1\r\n",
    ]
)


@given(_STARTS, st.lists(_FIELDS, max_size=6), st.binary(max_size=10))
def test_whatever_comes_is_read_as_waitress_reads_it(start: bytes, fields: list[bytes], rest: bytes) -> None:
    data = start + b"".join(fields) + b"\r\n" + rest
    assert _read(data) == _slowly(data)


@given(st.data())
def test_a_byte_changed_anywhere_is_read_as_waitress_reads_it(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(GITHUB) - 1))
    byte = data.draw(st.integers(0, 255))
    changed = GITHUB[:place] + bytes([byte]) + GITHUB[place + 1 :] + b"1234567"
    assert _read(changed) == _slowly(changed)


def test_a_length_beside_an_encoding_is_refused_whatever_the_parser_leaves_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A later waitress takes the length out of its headers itself; the request would then be read by its chunks alone."""
    original = HTTPRequestParser.parse_header

    def forgetting(self: Any, header_plus: bytes) -> None:
        original(self, header_plus)
        if self.chunked:
            self.headers.pop("CONTENT_LENGTH", None)

    monkeypatch.setattr(HTTPRequestParser, "parse_header", forgetting)
    for name in (b"Content-Length", b"content_length", b"CONTENT-LENGTH "):
        request = b"POST /webhook HTTP/1.1\r\nHost: x\r\n" + name + b": 3\r\nTransfer-Encoding: chunked\r\n\r\n"
        parser = Parser(Adjustments(), RequestLimits(1 << 20, 10, 10), BufferedBytes(1 << 20))
        parser.received(request)
        assert parser.error is not None, name
