"""Scrubbing: secrets masked in a command's output before it reaches the disk.

Output comes in pieces of any length, so a secret may span two of them. Therefore whole lines are scrubbed; a line that is longer
than any finding is cut where no finding spans the cut. So at most BUFFER_MAX bytes wait in memory, whatever a command prints.

A piece that contains none of the prefixes of findings, which is nearly all output, costs only a few searches for plain bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

BUFFER_MAX = 8192
"""Bytes of an unfinished line that are buffered. A finding that is longer than half of it is dropped to its end."""

MASK = b"***"
SECRET_MIN = 6
"""Bytes. A secret shorter than this is not searched for: it would be found everywhere."""

_GH = b"gh"
_GH_MARKERS = (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_")
_OTHER_MARKERS = (b"github_pat_", b"x-access-token:", b"eC1hY2Nlc3MtdG9rZW46", b"eyJ")
"""Prefixes of GitHub's tokens; `x-access-token:` as git prints it in a Basic header; of JSON Web Tokens, such as an App's."""

_GITHUB = (
    rb"((?:gh[pousr]_|github_pat_))[0-9A-Za-z_.\-]{6,}"
    rb"|(x-access-token:)[^@\s\"']+"
    rb"|(eC1hY2Nlc3MtdG9rZW46)[0-9A-Za-z+/=]+"
    rb"|eyJ[0-9A-Za-z_\-]{8,}\.eyJ[0-9A-Za-z_\-]{8,}\.[0-9A-Za-z_\-]{8,}"
)
_TOKEN_END = re.compile(rb"[^0-9A-Za-z_.\-+/=%]")
_SECRET_NAME = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE|API_?KEY|ACCESS_?KEY|AUTH|_KEY\Z|_PAT\Z|_DSN\Z", re.I
)


class Scrubber:
    """What to search for: GitHub's tokens, an operator's patterns, and secrets by their value. May be shared by threads."""

    def __init__(self, patterns: Sequence[str] = (), secrets: Iterable[bytes] = ()) -> None:
        """`patterns` are regular expressions that match within a line; whole matches are masked. Raises re.error.

        A secret of several lines, such as a private key, is searched for line by line.
        """
        self._lines = frozenset(line for secret in secrets for line in secret.splitlines())
        self._patterns = [b"(?:" + re.compile(pattern.encode()).pattern + b")" for pattern in patterns]
        self._always = bool(patterns)
        self._compile()

    def learn(self, secret: bytes) -> None:
        """Search for that one too from now on, in streams that have begun as well. For one thread at a time."""
        self._lines |= frozenset(secret.splitlines())
        self._compile()

    def _compile(self) -> None:
        lines = [line[: BUFFER_MAX // 2] for line in self._lines if len(line) >= SECRET_MIN]
        plain = sorted(lines, key=len, reverse=True)
        self._find = re.compile(b"|".join([_GITHUB, *(re.escape(one) for one in plain), *self._patterns]))
        self._plain = (*_OTHER_MARKERS, *plain)

    def stream(self) -> Stream:
        """A stream for one output."""
        return Stream(self)

    def scrub(self, content: bytes) -> bytes:
        """Scrub the whole of something."""
        return self._find.sub(_masked, content) if self.may_match(content) else content

    def may_match(self, content: bytes) -> bool:
        if self._always or (_GH in content and any(one in content for one in _GH_MARKERS)):
            return True
        return any(one in content for one in self._plain)

    def scrub_until(self, content: bytes, at: int) -> tuple[bytes, int, bool]:
        """Scrub up to `at`, or to the end of a finding that spans it.

        → (scrubbed, the end of that, whether the finding reaches the end of `content` and may go on after it).
        """
        if not self.may_match(content):
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
    """Scrubs one output, piece by piece. For one thread."""

    def __init__(self, scrubber: Scrubber) -> None:
        self._scrubber = scrubber
        self._pending = b""
        self._skipping = False
        """Whether the next piece begins inside a finding that is longer than the buffer."""

    def feed(self, chunk: bytes) -> bytes:
        """The scrubbed bytes that can be written now."""
        if self._skipping:
            end = _TOKEN_END.search(chunk)
            if end is None:
                return b""
            chunk = chunk[end.start() :]
            self._skipping = False
        content = self._pending + chunk if self._pending else chunk
        at = max(content.rfind(b"\n"), content.rfind(b"\r")) + 1
        if at == len(content):
            self._pending = b""
            return self._scrubber.scrub(content)
        goes_on = False
        if len(content) - at > BUFFER_MAX:
            scrubbed, done, goes_on = self._scrubber.scrub_until(content, len(content) - BUFFER_MAX // 2)
        else:
            scrubbed, done = self._scrubber.scrub(content[:at]), at
        self._pending = content[done:]
        self._skipping = goes_on
        return scrubbed

    def finish(self) -> bytes:
        """The rest, at the end of the output."""
        pending, self._pending = self._pending, b""
        return self._scrubber.scrub(pending)


_GITHUB_ONLY = Scrubber()


def scrub_text(text: str) -> str:
    """Text that a worker chose (a phase, a reason), without GitHub's tokens."""
    return _GITHUB_ONLY.scrub(text.encode("utf-8", "replace")).decode("utf-8", "replace")


def secrets_of(environment: Mapping[str, str]) -> list[bytes]:
    """The values of the variables whose names say that they are secret."""
    return [
        value.encode("utf-8", "surrogateescape") for name, value in environment.items() if _SECRET_NAME.search(name)
    ]
