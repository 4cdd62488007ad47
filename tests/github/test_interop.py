"""Signatures agree, in both directions, with the libraries that others verify and sign GitHub's webhooks with."""

from __future__ import annotations

import base64
import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from covenq.config.secret_keys import Key
from covenq.github import request, samples
from covenq.github.signature import sign, verify
from tests.support.checkout import ROOT
from tests.support.requests import new_guid
from tests.support.serving import Served, serving

OCTOKIT = "@octokit/webhooks-methods@6.0.0"
INSTALL_S = 120.0

SCRIPT = """
import { sign, verify } from "@octokit/webhooks-methods";
let text = "";
for await (const chunk of process.stdin) text += chunk;
const answers = [];
for (const one of JSON.parse(text)) {
  const payload = Buffer.from(one.payload, "base64").toString("utf8");
  answers.push({ signature: await sign(one.secret, payload), verified: await verify(one.secret, payload, one.signature) });
}
console.log(JSON.stringify(answers));
"""

SECRETS = ["s", "It's a Secret to Everybody", "ein gutes Geheimnis: äöü 🗝", "x" * 200]
BODIES = [
    *(samples.body(event, 3) for event in samples.SAMPLES),
    b"Hello, World!",
    '{"title": "日本語 🐙 \\u2028 \\ud83d\\ude00", "n": 1e400}'.encode(),
    b'{\r\n\t"a": [ ]\n}\n',
    b'{"big":"' + b"x" * 300_000 + b'"}',
]
CASES = [(secret, body) for n, body in enumerate(BODIES) for secret in (SECRETS[n % len(SECRETS)], SECRETS[1])]


# ---- Octokit


@pytest.fixture(scope="module")
def octokit() -> Path:
    """A directory with Octokit's library in it: kept between runs, made by one process. Skips where it can't be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node and npm here to run Octokit's library with")
    cache = ROOT / "tests" / ".cache"
    cache.mkdir(exist_ok=True)
    place = cache / OCTOKIT.replace("/", "-")
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (place / "ready").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
            command = [
                "npm",
                "install",
                "--prefix",
                str(place),
                "--ignore-scripts",
                "--no-audit",
                "--no-fund",
                "--fetch-retries",
                "0",
                OCTOKIT,
            ]
            try:
                done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=INSTALL_S)
            except subprocess.TimeoutExpired:
                pytest.skip(f"npm could not install {OCTOKIT} within {INSTALL_S:g} s")
            if done.returncode != 0:
                pytest.skip(f"npm could not install {OCTOKIT}: {done.stderr.strip().splitlines()[-1:]}")
            (place / "ready").touch()
    return place


def ask_octokit(place: Path, cases: list[tuple[str, bytes, str]]) -> list[dict[str, Any]]:
    """{"signature", "verified"} of each (secret, body, signature)."""
    script = place / "interop.mjs"
    script.write_text(SCRIPT)
    asked = [{"secret": s, "payload": base64.b64encode(b).decode(), "signature": given} for s, b, given in cases]
    done = subprocess.run(
        ["node", str(script)], input=json.dumps(asked).encode(), capture_output=True, check=True, timeout=120
    )
    answers: list[dict[str, Any]] = json.loads(done.stdout)
    return answers


def test_octokit_and_covenq_make_and_take_the_same_signatures(octokit: Path) -> None:
    ours = [(secret, body, sign(secret.encode(), body)) for secret, body in CASES]
    others = [(f"{secret}.", body, signature) for secret, body, signature in ours]
    answers = ask_octokit(octokit, ours + others)
    for (secret, body, signature), answer in zip(ours, answers, strict=False):
        assert answer == {"signature": signature, "verified": True}
        assert verify([Key("app", secret.encode())], body, answer["signature"]) == "app"
    for (secret, body, signature), answer in zip(others, answers[len(ours) :], strict=True):
        assert answer["verified"] is False and answer["signature"] != signature
        assert verify([Key("app", secret.encode())], body, signature) is None


@pytest.fixture
def served(data: Path) -> Iterator[Served]:
    with serving(data, keys=(Key("app", SECRETS[2].encode()),)) as one:
        yield one


def test_what_octokit_signs_is_let_in(octokit: Path, served: Served) -> None:
    bodies = [samples.body(event, 5) for event in samples.SAMPLES]
    answers = ask_octokit(octokit, [(SECRETS[2], body, "sha256=" + "0" * 64) for body in bodies])
    for event, body, answer in zip(samples.SAMPLES, bodies, answers, strict=True):
        headers = {
            **samples.headers(event, new_guid(), samples.HOOK, body, b"another"),
            "X-Hub-Signature-256": answer["signature"],
        }
        assert served.request("POST", "/webhook", body, headers).status in (200, 202)
        assert answer["verified"] is False


# ---- gidgethub, which verifies and does not sign


def test_gidgethub_takes_what_covenq_signs_and_refuses_what_covenq_refuses() -> None:
    from gidgethub import ValidationFailure
    from gidgethub.sansio import validate_event

    for secret, body in CASES:
        signature = sign(secret.encode(), body)
        validate_event(body, signature=signature, secret=secret)
        for wrong in (sign(b"another", body), sign(secret.encode(), body + b"\n")):
            with pytest.raises(ValidationFailure):
                validate_event(body, signature=wrong, secret=secret)
            assert verify([Key("app", secret.encode())], body, wrong) is None


def test_gidgethub_reads_the_same_event_out_of_the_same_request() -> None:
    from gidgethub.sansio import Event

    secret = SECRETS[2]
    for event in samples.SAMPLES:
        plain = samples.body(event, 7)
        for kind, body in (("application/json", plain), ("application/x-www-form-urlencoded", form_of(plain))):
            headers = dict(samples.headers(event, "g-1", samples.HOOK, body, secret.encode()))
            headers = {name.lower(): value for name, value in headers.items()} | {"content-type": kind}
            theirs = Event.from_http(headers, body, secret=secret)
            ours = request.identity(headers)
            assert (theirs.event, theirs.delivery_id) == (ours.event, ours.delivery.guid)
            assert theirs.data == request.parse(body, kind).object


def form_of(body: bytes) -> bytes:
    from urllib.parse import quote_plus

    return b"payload=" + quote_plus(body).encode()
