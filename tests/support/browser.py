"""A browser without JavaScript, as far as the pages need one: cookies, forms, redirections, and what a policy would keep out.

Each page that it gets is held against what every page has to be: well-formed, in the headers' terms, and with nothing in it that
its policy forbids, which a real browser would say on its console alone.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

VOID = frozenset({"meta", "input", "br", "link", "img", "hr"})
FORBIDDEN = frozenset({"script", "iframe", "object", "embed", "img", "link", "svg", "base", "video", "audio"})


class Document(HTMLParser):
    """An HTML page: its tags balanced, its links, forms and text."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []
        self.links: list[str] = []
        self.forms: list[Form] = []
        self.texts: list[str] = []
        self.refresh: str | None = None
        self.styles: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        assert html.startswith("<!doctype html>")
        self.feed(html)
        self.close()
        assert self._open == [], f"left open: {self._open}"

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        assert len(found) == len(attrs), f"an attribute of <{tag}> is there twice"
        self.attributes += [(tag, name, value) for name, value in found.items()]
        if tag not in VOID:
            self._open.append(tag)
        if tag == "a":
            self.links.append(found["href"])
        elif tag == "form":
            self.forms.append(Form(found.get("method", "get"), found["action"]))
        elif tag == "input" and "name" in found:
            self.forms[-1].fields[found["name"]] = found.get("value", "")
        elif tag == "meta" and found.get("http-equiv") == "refresh":
            self.refresh = found["content"].partition("url=")[2]

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open[-1] == tag, f"</{tag}> in {self._open}"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        (self.styles if self._open[-1:] == ["style"] else self.texts).append(data)


@dataclass
class Form:
    """A form, with the fields as they are filled in."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass
class Shown:
    """What the browser shows: the address, the status and headers of its answer, and the page."""

    url: str
    status: int
    headers: dict[str, str]
    html: str

    @property
    def document(self) -> Document:
        return Document(self.html)

    @property
    def text(self) -> str:
        """In one line, as it is read."""
        return " ".join(self.document.text.split())

    def form(self, action: str) -> Form:
        return next(one for one in self.document.forms if one.action == action)


class Browser:
    """One user's browser. `host` is what stands in the address bar; the connection is always to this machine."""

    def __init__(self, port: int, host: str = "127.0.0.1", *, tls_in_front: bool = False) -> None:
        self.port = port
        self.host = host
        self.headers = {"X-Forwarded-Proto": "https"} if tls_in_front else {}
        self.is_secure = tls_in_front or host in ("127.0.0.1", "localhost", "[::1]")
        self.cookies: dict[str, str] = {}
        self.set_cookies: list[str] = []

    def get(self, path: str, **headers: str) -> Shown:
        """A page, and where it leads on to."""
        for _ in range(5):
            shown = self.ask("GET", path, None, {"Sec-Fetch-Site": "none", **headers})
            if shown.status != 303:
                return shown
            path = shown.headers["location"]
        raise AssertionError("it leads on and on")

    def send(self, form: Form, **headers: str) -> Shown:
        """Send a form, and go where it leads."""
        if form.method == "get":
            return self.get(f"{form.action}?{urlencode(form.fields)}")
        sent = {"Sec-Fetch-Site": "same-origin", "Origin": "null", "Content-Type": "application/x-www-form-urlencoded"}
        shown = self.ask("POST", form.action, urlencode(form.fields).encode(), {**sent, **headers})
        return self.get(shown.headers["location"]) if shown.status == 303 else shown

    def log_in(self, token: str, path: str = "/page") -> Shown:
        form = self.get(path).form("/page/login")
        form.fields["token"] = token
        return self.send(form)

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> Shown:
        """One request, with the cookies that are meant for it."""
        sent = {"Host": f"{self.host}:{self.port}", **self.headers, **headers}
        cross = sent.get("Sec-Fetch-Site") == "cross-site"
        if self.cookies and path.startswith("/page") and not cross:  # they are strict
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {k: v for k, v in sent.items() if v})
            answer = connection.getresponse()
            shown = Shown(
                urljoin(f"http://{self.host}", path),
                answer.status,
                {name.lower(): value for name, value in answer.getheaders()},
                answer.read().decode(),
            )
            for value in answer.headers.get_all("Set-Cookie") or []:
                self._take(value)
        finally:
            connection.close()
        if path.startswith("/page"):
            check(shown)
        return shown

    def _take(self, value: str) -> None:
        self.set_cookies.append(value)
        for name, one in SimpleCookie(value).items():
            assert one["httponly"] and one["samesite"] == "Strict" and one["path"] == "/page" and not one["domain"]
            if one["secure"] and not self.is_secure:
                continue
            self.cookies.pop(name, None)
            if not one["expires"]:  # none is given but to take it back
                self.cookies[name] = one.value


def check(shown: Shown) -> None:
    """What holds of every answer at /page. Raises AssertionError."""
    headers = shown.headers
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    policy = dict(one.strip().split(" ", 1) for one in headers["content-security-policy"].split(";"))
    style = policy.pop("style-src")
    assert policy == {
        "default-src": "'none'",
        "form-action": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    if not shown.html:
        return
    assert headers["content-type"] == "text/html; charset=utf-8"
    document = shown.document
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in document.styles]
    assert [f"'sha256-{one}'" for one in hashes] == [style], "its one style sheet, and no other"
    for tag, name, value in document.attributes:
        assert tag not in FORBIDDEN and not name.startswith("on") and name != "style", (tag, name)
        if name in ("href", "action"):
            assert re.match(r"/page(?:[/?]|\Z)", value) and not urlsplit(value).netloc, value
    assert "\x1b" not in shown.html and not re.search("[\u202a-\u202e\u200b\u2066-\u2069]", shown.html)
