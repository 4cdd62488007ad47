"""What options mean beside what a command does with them: `--jsonl`, `--url` and `--token-file`, which it doesn't use itself,
and those that say where it looks, which the commands that it suggests need too (`covenq.client.suggestion`).

`covenq.cli.app` lets `taken` read them before any command's own function runs, and after every argument was parsed. The
function then finds what was chosen at `covenq.cli.output.is_json_lines` and `covenq.cli.remote.selected_remote`, where the
functions that print, and that open a source, look by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from covenq.cli import output, remote
from covenq.client import suggestion
from covenq.errors import Failure, UsageError


@contextmanager
def taken(given: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The arguments for a command's function, by its parameters' names; for the `with`, what the shared ones chose holds.

    `json` is then true for `--jsonl` too. Raises UsageError for options that contradict each other.
    """
    with ExitStack() as chosen:
        arguments = dict(given)
        if "token_file" in given:  # not `url`: that of `covenq send` is another
            urls = given.get("url")
            listed = (
                [str(url) for url in urls]
                if isinstance(urls, list | tuple)
                else [urls]
                if isinstance(urls, str)
                else []
            )
            chosen.enter_context(remote.selection(listed, _text(given, "token_file"), _text(given, "data")))
        if "jsonl" in given:
            if given["jsonl"] and given["json"]:
                raise UsageError(
                    "--json and --jsonl can't be combined", hint="--json is one document, --jsonl an object a line."
                )
            chosen.enter_context(output.json_lines(bool(given["jsonl"])))
            arguments["json"] = given["json"] or given["jsonl"]
        chosen.enter_context(suggestion.options_given(given))
        try:
            yield arguments
        except Failure as error:
            error.hint = suggestion.with_suggestions(error.hint)
            raise


def _text(given: Mapping[str, object], name: str) -> str | None:
    value = given[name]
    return value if isinstance(value, str) else None
