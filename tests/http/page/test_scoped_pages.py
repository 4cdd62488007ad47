"""The pages for who logged in with a token for one installation."""

from __future__ import annotations

import re
from pathlib import Path

from covenq.config.api_tokens import create
from covenq.intake import read_log
from covenq.model.token_scope import Scope
from tests.support.browser import Browser
from tests.support.requests import issue, new_guid
from tests.support.serving import serving

MINE, THEIRS = 5111, 6222


def test_pages_show_what_is_in_scope_and_of_all_else_what_never_was(data: Path) -> None:
    with serving(data, {"api": {"page": True, "payloads": True}}) as served:
        guids, tasks = {}, {}
        for installation, repo in ((MINE, "octo/mine"), (THEIRS, "octo/zzforeign")):
            guids[installation] = new_guid()
            said = served.post(
                "issues", issue(7, repo=repo, installation={"id": installation}), guids[installation], "11"
            )
            tasks[installation] = said.json["tasks"][0]
        browser = Browser(served.remote_port)
        shown = browser.log_in(create(data / "tokens.json", "acme", "read", Scope((MINE,))))
        assert shown.url.endswith("/page/deliveries"), "the status is the whole machine's"
        assert "installation 5111" in shown.text and "Status" not in shown.text
        for path in ("/page/deliveries", "/page/tasks", "/page/deliveries?filter=state:queued"):
            found = browser.get(path).text
            assert "octo/mine" in found and "zzforeign" not in found
        mine, theirs, never = guids[MINE], guids[THEIRS], new_guid()
        pages = [(f"/page/deliveries/11/{mine}", f"/page/deliveries/11/{theirs}", f"/page/deliveries/11/{never}")]
        pages += [(f"/page/deliveries/{mine}", f"/page/deliveries/{theirs}", f"/page/deliveries/{never}")]
        pages += [(f"{one}/payload", f"{other}/payload", f"{none}/payload") for one, other, none in pages[:1]]
        pages += [(f"/page/why?id={mine}", f"/page/why?id={theirs}", f"/page/why?id={never}")]
        pages += [(f"/page/why?id={tasks[MINE]}", f"/page/why?id={tasks[THEIRS]}", f"/page/why?id=t{'0f' * 12}")]
        pages += [("/page/why?id=octo/mine%237", "/page/why?id=octo/zzforeign%237", "/page/why?id=octo/neverwas1%237")]
        names = re.compile(
            "|".join((theirs, never, tasks[THEIRS], f"t{'0f' * 12}", "octo/zzforeign", "octo/neverwas1"))
        )
        for own, other, none in pages:
            assert browser.get(own).status == 200
            found, absent = browser.get(other), browser.get(none)
            assert found.status == absent.status == 404
            assert names.sub("ID", found.text) == names.sub("ID", absent.text)
        served.routes.api.reads.flush()
        paths = {one.path for one in read_log.by_minute(read_log.read(data)) if one.token == "acme"}
        assert {"/page/deliveries", "/page/tasks", "/page/deliveries/{one}/{two}/payload"} <= paths
