"""What a command prints, without its tokens: whatever the pieces, and whatever it prints."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covenq.tasks.execution.scrub import BUFFER_MAX, Scrubber, scrub_text, secrets_of

TOKENS = [
    b"ghp_" + b"A1b2" * 9,
    b"gho_" + b"x" * 36,
    b"ghu_" + b"y" * 36,
    b"ghs_12345_" + b"eyJh-bG.ci" * 50,  # the long form that installations get
    b"ghr_" + b"z" * 76,
    b"github_pat_" + b"11ABCDE" * 11,
]
JWT = b"eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE4MDAwMDAwMDAsImlzcyI6Ikl2MS5hIn0." + b"Si-G_n" * 57
SECRETS = [b"correct horse battery", b"-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEFAASC\n-----END KEY-----"]


def fed(scrubber: Scrubber, content: bytes, cuts: list[int]) -> bytes:
    stream = scrubber.stream()
    places = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    out = [stream.feed(content[a:b]) for a, b in itertools.pairwise(places)]
    return b"".join([*out, stream.finish()])


@pytest.mark.parametrize("token", TOKENS)
def test_a_token_goes_and_the_words_around_it_stay(token: bytes) -> None:
    said = b"before " + token + b" after\nfatal: https://x-access-token:" + token + b"@github.com/a/b not found\n"
    kept = Scrubber().scrub(said)
    assert token not in kept
    assert token[12:24] not in kept
    assert kept.startswith(b"before " + token[:4])
    assert b" after\nfatal: https://x-access-token:***@github.com/a/b not found\n" in kept


def test_a_json_web_token_goes_and_what_only_begins_like_one_stays() -> None:
    assert Scrubber().scrub(b"Authorization: Bearer " + JWT + b"\n") == b"Authorization: Bearer ***\n"
    assert Scrubber().scrub(b'{"jwt":"' + JWT + b'"}') == b'{"jwt":"***"}'
    for said in (b"eyJ", b"eyJhIjoxfQ==", b"eyJhIjoxfQ.eyJiIjoyfQ", b"heyJude.eyJohnny.x"):
        assert Scrubber().scrub(said) == said


def test_a_token_of_any_form_behind_x_access_token_goes() -> None:
    assert Scrubber().scrub(b"https://x-access-token:v1.abc@h/") == b"https://x-access-token:***@h/"
    header = b"AUTHORIZATION: basic eC1hY2Nlc3MtdG9rZW46Z2hzX2FiYw=="
    assert Scrubber().scrub(header) == b"AUTHORIZATION: basic eC1hY2Nlc3MtdG9rZW46***"


@given(
    st.lists(
        st.sampled_from([*TOKENS, JWT, *SECRETS, b"plain ", b"\n", b"gh", b"~" * 3000, b"https://x-access-token:"])
    ),
    st.lists(st.integers(min_value=0, max_value=1 << 20), max_size=30),
)
def test_no_border_between_pieces_lets_a_secret_through(pieces: list[bytes], cuts: list[int]) -> None:
    scrubber = Scrubber(secrets=SECRETS)
    content = b" ".join(pieces)
    out = fed(scrubber, content, cuts)
    for secret in (*(token[11:] for token in TOKENS), JWT[40:], SECRETS[0], b"MIIEvQIBADANBgkq", b"hkiG9w0BAQEFAASC"):
        assert secret not in out
    if not any(b"\n" not in line and len(line) > BUFFER_MAX for line in content.split(b"\n")):
        assert out == scrubber.scrub(content)


def test_a_token_longer_than_what_is_held_is_swallowed_to_its_end() -> None:
    token = b"ghs_" + b"a" * (5 * BUFFER_MAX)
    content = b"x" * 100 + b" " + token + b" the end"
    for size in (1, 7, 1000, BUFFER_MAX, 65536):
        assert fed(Scrubber(), content, list(range(0, len(content), size))) == b"x" * 100 + b" ghs_*** the end", size


def test_a_line_without_end_is_written_on_and_little_of_it_is_held() -> None:
    stream = Scrubber().stream()
    written = sum(len(stream.feed(b"." * 65536)) for _ in range(100))
    assert written >= 100 * 65536 - BUFFER_MAX


def test_a_finished_line_is_written_at_once() -> None:
    stream = Scrubber(secrets=[b"hunter2!"]).stream()
    assert stream.feed(b"step 1 of 2\n") == b"step 1 of 2\n"
    assert stream.feed(b"50%\r") == b"50%\r"


def test_configured_patterns() -> None:
    scrubber = Scrubber([r"AKIA[0-9A-Z]{16}", r"password=\S+"])
    assert scrubber.scrub(b"id AKIA1234567890ABCDEF password=abc ok") == b"id *** *** ok"


def test_binary_output_comes_through_as_it_is() -> None:
    content = random.Random(1).randbytes(300_000)
    assert fed(Scrubber(), content, list(range(0, 300_000, 4097))) == content


def test_secrets_are_known_by_the_names_of_their_variables() -> None:
    named = {
        "GITHUB_TOKEN": "t",
        "DB_PASSWORD": "p",
        "DEPLOY_KEY": "k",
        "MY_API_KEY": "a",
        "PATH": "/bin",
        "KEYMAP": "us",
    }
    assert secrets_of(named) == [b"t", b"p", b"k", b"a"]


def test_text_of_a_worker() -> None:
    assert scrub_text("cloning with ghp_" + "a" * 36) == "cloning with ghp_***"
