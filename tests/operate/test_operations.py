"""The table of operations: what stands in it can be done through the API, both clients and the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import Struct

from covenq.cli.app import COMMANDS, build
from covenq.client.local import LocalSource
from covenq.client.open import open_source
from covenq.client.remote import RemoteSource
from covenq.errors import CovenqError, UsageError
from covenq.http.openapi.document import document
from covenq.operate import operations
from covenq.operate.operations import OPERATIONS, Context, Operation
from covenq.operate.parameters import Pause, Replay, Selection
from covenq.state.fold_pauses import PauseTarget
from tests.support.journals.chosen import config_in
from tests.support.requests import issue
from tests.support.serving import serving


class Counted(Struct):
    """How many tasks there are of those ids, and who asked."""

    tasks: int
    by: str | None


def _count(context: Context, parameters: Selection) -> Counted:
    if not parameters.ids:
        raise UsageError("count what?")
    with context.writing() as (_, conn):
        found = [conn.execute("SELECT 1 FROM tasks WHERE id = ?", (id,)).fetchone() for id in parameters.ids]
    return Counted(sum(row is not None for row in found), parameters.by)


COUNT = Operation("count-tasks", "Count tasks.", Selection, Counted, _count)


def test_an_operation_in_the_table_is_had_of_a_daemon_of_the_files_and_over_http(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operations, "OPERATIONS", (*OPERATIONS, COUNT))
    with serving(data) as served:
        ids = served.post("issues", issue()).json["tasks"]
        wanted = Selection(ids=[*ids, "t0"], by="me")
        answer = served.ask("/api/v1/count-tasks", {"ids": [*ids, "t0"], "by": "me"})
        assert answer.body == b'{"ok":true,"tasks":1,"by":"me"}'
        assert served.ask("/api/v1/count-tasks", {"ids": ["x"]}).json["by"] == "api"
        assert served.ask("/api/v1/count-tasks", {"idz": []}).json["detail"] == "unknown key 'idz'"
        with open_source(data, config_in(data)) as source:
            assert isinstance(source, RemoteSource)
            assert source.act(COUNT, wanted) == Counted(1, "me")
            with pytest.raises(UsageError, match="count what"):
                source.act(COUNT, Selection())
    with open_source(data, config_in(data)) as source:
        assert isinstance(source, LocalSource)
        assert source.act(COUNT, wanted) == Counted(1, "me")


def test_an_answer_of_another_kind_is_an_error_with_a_sentence(data: Path) -> None:
    class Other(Struct):
        missing: int

    wrong = Operation("cancel", "", Selection, Other, lambda context, parameters: Other(1))
    with (
        serving(data),
        open_source(data, config_in(data)) as source,
        pytest.raises(CovenqError, match="missing") as failed,
    ):
        source.act(wrong, Selection(filter=""))
    assert str(failed.value).startswith("the daemon's answer is not what this version takes: ")


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
def test_every_operation_has_a_route_a_schema_and_a_command(operation: operations.AnyOperation) -> None:
    said = document()["paths"][f"/api/v1/{operation.name}"]["post"]
    assert said["summary"] == operation.summary and said["x-access"] == "operate"
    schema = said["requestBody"]["content"]["application/json"]["schema"]
    assert list(schema["properties"]) == list(operation.parameters.__struct_encode_fields__)
    assert operation.name in {*COMMANDS, *getattr(build("secrets"), "commands", {})}


def test_names_are_once_in_the_table() -> None:
    assert len({one.name for one in OPERATIONS}) == len(OPERATIONS)


def test_the_schema_of_a_pause_has_what_can_be_paused() -> None:
    schema = document()["paths"]["/api/v1/pause"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["what"] == {"type": "string", "enum": [str(one) for one in PauseTarget]}
    assert schema["required"] == ["what"] and Pause(what="worker").name is None


def test_a_filter_that_is_none_is_told_before_anything_is_opened(data: Path) -> None:
    with pytest.raises(UsageError, match="column 1"):
        LocalSource(data, config_in(data)).act(operations.REPLAY, Replay(filter="stat:failed"))
    assert not data.exists()
