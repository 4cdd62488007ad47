"""The parameters of operations: a Struct each, the same in a call, in a request's body and in its schema.

The API's names are the fields' own, what has a default may be left out or be null, and `Meta` has what the OpenAPI document
says of a field. A Struct is made without checks: over HTTP `covenq.http.api.parameters` makes them, in sentences for people, and
what a value must be beyond its type is the operation's to say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from covenq.errors import UsageError
from covenq.operate.imported import ImportedDelivery, parse_item
from covenq.operate.wished import WishedDelivery, parse_wished

if TYPE_CHECKING:
    from covenq.filter.grammar import Filter

Words = str | list[str]
"""Terms of the filter grammar, in one text or word by word."""

Operator = Annotated[str | None, Meta(description="Who acts; without it the token's name, or `api`.")]
Reason = Annotated[str | None, Meta(description="Kept for ever with what is done.")]
Ids = Annotated[list[str], Meta(extra={"noun": "a list of ids"})]
FilterWords = Annotated[
    Words | None,
    Meta(
        description="The filter grammar, covenq-filter(7), whole or word by word. Empty is everything.",
        extra={"noun": "a text"},
    ),
]
Limit = Annotated[
    int, Meta(ge=0, le=(1 << 31) - 1, description="Of a dry run by a filter: how many to look at, about. 0 is all.")
]
After = Annotated[str | None, Meta(description="Of such: `next` of the answer before.")]
Items = Annotated[list[ImportedDelivery], Meta(extra={"noun": "a list of deliveries", "parse": parse_item})]
Wished = Annotated[list[WishedDelivery], Meta(extra={"noun": "a list of deliveries", "parse": parse_wished})]
Installation = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
RepositoryNumber = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]


class Parameters(Struct, kw_only=True, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What every operation takes."""

    by: Operator = None


class Notify(Parameters, kw_only=True, frozen=True):
    """A test notice, now, to all who are told of transitions."""


class HandOver(Parameters, kw_only=True, frozen=True):
    """Let another node lead, now."""


class Selection(Parameters, kw_only=True, frozen=True):
    """What is done to many: to those with these `ids`, or to all that match the `filter`, one of the two.

    Ids of deliveries are GUID or hook/GUID. The filter "" is everything. `dry_run` plans and does nothing; so that a plan is
    bounded however many match, it may be made of the newest `limit` or so (whole pages of them), and then of those `after`.
    """

    ids: Ids = []
    filter: FilterWords = None
    reason: Reason = None
    dry_run: bool = False
    limit: Limit = 0
    after: After = None

    def parsed_filter(self) -> Filter | None:
        """The filter, parsed. Raises FilterError, and UsageError where a plan in parts is asked for and can't be made."""
        if self.limit < 0:
            raise UsageError(f"a limit of {self.limit}", hint="0 is all.")
        if (self.limit or self.after is not None) and not (self.dry_run and self.filter is not None):
            raise UsageError(
                "only the plan for a filter is made in parts", hint="`limit` and `after` go with a filter and dry_run."
            )
        from covenq.filter.grammar import parse  # a command whose daemon parses it needs no grammar

        return None if self.filter is None else parse(self.filter)


class Replay(Selection, kw_only=True, frozen=True):
    """New tasks of deliveries: by the `route` alone, or forwarded `to` an address; `force`: also of those that completed."""

    route: str | None = None
    to: str | None = None
    force: bool = False


class Reroute(Selection, kw_only=True, frozen=True):
    """First tasks of deliveries; `ignore`: none instead, for good, of those that are still `received`."""

    ignore: bool = False


class Redact(Selection, kw_only=True, frozen=True):
    """Erasure: by `ids`, `filter`, `repo` (OWNER/NAME, in any case), `repo_id` or `installation`, one of the five.

    A repository is meant with all the names that it has had. `repo_id` tells two apart that had the same.
    """

    repo: Annotated[str | None, Meta(description="OWNER/NAME")] = None
    repo_id: RepositoryNumber | None = None
    installation: Installation | None = None


class Import(Parameters, kw_only=True, frozen=True):
    """Deliveries to record; `routed`: by today's routes at once, else they are ignored until they are rerouted."""

    items: Items = []
    routed: bool = False
    reason: Reason = None
    dry_run: bool = False


class Reconcile(Parameters, kw_only=True, frozen=True):
    """Deliveries of the `log` of that name whose redelivery GitHub will be asked for; none: what was asked for is asked."""

    log: str
    items: Wished = []


class Compact(Parameters, kw_only=True, frozen=True):
    """Retention, now."""

    dry_run: bool = False


class Unbind(Parameters, kw_only=True, frozen=True):
    """What the scope of the secret of that name is bound to: a repository's, or all."""

    secret: str
    repo: Annotated[str | None, Meta(description="OWNER/NAME as the scope has it, in any case.")] = None
    reason: Reason = None
    dry_run: bool = False


class Keep(Parameters, kw_only=True, frozen=True):
    """The uninstalled installation whose content is to be kept."""

    installation: Installation
    reason: Reason = None
    dry_run: bool = False


class Pause(Parameters, kw_only=True, frozen=True):
    """What is paused or resumed: `what` is one of `covenq.state.fold_pauses.PauseTarget`."""

    what: Annotated[str, Meta(extra_json_schema={"enum": ["intake", "worker", "route", "repo", "installation"]})]
    name: Annotated[str | None, Meta(description="The route, OWNER/NAME, or the installation's number.")] = None
    reason: Reason = None
    dry_run: bool = False
