"""`covenq info`: every path and setting in effect, and its source."""

from __future__ import annotations

import os
import platform
import sys
from typing import TYPE_CHECKING

from covenq import __version__
from covenq.cli import output
from covenq.cli.context import locate_in_use
from covenq.cli.options import ConfigOption, DataOption, Json, Jsonl
from covenq.cli.output import clean
from covenq.cli.table import Column, print_table

if TYPE_CHECKING:
    from covenq.config.effective import Setting, UsedPath

COLUMNS: list[Column[Setting]] = [
    Column("SETTING", lambda item: item["name"]),
    Column("VALUE", lambda item: _value(item["value"]), shrink=20, wraps=True),
    Column("SOURCE", lambda item: item["by"] or item["source"], shrink=12, wraps=True, rank=1),
]
PATHS: list[Column[UsedPath]] = [
    Column("PATH", lambda item: item["name"]),
    Column("", lambda item: "" if item["there"] else "missing" if item["there"] is False else "unreadable"),
    Column("WHERE", lambda item: item["path"] or "-", wraps=True),
    Column("WHAT", lambda item: item["what"], shrink=10, wraps=True, rank=1),
]


def info(json: Json = False, jsonl: Jsonl = False, data: DataOption = None, config: ConfigOption = None) -> None:
    """Show every path and setting in effect, and who says so.

    An option, the environment, the file, or a default. Without --config the file is the running daemon's; what that took up at
    its start may differ: see `covenq status`.
    """
    import sqlite3

    from covenq.config.effective import effective_paths, effective_settings

    of_daemon: list[str] = []
    where = locate_in_use(data, config, say=of_daemon.append)
    by = "the running daemon's" if of_daemon and not (config or os.environ.get("COVENQ_CONFIG")) else None
    paths = effective_paths(where.config, where.data, os.environ, config_option=config, config_by=by)
    settings = list(effective_settings(where.config, where.data, os.environ, data_option=data))
    found = {
        "version": __version__,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "program": sys.argv[0],
        "paths": paths,
        "settings": settings,
    }
    if json:
        output.emit_json(found)
        return
    output.prose(f"covenq {__version__}, Python {found['python']}, SQLite {found['sqlite']}, {clean(found['system'])}")
    output.line()
    print_table(PATHS, paths)
    output.line()
    print_table(COLUMNS, settings)


def _value(value: object) -> str:
    """A setting's value as a person would write it."""
    if value is None or value in ([], {}):
        return "-"
    if isinstance(value, list):
        return ", ".join(_value(one) for one in value)
    if isinstance(value, dict):
        if "from" in value:
            return f"{value['name']} ({value['from']}{'' if value['where'] is None else ' ' + value['where']})"
        told = [f"{name} {_value(one)}" for name, one in value.items() if one is not None]
        return ", ".join(told) or "-"
    if isinstance(value, float) and value.is_integer():
        return f"{int(value)} s"
    return str(value)
