"""`covenq handover`: let another node lead, before the machine of the one that leads is maintained."""

from __future__ import annotations

from covenq.cli import output
from covenq.cli.context import source
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl, TokenFileOption, UrlOption
from covenq.cli.output import clean


def handover(
    json: Json = False,
    jsonl: Jsonl = False,
    data: DataOption = None,
    config: ConfigOption = None,
    url: UrlOption = None,
    token_file: TokenFileOption = None,
) -> None:
    """Let another node lead, and say which does.

    Asks this machine's daemon, or the one of --url, which has to be the one that leads. What it runs is ended and runs again on
    the other; deliveries are taken in until then, and none is refused. Afterwards this one stands by, and may be stopped. Exits
    with 4 where no other node stands by, or the journal is in files.

    \b
      covenq nodes
      covenq handover
    """
    from covenq.operate import operations
    from covenq.operate.operator import operator_name
    from covenq.operate.parameters import HandOver

    with source(data, config) as opened:
        done = opened.act(operations.HANDOVER, HandOver(by=operator_name("cli")))
    with output.report_of_act():
        if json:
            output.emit_json(done)
            return
        where = f", at {clean(done.address)}" if done.address else ""
        output.prose(
            f"{clean(done.node)} leads now{where}: deliveries waited for it for {done.waited_ms / 1000:.1f} s. The node that was "
            "asked starts again, and stands by."
        )
