"""Tokens taken out of a command's output before it reaches the disk.

Output comes in pieces of any length, so a token may lie across their borders. What is scrubbed is therefore whole lines; a
line that is longer than anything to be found is cut where no finding spans the cut. So at most HELD bytes wait in memory,
whatever a command prints.

What has nothing in it that any finding begins with, which is nearly all output, costs a few searches for plain bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

HELD = 8192
"""Bytes of an unfinished line that wait for their end. A finding may be half as long, and is then swallowed to its end."""

MASK = b"***"
SECRET_MIN = 6
"""A secret shorter than this is not looked for: it would be found everywhere."""

_GH = b"gh"
_GH_MARKERS = (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_")
_OTHER_MARKERS = (b"github_pat_", b"x-access-token:", b"eC1hY2Nlc3MtdG9rZW46")
"""What GitHub's tokens begin with; the last is `x-access-token:` as git prints it in a Basic header."""

_GITHUB = (
    rb"((?:gh[pousr]_|github_pat_))[0-9A-Za-z_.\-]{6,}"
    rb"|(x-access-token:)[^@\s\"']+"
    rb"|(eC1hY2Nlc3MtdG9rZW46)[0-9A-Za-z+/=]+"
)
_TOKEN_END = re.compile(rb"[^0-9A-Za-z_.\-+/=%]")
_LINE_END = re.compile(rb"[\r\n]")
_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY|AUTH|_KEY\Z|_PAT\Z|_DSN\Z", re.I
)


class Scrubber:
    """What to look for: GitHub's tokens, an operator's patterns, and secrets by their value. May be shared by threads."""

    def __init__(self, patterns: Sequence[str] = (), secrets: Iterable[bytes] = ()) -> None:
        """`patterns` are regular expressions of what stands within a line; whole matches are masked. Raises re.error.

        A secret of several lines, such as a private key, is looked for line by line.
        """
        lines = {line for secret in secrets for line in secret.splitlines()}
        plain = sorted((line[: HELD // 2] for line in lines if len(line) >= SECRET_MIN), key=len, reverse=True)
        parts = [_GITHUB, *(re.escape(one) for one in plain)]
        for pattern in patterns:
            parts.append(b"(?:" + re.compile(pattern.encode()).pattern + b")")
        self._find = re.compile(b"|".join(parts))
        self._plain = (*_OTHER_MARKERS, *plain)
        self._always = bool(patterns)

    def stream(self) -> Stream:
        """For one output."""
        return Stream(self)

    def scrub(self, content: bytes) -> bytes:
        """All of it at once."""
        return self._find.sub(_masked, content) if self.suspects(content) else content

    def suspects(self, content: bytes) -> bool:
        if self._always or (_GH in content and any(one in content for one in _GH_MARKERS)):
            return True
        return any(one in content for one in self._plain)

    def cut(self, content: bytes, at: int) -> tuple[bytes, int, bool]:
        """(scrubbed, how far, whether a finding goes on behind the end): up to `at`, or to the end of what spans it."""
        if not self.suspects(content):
            return content[:at], at, False
        pieces: list[bytes] = []
        done = 0
        for found in self._find.finditer(content):
            if found.start() >= at:
                break
            pieces += [content[done : found.start()], _masked(found)]
            done = found.end()
        if done < at:
            pieces.append(content[done:at])
        return b"".join(pieces), max(done, at), done == len(content)


def _masked(found: re.Match[bytes]) -> bytes:
    kept = next((group for group in found.groups()[:3] if group), b"")
    return kept + MASK


class Stream:
    """One output, piece by piece. Not for several threads."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._held = b""
        self._swallowing = False
        """Inside a finding that is longer than what is held."""

    def feed(self, chunk: bytes) -> bytes:
        """What can be written now."""
        if self._swallowing:
            end = _TOKEN_END.search(chunk)
            if end is None:
                return b""
            chunk = chunk[end.start() :]
            self._swallowing = False
        content = self._held + chunk if self._held else chunk
        at = max(content.rfind(b"\n"), content.rfind(b"\r")) + 1
        if at == len(content):
            self._held = b""
            return self._scrubber.scrub(content)
        goes_on = False
        if len(content) - at > HELD:
            scrubbed, done, goes_on = self._scrubber.cut(content, len(content) - HELD // 2)
        else:
            scrubbed, done = self._scrubber.scrub(content[:at]), at
        self._held = content[done:]
        self._swallowing = goes_on
        return scrubbed

    def finish(self) -> bytes:
        """What is left at the end."""
        held, self._held = self._held, b""
        return self._scrubber.scrub(held)


_GITHUB_ONLY = Scrubber()


def scrub_text(text: str) -> str:
    """Text that a worker chose (a phase, a reason), without GitHub's tokens."""
    return _GITHUB_ONLY.scrub(text.encode("utf-8", "replace")).decode("utf-8", "replace")


def secrets_of(environment: Mapping[str, str]) -> list[bytes]:
    """The values of the variables whose names say that they are secret."""
    return [
        value.encode("utf-8", "surrogateescape") for name, value in environment.items() if _SECRET_NAME.search(name)
    ]
