"""The hints of refusals: one table from a refusal's word to what an operator does about it.

covenq-http(7) repeats the table, and tests hold it against the words in the code and against the manual.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path

import msgspec

from covenq.intake import refusal_log
from covenq.intake.refusal_log import Refusal

HINTS: Mapping[str, str] = {
    "body_not_json": "The signature is right, and the body isn't JSON: whoever signed it is not GitHub.",
    "body_not_object": "The signature is right, and the body is no JSON object: whoever signed it is not GitHub.",
    "body_too_deep": "The body is nested deeper than GitHub's are.",
    "body_too_large": "GitHub sends no more than 25 MiB; look at [server] body_limit.",
    "busy": "There were more connections than can be held, or no room in TMPDIR for its body. {again}",
    "content_encoding_unsupported": (
        "GitHub compresses no body: something between GitHub and covenq does. Have it pass bodies on as they are: see "
        "covenq-proxy(7)."
    ),
    "content_type_unsupported": (
        "Set the hook's content type to application/json, or the form GitHub offers; a proxy must keep it."
    ),
    "delivery_conflict": "Another body came under this delivery's id first, and stands: look at it with `covenq show`.",
    "delivery_malformed": "X-GitHub-Delivery is no id: GitHub's is a UUID.",
    "delivery_missing": "GitHub always sends X-GitHub-Delivery: a proxy took it out, or this isn't GitHub.",
    "delivery_unstorable": "No journal could hold it; say so to covenq's makers.",
    "event_malformed": "X-GitHub-Event is no event of GitHub's.",
    "event_missing": "GitHub always sends X-GitHub-Event: a proxy took it out, or this isn't GitHub.",
    "form_cross_site": "A form of /page came from another site, or a proxy in front changes Host: covenq-proxy(7).",
    "form_payload_repeated": "A form has one field `payload`: whoever signed it is not GitHub.",
    "form_without_payload": "GitHub's forms have a field `payload`: set the hook's content type anew.",
    "headers_too_large": "The headers are over 64 KiB: a proxy adds to them, or this isn't GitHub.",
    "hook_malformed": "X-GitHub-Hook-ID is no number: a proxy rewrote it, or this isn't GitHub.",
    "hook_not_allowed": "The hook is not among [github] hooks: add it there if it is yours.",
    "intake_closed": (
        "The disk was low, or failed, or the database was away, or the journal was damaged: `covenq status`. {again}"
    ),
    "intake_paused": "The intake was paused: `covenq resume intake`. {again}",
    "host_not_allowed": "A browser asked for /page under a name that [api] hosts leaves out: add it there if it is covenq's.",
    "internal": "A fault of covenq's: its log says where. {again}",
    "journal_closed": "covenq was stopping. {again}",
    "journal_full": "The disk had no room. Free some. {again}",
    "journal_poisoned": "The disk failed to sync (dmesg), or another process took the database's journal: see the log. {again}",
    "journal_unavailable": "The journal could not be written: covenq's log says why. {again}",
    "login_limited": "Ten log-ins to /page from there had failed within a minute: `covenq refused` has them.",
    "method_not_allowed": (
        "Deliveries are POSTed to /webhook, or to [server] path. A redirect on the way makes a GET of a POST: give GitHub the "
        "final address."
    ),
    "path_unknown": (
        "The hook's Payload URL has another path: deliveries go to /webhook, or to [server] path. Mind a path that the proxy "
        "adds or takes."
    ),
    "request_malformed": (
        "It isn't well-formed HTTP: look at what is between the client and covenq, HTTPS spoken to a plain port too."
    ),
    "request_timeout": (
        "The request didn't come to its end in time: a slow or broken line, or somebody who holds connections open."
    ),
    "role_insufficient": "The token is of another role: `covenq tokens`.",
    "scope_bound_elsewhere": (
        "Another repository has this name now than the one that the secret's scope was bound to by its first delivery: `covenq "
        "secrets` shows which. If this one is meant, `covenq secrets unbind NAME OWNER/NAME`, and redeliver it."
    ),
    "scope_insufficient": "The token is for some installations alone, and this is about more: `covenq tokens`.",
    "signature_missing": (
        "The hook has no secret: set one in GitHub's settings of the webhook. Or a proxy took the header out."
    ),
    "signature_missing/sha1": (
        "It has X-Hub-Signature (SHA-1) alone, which covenq doesn't take: GitHub has sent X-Hub-Signature-256 beside it since "
        "2020. A proxy took that out, or this isn't GitHub."
    ),
    "signature_out_of_scope": (
        "The secret's scope leaves this hook, repository or installation out: see [github] webhook_secrets."
    ),
    "signature_wrong": (
        "The hook's secret is none of covenq's (`covenq secrets`): set it anew in GitHub. A blank, a quote or a byte order "
        "mark around covenq's counts as part of it: `covenq doctor` names such. If only some fail, "
        "look for a proxy that changes bodies: covenq-proxy(7)."
    ),
    "signature_wrong/empty": (
        "The body was empty when it came here: a proxy, or a redirect, dropped it. See covenq-proxy(7)."
    ),
    "signature_wrong/form": (
        "The body is a form and its Content-Type says JSON: something between GitHub and covenq rewrote it. "
        "See covenq-proxy(7)."
    ),
    "signature_wrong/json": (
        "The body is JSON and its Content-Type says form: something between GitHub and covenq rewrote it. See "
        "covenq-proxy(7)."
    ),
    "signature_wrong/reformatted": (
        "The body isn't spaced as GitHub's JSON is: something between GitHub and covenq decoded it and wrote "
        "it anew. The raw bytes must arrive: see covenq-proxy(7)."
    ),
    "standby": "No node led for 8 s, or the one that does gave no answer: `covenq status` of each says why. {again}",
    "starting": "covenq was restarted, and that took longer than 8 s: its log says why. {again}",
    "state_behind": "The state was behind the journal: `covenq status`. {again}",
    "streams_busy": "There were as many event streams as there may be: close some.",
    "token_in_query": "A token belongs in the Authorization header; take this one back: `covenq tokens revoke`.",
    "token_missing": "The API needs `Authorization: Bearer`: `covenq tokens new` makes one.",
    "token_wrong": "The token isn't known, or was revoked: `covenq tokens`.",
    "transfer_encoding": "A proxy compresses, or otherwise encodes, the transfer: only chunked is understood.",
    "twin": (
        "This body came before under another id, and [github] twins says to refuse that: perhaps it was "
        "captured and sent again."
    ),
}
"""The word of a refusal, some with the anomaly of the body (`refusal_evidence.body_anomaly`) or the kind of its signature, to
what an operator does next."""


REDELIVER = "Redeliver it from GitHub."
_FETCHED = "It is fetched from GitHub's delivery log by itself, or by `covenq reconcile`."
"""What {again} is in a hint: how the delivery comes again."""


def hint_of(refusal: Refusal, fetched: bool) -> str:
    """The hint for a line of the log (`covenq.intake.refusal_log`); empty for a word that this version doesn't know.

    `fetched`: GitHub's delivery log is configured, so that nobody needs to redeliver anything.
    """
    word = refusal.error
    hint = HINTS.get(f"{word}/{refusal.body}") or HINTS.get(f"{word}/{refusal.signature}") or HINTS.get(word) or ""
    return hint.replace("{again}", _FETCHED if fetched else REDELIVER)


def with_hint(refusal: Refusal, fetched: bool) -> Refusal:
    return msgspec.structs.replace(refusal, hint=hint_of(refusal, fetched), verified=False)


def latest(data: Path, limit: int, fetched: bool) -> list[Refusal]:
    """The newest refusals that are kept, newest first, each with its hint as by `hint_of`. `limit` 0 is all there are."""
    kept = deque(refusal_log.read(data), maxlen=limit or None)
    return [with_hint(one, fetched) for one in reversed(kept)]
