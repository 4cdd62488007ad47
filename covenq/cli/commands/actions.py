"""`covenq replay`, `covenq reroute`, `covenq requeue`, `covenq cancel`: act on stored deliveries and tasks."""

from __future__ import annotations

from typing import Annotated

import typer

from covenq.cli.bulk import Wording, ids_or_filter, operator_name, run_bulk
from covenq.cli.context import source
from covenq.cli.options import (
    ConfigOption,
    DataOption,
    Deliveries,
    DryRun,
    Json,
    Jsonl,
    Reason,
    Tasks,
    TokenFileOption,
    UrlOption,
    Yes,
    complete_route,
)

REPLAY = Wording("replay", "replayed", "delivery", "deliveries", queues=True)
REROUTE = Wording("reroute", "rerouted", "delivery", "deliveries", queues=True)
IGNORE = Wording("ignore", "ignored", "delivery", "deliveries")
REQUEUE = Wording("requeue", "requeued", "task", "tasks", queues=True)
CANCEL = Wording("cancel", "cancelled", "task", "tasks")


def replay(
    words: Deliveries = None,
    route: Annotated[
        str | None,
        typer.Option(
            "--route",
            metavar="NAME",
            help="By this route alone, not by all of today's.",
            autocompletion=complete_route,
        ),
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="URL", help="By no route: forward each to this address, once.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Also what has completed already.")] = False,
    reason: Reason = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Make new tasks of stored deliveries.

    Today's routes decide. The arguments are ids (GUID or hook/GUID), - for ids on stdin, or a filter.

    \b
      covenq replay 72d3162e-cc78-11e3-81ab-4c9367dc0958
      covenq replay state:failed event:issues since:2d --dry-run
    """
    from covenq.operate import operations
    from covenq.operate.parameters import Replay

    chosen = ids_or_filter(words, "deliveries")
    with source(data, config) as opened:
        wanted = Replay(route=route, to=to, force=force, reason=reason, dry_run=dry_run, by=operator_name())
        run_bulk(opened, operations.REPLAY, wanted, REPLAY, chosen, yes, json)


def reroute(
    words: Deliveries = None,
    ignore: Annotated[
        bool, typer.Option("--ignore", help="Make no tasks: what was done by hand, or isn't wanted, is ignored.")
    ] = False,
    reason: Reason = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Route deliveries that have no task.

    Those that are still `received`, and those that older rules ignored: today's routes decide. The arguments are ids
    (GUID or hook/GUID), - for ids on stdin, or a filter.

    \b
      covenq reroute state:received
      covenq reroute state:ignored event:issues since:2d --dry-run
      covenq reroute state:received reason:held --ignore
    """
    from covenq.operate import operations
    from covenq.operate.parameters import Reroute

    chosen = ids_or_filter(words, "deliveries")
    with source(data, config) as opened:
        wanted = Reroute(reason=reason, dry_run=dry_run, by=operator_name(), ignore=ignore)
        run_bulk(opened, operations.REROUTE, wanted, IGNORE if ignore else REROUTE, chosen, yes, json)


def requeue(
    words: Tasks = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Run failed or cancelled tasks again.

    Failed, cancelled and superseded tasks, as they were decided then. The arguments are task ids, - for ids on stdin, or
    a filter.

    \b
      covenq requeue t2f0c66d1bb1e3c5d8a9e0b77
      covenq requeue state:failed category:timeout since:1h --yes
    """
    from covenq.operate import operations
    from covenq.operate.parameters import Selection

    chosen = ids_or_filter(words, "tasks")
    with source(data, config) as opened:
        wanted = Selection(reason=reason, dry_run=dry_run, by=operator_name())
        run_bulk(opened, operations.REQUEUE, wanted, REQUEUE, chosen, yes, json)


def cancel(
    words: Tasks = None,
    reason: Reason = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """End tasks that wait or run.

    What runs is stopped. `covenq requeue` takes it back. The arguments are task ids, - for ids on stdin, or a filter.

    \b
      covenq cancel t2f0c66d1bb1e3c5d8a9e0b77 --reason "the issue is solved"
      covenq cancel route:fix-issue state:queued --dry-run
    """
    from covenq.operate import operations
    from covenq.operate.parameters import Selection

    chosen = ids_or_filter(words, "tasks")
    with source(data, config) as opened:
        wanted = Selection(reason=reason, dry_run=dry_run, by=operator_name())
        run_bulk(opened, operations.CANCEL, wanted, CANCEL, chosen, yes, json)
