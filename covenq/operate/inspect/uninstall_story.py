"""What became of an uninstalled installation, in the history of the delivery that told of its deletion."""

from __future__ import annotations

from covenq.model.uninstall_record import UninstallKind
from covenq.operate.inspect.story_text import because, by_whom
from covenq.text import counted
from journal.records import Record

_SHOWN = {"github": "GitHub has it no more", "deliveries": "nothing came of it since"}


def uninstall_words(note: Record) -> str:
    """One of the records of `covenq.model.uninstall_record`, in a sentence."""
    data = note.data
    what = f"installation {data.get('installation')}"
    match note.kind:
        case UninstallKind.NOTICED:
            return f"{what} was uninstalled: the grace began, after which its content is erased"
        case UninstallKind.KEPT if data.get("policy") is True:
            return f"the content of {what} is kept: the configuration says so by now"
        case UninstallKind.KEPT:
            return f"the content of {what} is kept{because(data.get('by'), data.get('reason'))}"
        case UninstallKind.BEGUN:
            return f"the content of {what} began to be erased: {_SHOWN.get(str(data.get('shown_by')), 'it is gone')}"
        case UninstallKind.DONE:
            deliveries, tasks = (_number(data.get(name)) for name in ("deliveries", "tasks"))
            of = f"{counted(deliveries, 'delivery', 'deliveries')} with {counted(tasks, 'task')}"
            return f"the content of {what} was erased: {of}"
    return f"{what}: {note.kind}{by_whom(note)}"


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
