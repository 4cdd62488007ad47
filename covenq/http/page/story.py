"""GET /page/deliveries/GUID, /page/deliveries/HOOK/GUID and /page/why?id=: what became of one delivery, and why.

They serve the decision that a ticket waits for: what do I answer, and whom do I ask to do what? The verdict stands first, as
`covenq why` has it, and the address can be pasted into the ticket: it holds ids alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import falcon
from msgspec.structs import replace

from covenq.errors import Ambiguous
from covenq.filter.explain import Term
from covenq.http.api.params import id_of
from covenq.http.page import links
from covenq.http.page.access import scope_of_page, session_of
from covenq.http.page.listing import Row, about_text, delivery_row, event_text
from covenq.http.page.moment import Moment, moment
from covenq.http.page.render import redirect, respond_page
from covenq.http.page.sources import PageSources, only
from covenq.intake import refusal_log
from covenq.model.palette import STATE_TONES, Tone
from covenq.model.token_scope import Scope
from covenq.operate.inspect import why
from covenq.operate.inspect.history import Level, Story, StoryVerdict, Why
from covenq.operate.inspect.story_text import lines, not_held_words, refused_lines

TONES: dict[Level, Tone] = {"ok": "good", "active": "active", "idle": "muted", "warning": "warning", "error": "bad"}
OTHER_RULES = "by the link below"
"""How the rules that are folded are had, as a sentence's end."""


@dataclass(frozen=True, slots=True)
class Line:
    """Of a section: a label, which may be a command, and words."""

    label: str
    words: str
    is_command: bool


@dataclass(frozen=True, slots=True)
class Section:
    heading: str
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Verdict:
    text: str
    tone: Tone
    command: str | None


@dataclass(frozen=True, slots=True)
class StoryView:
    """`path` is the page's own, `payload` that of its payload, where that is shown."""

    id: str
    path: str
    verdict: Verdict | None
    state: str
    tone: Tone | None
    what: str
    about: str
    title: str
    sender: str
    received: Moment | None
    sections: list[Section]
    more_rules: str | None
    payload: str | None


@dataclass(frozen=True, slots=True)
class FoundView:
    """What an id or an address is of, if not of one delivery: of several, or of nothing that is held."""

    asked: str
    verdict: Verdict | None
    rows: list[Row]
    more: bool
    notes: list[Section]
    hint: str | None


class StoryPage:
    """One delivery."""

    def __init__(self, sources: PageSources) -> None:
        self._sources = sources

    def on_get(self, req: falcon.Request, resp: falcon.Response, one: str, two: str | None = None) -> None:
        all_rules = only(req, "rules").get("rules") == "1"
        answer = answer_of(self._sources, id_of(one, two), scope_of_page(req))
        respond_answer(req, resp, self._sources, answer, all_rules=all_rules)

    on_head = on_get


class LookUp:
    """Whatever support is given: an id, a task's id, owner/name#7, or an address on GitHub."""

    def __init__(self, sources: PageSources) -> None:
        self._sources = sources

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        asked = only(req, "id").get("id", "").strip()
        answer = answer_of(self._sources, asked, scope_of_page(req))
        if len(answer.stories) == 1:
            one = answer.stories[0].delivery
            redirect(resp, links.delivery(one.hook, one.guid))
            return
        respond_answer(req, resp, self._sources, answer)

    on_head = on_get


def answer_of(sources: PageSources, asked: str, scope: Scope | None) -> Why:
    """As `covenq why` and the API have it, but that a GUID of several hooks is an answer. Raises UsageError."""
    with sources.reading(scope) as (conn, records):

        def read_log(task: str, attempt: int, stream: str, last: int) -> bytes:
            return sources.logs.quoted(conn, task, attempt, stream, last)

        def answered(asked: str) -> Why:
            return why.why(
                conn,
                records,
                sources.config.config,
                asked,
                now=sources.clock(),
                waiting=why.waiting(sources.config.caps),
                refused=lambda: refusal_log.read(sources.data),
                read_log=read_log,
            )

        try:
            return answered(asked)
        except Ambiguous as error:
            return Why(asked, "target", stories=[story for id in error.ids for story in answered(id).stories])


def respond_answer(
    req: falcon.Request, resp: falcon.Response, sources: PageSources, answer: Why, *, all_rules: bool = False
) -> None:
    now = sources.clock()
    resp.context.shown = len(answer.stories)
    if len(answer.stories) == 1:
        view = story_view(answer, now, payloads=sources.payloads, all_rules=all_rules)
        respond_page(resp, "story", session=session_of(req), view=view)
    else:
        found = found_view(answer, now)
        respond_page(resp, "found", 200 if answer.stories else 404, session=session_of(req), view=found)


def story_view(answer: Why, now: float, *, payloads: bool, all_rules: bool) -> StoryView:
    """The view of an answer about one delivery."""
    story = answer.stories[0] if payloads else without_payload(answer.stories[0])
    delivery = story.delivery
    path = links.delivery(delivery.hook, delivery.guid)
    told = lines(story, all_rules=all_rules, more=OTHER_RULES)
    sections = _sections(told, story.id)
    is_folded = any(OTHER_RULES in line.words for section in sections for line in section.lines)
    has_payload = payloads and not (delivery.redacted or delivery.payload_dropped)
    return StoryView(
        story.id,
        path,
        _verdict(story.verdict),
        delivery.state,
        STATE_TONES.get(delivery.state),
        event_text(delivery.event, delivery.action),
        about_text(delivery.repo, delivery.number),
        delivery.title or "",
        delivery.sender or "",
        moment(delivery.received_at, now),
        [*sections, *_sections(refused_lines(answer.refused), story.id)],
        f"{path}?rules=1" if is_folded else None,
        f"{path}/payload" if has_payload else None,
    )


def without_payload(story: Story) -> Story:
    """The story without what may repeat the payload: what was written, and the values that terms on it looked at."""
    routes = [replace(one, terms=[_unseen(term) for term in one.terms]) for one in story.rules.routes]
    return replace(
        story,
        tasks=[replace(task, last_output=None) for task in story.tasks],
        rules=replace(story.rules, routes=routes),
    )


def _unseen(term: Term) -> Term:
    """Of a payload it isn't said either whether there was a value."""
    return replace(term, seen=["not shown here"]) if "payload" in term.text.lower() else term


def found_view(answer: Why, now: float) -> FoundView:
    rows = [_row(story, now) for story in answer.stories]
    notes = _sections(refused_lines(answer.refused), "")
    hint = None
    for one in answer.not_held[-1:]:
        words, hint = not_held_words(one, now)
        notes.insert(0, Section("On GitHub", [Line("", words, False)]))
    if not rows and hint is None:
        hint = "GitHub shows, in the settings of its hook or App, whether it was sent, and what it was answered."
    return FoundView(answer.asked, _verdict(answer.verdict), rows, answer.more, notes, hint)


def _row(story: Story, now: float) -> Row:
    row = delivery_row(story.delivery, now)
    told = story.answers.now.words if story.verdict is None else story.verdict.text
    return Row(row.href, row.when, row.state, row.tone, row.what, row.about, told, row.id)


def _verdict(found: StoryVerdict | None) -> Verdict | None:
    return None if found is None else Verdict(found.text, TONES[found.level], found.command)


def _sections(told: Iterable[tuple[str, str]], id: str) -> list[Section]:
    """Lines under their headings. The first heading of a story is the delivery's, which the page says in its own."""
    found: list[Section] = []
    for label, words in told:
        if not words:
            found.append(Section("What became of it" if label == f"delivery {id}" else _capital(label), []))
        elif found and label != "what it is":  # the page's own heading
            found[-1].lines.append(Line(label, words, label.startswith("covenq ")))
    return found


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
