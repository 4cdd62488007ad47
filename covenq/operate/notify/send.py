"""One try to bring a notice to a target: the command's exit status, or the receiver's answer, says whether it took it.

Whoever is told again, after a crash or an answer that was lost, is told the same bytes with the same id. The command gets ids and
words in COVENQ_*; nothing of a notice ever becomes an argument. A request is signed as GitHub signs its own, so that what
verifies those verifies these: HMAC-SHA256 over the body, in X-Hub-Signature-256. Redirects are not followed.

What is said of a try is for people, and is shown and logged: the end of a command's output, without secrets, in one line, and of
a receiver its host and its status.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from covenq.config.load import Config
from covenq.config.notify import Notify
from covenq.config.secret_keys import Key, read_value
from covenq.errors import ConfigError, OutgoingFailed, Refused, UsageError
from covenq.github.signature import sign
from covenq.model.notices import TEXT_MAX, Notice, TestedTarget
from covenq.operate.notify import command
from covenq.tasks.execution.brief import environment
from covenq.tasks.execution.command import StopEvent
from covenq.tasks.execution.scrub import Scrubber, secrets_of
from covenq.text import one_line

BODY_MAX = 16 * 1024
"""Bytes of an answer that are read, and passed over: its status decides, whatever follows."""
ID_HEADER = "Covenq-Notice"
SIGNATURE_HEADER = "X-Hub-Signature-256"
SECRET = ("secret of [notify]", "Put it there, or correct [notify] secret.")


@dataclass(frozen=True, slots=True)
class Said:
    """What became of a try, and in words."""

    ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Sender:
    """What every try needs: the section, the environment of this process, and what must not be shown."""

    notify: Notify
    env: Mapping[str, str]
    keys: tuple[Key, ...] = ()
    scrub: tuple[str, ...] = ()
    stop: StopEvent | None = None

    def send(self, to: str, notice: Notice) -> Said:
        """One try. Never raises for what a command, a network or a receiver does, nor for a secret that isn't there."""
        body = encoded(notice)
        return self._run(notice, body) if to == "run" else self._post(notice, body)

    def test(self, notice: Notice, monotonic: Callable[[], float] = time.monotonic) -> list[TestedTarget]:
        """One try at every target."""
        found = []
        for to in self.notify.targets:
            began = monotonic()
            said = self.send(to, notice)
            took_ms = round((monotonic() - began) * 1000, 1)
            found.append(TestedTarget(to=to, ok=said.ok, detail=said.detail, took_ms=took_ms))
        return found

    def _run(self, notice: Notice, body: bytes) -> Said:
        own = {"NOTICE": notice.id, "KIND": notice.kind, "STATE": notice.state, "SCOPE": notice.scope}
        env = environment(self.env, (), own)
        end = command.run(self.notify.run, env, body + b"\n", self.notify.timeout_s, self.stop)
        masked = self._masked(end.output, secrets_of(env))
        said = " ".join(masked.decode("utf-8", "replace").split())
        program = one_line(self.notify.run[0], 100)
        words = f"{program} took it" if end.error is None else f"{program}: {end.error}"
        return Said(
            end.error is None, one_line(f"{words}; it said: {said[-TEXT_MAX // 2 :]}" if said else words, TEXT_MAX)
        )

    def _post(self, notice: Notice, body: bytes) -> Said:
        from covenq.net.outgoing import OutgoingClient

        url, source = self.notify.url, self.notify.secret
        assert url is not None
        assert source is not None
        origin, path = _split(url)
        try:
            secret = read_value(source, self.env, SECRET)
            client = OutgoingClient(origin, self.env, silence_s=self.notify.timeout_s, whole_s=self.notify.timeout_s)
        except (ConfigError, UsageError) as error:
            return Said(False, one_line(str(error), TEXT_MAX))
        headers = {
            "Content-Type": "application/json",
            ID_HEADER: notice.id,
            SIGNATURE_HEADER: sign(secret, body),
        }
        try:
            status = client.status("POST", path, headers=headers, body=body, body_max=BODY_MAX)
        except OutgoingFailed as error:
            return Said(False, one_line(str(error), TEXT_MAX))
        finally:
            client.close()
        redirect = "; a redirect is not followed" if 300 <= status < 400 else ""
        return Said(200 <= status < 300, f"{client.host} answered {status}{redirect}")

    def _masked(self, content: bytes, more: Iterable[bytes]) -> bytes:
        return Scrubber(self.scrub, [*(key.secret for key in self.keys), *more]).scrub(content)


def sender_of(
    config: Config, env: Mapping[str, str], keys: tuple[Key, ...] = (), stop: StopEvent | None = None
) -> Sender:
    """By that configuration. Raises Refused where it names nobody."""
    if config.notify is None:
        raise Refused(
            "the configuration has no [notify]: nobody is told of anything",
            hint="Write [notify] with run or url: covenq.toml(5).",
        )
    return Sender(config.notify, env, keys, config.scrub, stop)


def encoded(notice: Notice) -> bytes:
    """The bytes that are sent, and signed."""
    return msgspec.json.encode(notice)


def _split(url: str) -> tuple[str, str]:
    """Scheme and host, and the rest, which may be secret: no error names it."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    path = parts.path or "/"
    return f"{parts.scheme}://{parts.netloc}", f"{path}?{parts.query}" if parts.query else path
