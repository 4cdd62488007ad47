"""A second reader of covenq's journals, from man/covenq-journal.5 alone: proves every byte, stops at the first that is wrong."""

import base64
import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

N, HEX64, SUM = rb"(0|[1-9]\d*)", rb'"([0-9a-f]{64})"', b',"sum":"'
HEADER = re.compile(
    rb'\{"format":1,"journal":"([0-9a-f]{32})","epoch":"([0-9a-f]{16})","first":%b,"after":%b,"prev":%b,"salt":%b'
    % (N, N, HEX64, HEX64)
)
ENVELOPE = re.compile(
    rb'\{"seq":%b,"at":"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z)","synced":%b,'
    rb'"subject":"((?:delivery\.[\w-]{1,64}|task|ops)\.[\w-]{1,64})","kind":"([a-z]{1,16}\.[a-z_]{1,32})"'
    rb'(?:,"about_sha256":%b)?(?:,"payload_sha256":%b,"payload_bytes":%b)?,"data":(\{.*\}),"prev":%b'
    % (N, N, HEX64, HEX64, N, HEX64)
)


@dataclass
class Reading:
    records: list[dict] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)  # seqs that headers say are missing, first and last
    fault: tuple[str, int, str] | None = None  # segment, offset of the line, what is wrong with it
    torn: tuple[str, int] | None = None  # instead of a fault: where what an opening would cut begins


def read(directory: Path) -> Reading:
    found, seq, link, journal, salt = Reading(), 0, b"0" * 64, None, b""
    witness = seq_of_clean_close(directory)
    names = sorted(path.name for path in directory.iterdir() if path.name.endswith(".jsonl"))
    for name in names:
        raw, offset = (directory / name).read_bytes(), 0
        lines = raw.split(b"\n")
        try:
            check(len(lines) > 2 and lines[0] == lines[1], "the header does not stand there twice")
            header = proven(lines[0], HEADER, None)
            check(header and lines[0][header.end() + 72 :] == b'"}', "the header does not verify")
            first, after, salt = int(header[3]), int(header[4]), header[6]
            check(name == f"{first:020}.jsonl" and after < first < 2**63, "the header is of another segment")
            check((after, header[5], journal or header[1]) == (seq, link, header[1]), "it continues another segment")
            found.gaps += [(seq + 1, first - 1)] if first > seq + 1 else []
            seq, link, journal, witness = first - 1, lines[0][-66:-2], header[1], max(witness, after)
            offset = 2 * len(lines[0]) + 2
            for line in lines[2:] if lines[-1] else lines[2:-1]:
                record = record_of(line, salt)
                check((record["seq"], record["prev"]) == (seq + 1, link.decode()), "it does not follow the one before")
                check(offset + len(line) < len(raw), "the file ends within the line")
                seq, link, offset = record["seq"], record["sum"].encode(), offset + len(line) + 1
                witness = max(witness, record["synced"])
                found.records.append(record | {"epoch": header[2].decode()})
        except ValueError as error:
            later = [proven(line, ENVELOPE, salt) for line in raw[offset:].split(b"\n")[1:] if offset]
            witness = max([witness, *(int(match[3]) for match in later if match)])
            if offset and name == names[-1] and seq >= witness and crash_explains(raw[offset:], offset):
                return replace(found, torn=(name, offset))
            return replace(found, fault=(name, offset, str(error)))
    if witness > seq:
        found.fault = (names[-1] if names else "", 0, f"seq {witness} had been synced and is not there")
    naming = {record["seq"]: record["data"] for record in found.records if "drops" in record["data"]}
    for record in (one for one in found.records if one["dropped"]):
        data = naming.get(record["dropped"], {"drops": []})
        named = any(low <= record["seq"] <= high for low, high in data["drops"])
        if not named or (record["about_sha256"] and record["about"] is None and data.get("about") is not True):
            found.fault = ("", 0, f"nothing allows the content of seq {record['seq']} to be missing")
    return found


def check(condition: object, detail: str) -> None:
    if not condition:
        raise ValueError(detail)


def sha256(*services: bytes) -> bytes:
    return hashlib.sha256(b"".join(services)).hexdigest().encode()


def seq_of_clean_close(directory: Path) -> int:
    path = directory / "closed.json"
    found = re.fullmatch(rb'(\{.*),"check":"([0-9a-f]{64})"\}\n?', path.read_bytes() if path.exists() else b"")
    return int(json.loads(found[1] + b"}")["seq"]) if found and sha256(found[1], b"}") == found[2] else 0


def proven(line: bytes, form: re.Pattern[bytes], salt: bytes | None) -> re.Match[bytes] | None:
    """What the hashed bytes say, if their sum is the one written behind them. A header brings its own salt."""
    match = form.fullmatch(line, 0, max(line.find(SUM), 0))
    return match if match and line[match.end() + 8 :].startswith(sha256(salt or match[6], match[0]) + b'"') else None


def record_of(line: bytes, salt: bytes) -> dict:
    match = proven(line, ENVELOPE, salt)
    check(match, "it is no line of this segment, or its sum does not match its bytes")
    words = [word and word.decode() for word in (*match.groups(), line[match.end() + 8 : match.end() + 72])]
    names = "seq at synced subject kind about_sha256 payload_sha256 payload_bytes data prev sum".split()
    record: dict = {**dict(zip(names, words, strict=True)), "about": None, "payload": None, "dropped": None}
    record |= {name: record[name] and int(record[name]) for name in ("seq", "synced", "payload_bytes")}
    record["data"] = json.loads(record["data"])
    check(record["synced"] < record["seq"] < 2**63, "it knows of itself that it is synced, or there is no such seq")
    tail, described, paid = line[match.end() + 73 :].decode(), record["about_sha256"], record["payload_sha256"]
    if described and tail.startswith(',"about":'):
        record["about"], end = json.JSONDecoder().raw_decode(tail, 9)
        check(sha256(tail[9:end].encode()).decode() == described, "what it is about does not match its hash")
        tail = tail[end:]
    form = re.fullmatch(r',"(payload|body|body64|dropped)":(.+)\}', tail)
    if form and form[1] == "dropped":
        check(paid or (described and record["about"] is None), "nothing of it was dropped")
        check(re.fullmatch(r"[1-9][0-9]*", form[2]), "it was dropped by no record")
        return record | {"dropped": int(form[2])}
    check(record["about"] is not None or not described, "what it is about is missing")
    check(form if paid else tail == "}", "the payload is missing, or there is more than one")
    if form:
        value = form[2] if form[1] == "payload" else json.loads(form[2])
        payload = base64.b64decode(value) if form[1] == "body64" else value.encode()
        check((sha256(payload).decode(), len(payload)) == (paid, record["payload_bytes"]), "it is another payload")
        check(tail.encode() == as_written(payload) + b"}", "the payload is written in another way")
        record |= {"payload": payload}
    return record


def as_written(payload: bytes) -> bytes:
    if plain_object(payload):
        return b',"payload":' + payload
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return b',"body64":"' + base64.b64encode(payload) + b'"'
    short = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}
    return b',"body":"' + text.translate({n: f"\\u{n:04x}" for n in range(32)} | short).encode() + b'"'


def plain_object(payload: bytes) -> bool:
    outside = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", payload)
    depths = accumulate((byte in b"{[") - (byte in b"}]") for byte in outside)
    if payload[:1] != b"{" or payload[-1:] != b"}" or min(payload) < 0x20 or max(depths) > 128:
        return False
    try:
        json.loads(payload.decode(), parse_int=str, parse_float=str, parse_constant=lambda word: check(False, word))
        return True
    except ValueError:
        return False


def crash_explains(rest: bytes, offset: int) -> bool:
    """The end of the file cuts the first line, or NULs that begin in it run to a sector's end or to the file's."""
    runs = [run for run in re.finditer(rb"\0+", rest) if run.start() < rest.find(b"\n")]
    return b"\n" not in rest or any(run.end() == len(rest) or (offset + run.end()) % 512 == 0 for run in runs)
