"""Tasks, from outside: all of a burst complete, failures are recorded as such, and a stop or a crash loses none."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon
from tests.support.requests import Answer, issue, new_guid
from tests.support.waiting import eventually

Make = Callable[..., Daemon]


def route(run: str, more: str = "", concurrency: int = 2) -> str:
    return f"""
[worker]
concurrency = {concurrency}

[[route]]
name = "all"
match = "event:issues"
run = {run}
{more}
"""


def shell(script: str) -> str:
    """argv, as TOML, of a script for a test's command."""
    return f"['/bin/sh', '-c', '''{script}''']"


def state_of(daemon: Daemon, guid: str) -> str:
    state: str = daemon.api(f"/api/v1/deliveries/{guid}").json["state"]
    return state


def wait_state(daemon: Daemon, guid: str, state: str) -> None:
    eventually(lambda: state_of(daemon, guid) == state, 60, f"{guid} is {state}")


def test_one_worker_completes_500_deliveries_that_come_at_once(make_daemon: Make) -> None:
    daemon = make_daemon(route('["true"]', concurrency=1))
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda number: daemon.post("issues", issue(number)), range(500)))
    assert [answer.status for answer in answers] == [202] * 500
    ends = daemon.wait_all_done(300)
    assert list(ends.values()) == [["task.completed"]] * 500
    assert daemon.api("/api/v1/status").json["tasks"] == {"completed": 500}


def test_a_command_gets_the_payload_and_its_ids_and_leaves_its_output_and_result(make_daemon: Make) -> None:
    script = 'cat; echo "$COVENQ_EVENT $COVENQ_ACTION $COVENQ_REPO $COVENQ_ATTEMPT" >&2; echo "{}" > "$COVENQ_RESULT"'
    daemon = make_daemon(route(shell(script)), env={"A_SECRET_OF_THE_DAEMON": "x"})
    guid = new_guid()
    answer = daemon.post("issues", b'{"action":"opened", "repository":{"full_name":"octo/hello"}}', guid)
    wait_state(daemon, guid, "completed")
    attempt = daemon.data / "attempts" / answer.json["tasks"][0] / "1"
    assert (attempt / "stdout").read_bytes() == b'{"action":"opened", "repository":{"full_name":"octo/hello"}}'
    assert (attempt / "stderr").read_text() == "issues opened octo/hello 1\n"
    assert (attempt / "result").read_text() == "{}\n"
    [item] = daemon.api(f"/api/v1/tasks/{answer.json['tasks'][0]}/attempts").json["items"]
    assert (item["outcome"], item["exit_code"]) == ("completed", 0)
    files = ("stdout", "stderr", "result")
    assert [daemon.data / item[name] for name in files] == [attempt / name for name in files], "the attempt says where"


def test_the_daemons_environment_and_secrets_stay_out_of_the_command(make_daemon: Make) -> None:
    daemon = make_daemon(route(shell("env")), env={"A_SECRET_OF_THE_DAEMON": "x"})
    guid = new_guid()
    answer = daemon.post("issues", issue(), guid)
    wait_state(daemon, guid, "completed")
    said = (daemon.data / "attempts" / answer.json["tasks"][0] / "1" / "stdout").read_text()
    assert f"COVENQ_GUID={guid}" in said
    assert "A_SECRET_OF_THE_DAEMON" not in said
    assert "COVENQ_WEBHOOK_SECRET" not in said


def test_a_failure_is_retried_with_backoff_and_then_final_until_requeued(make_daemon: Make, tmp_path: Path) -> None:
    mended = tmp_path / "mended"
    daemon = make_daemon(route(shell(f"test -e {mended}"), 'retry = { max = 2, backoff = "10ms", cap = "50ms" }'))
    guid = new_guid()
    task = daemon.post("issues", issue(), guid).json["tasks"][0]
    wait_state(daemon, guid, "failed")
    items = daemon.api(f"/api/v1/tasks/{task}/attempts").json["items"]
    assert [(item["category"], item["exit_code"]) for item in items] == [("exit", 1)] * 3
    assert len(daemon.records("task.retry")) == 2
    pages = [daemon.api(f"/api/v1/tasks/{task}/attempts?{query}").json for query in ("limit=2", "limit=2&after=2")]
    assert [(page["items"], page["next"]) for page in pages] == [(items[:2], "2"), (items[2:], None)]
    for filter, found in (("state:failed+category:exit", items), ("state:completed", [])):
        assert daemon.api(f"/api/v1/tasks/{task}/attempts?filter={filter}").json["items"] == found
    mended.touch()
    daemon.cli("requeue", task)
    wait_state(daemon, guid, "completed")
    assert daemon.api(f"/api/v1/tasks/{task}").json["attempts"] == 4


def test_a_timeout_ends_the_whole_process_group(make_daemon: Make, tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = f'(trap "" TERM; echo $$ > /dev/null; sh -c "echo \\$\\$ > {child}; exec sleep 600") & wait'
    daemon = make_daemon(route(shell(script), 'timeout = "3s"'))
    guid = new_guid()
    task = daemon.post("issues", issue(), guid).json["tasks"][0]
    wait_state(daemon, guid, "failed")
    [item] = daemon.api(f"/api/v1/tasks/{task}/attempts").json["items"]
    assert item["category"] == "timeout"
    pid = int(child.read_text())
    eventually(lambda: not alive(pid), 30, "the grandchild is gone")


def alive(pid: int) -> bool:
    """Whether it runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_sigterm_drains_and_an_interrupted_task_runs_again_without_burning_a_retry(
    make_daemon: Make, tmp_path: Path
) -> None:
    started, go_on = tmp_path / "started", tmp_path / "go_on"
    daemon = make_daemon(route(shell(f"echo $$ >> {started}; while ! test -e {go_on}; do sleep 0.02; done")))
    guid = new_guid()
    daemon.post("issues", issue(), guid)
    pid = int(eventually(lambda: started.exists() and started.read_text(), 30, "the command runs"))
    assert daemon.stop() == 0
    assert not alive(pid), "the child was ended with the daemon"
    assert not daemon.cli_json("verify")["damage"]
    go_on.touch()
    daemon.start()
    wait_state(daemon, guid, "completed")
    assert len(started.read_text().split()) == 2


def test_a_task_that_kills_the_daemon_three_times_fails_and_the_daemon_lives(make_daemon: Make) -> None:
    # The daemon is the parent of the route's command: PPID.
    daemon = make_daemon(route(shell("kill -KILL $PPID; sleep 5")), start=False)
    daemon.start()
    guid = new_guid()
    try:
        daemon.post("issues", issue(), guid)
    except OSError:
        pass  # killed before it answered; the record may be there all the same
    for _ in range(6):
        if eventually(lambda: not daemon.running or (state_of(daemon, guid) == "failed" and "failed"), 60) == "failed":
            break
        assert daemon.process is not None
        assert daemon.process.returncode == -signal.SIGKILL
        daemon.start(wait=False)
        eventually(daemon.ready_or_gone, 60, "ready or killed again")
    wait_state(daemon, guid, "failed")
    [item] = daemon.api("/api/v1/tasks").json["items"]
    attempts = daemon.api(f"/api/v1/tasks/{item['id']}/attempts").json["items"]
    assert [attempt["category"] for attempt in attempts] == ["interrupted"] * 3
    assert os.getpgid(daemon.pid)


def test_one_key_runs_one_task_at_a_time(make_daemon: Make, tmp_path: Path) -> None:
    lock, overlaps = tmp_path / "running", tmp_path / "overlaps"
    script = f"mkdir {lock} || echo overlap >> {overlaps}; sleep 0.05; rmdir {lock}"
    daemon = make_daemon(route(shell(script), 'key = "{repo}#{number}"', concurrency=4))
    for _ in range(8):
        assert daemon.post("issues", issue(7)).status == 202
    assert list(daemon.wait_all_done().values()) == [["task.completed"]] * 8
    assert not overlaps.exists()


def test_durations_that_are_longer_than_any_clock_keep_tasks_waiting_and_nothing_else(make_daemon: Make) -> None:
    routes = """
[[route]]
name = "far"
match = "event:issues"
run = ["false"]
retry = { max = 3, backoff = "9999999d", cap = "9999999d" }
[[route]]
name = "deb"
match = "event:star"
run = ["true"]
key = "{repo}"
debounce = "9999999d"
"""
    daemon = make_daemon(routes)

    def task(answer: Answer) -> dict[str, Any]:
        assert answer.status == 202
        found: dict[str, Any] = daemon.api(f"/api/v1/tasks/{answer.json['tasks'][0]}").json
        return found

    burst, failing = daemon.post("star", issue(2)), daemon.post("issues", issue(1))
    again = eventually(lambda: found if (found := task(failing))["retries"] else None, what="a retry")
    assert (again["state"], again["category"]) == ("queued", "exit") and again["not_before"] > again["updated_at"]
    assert task(burst)["state"] == "queued" and task(burst)["not_before"] > "2100"
    assert daemon.cli_json("stats", "--since", "400000d")["deliveries"] == 2
    daemon.stop()
    assert daemon.cli_json("stats", "--since", "400000d")["deliveries"] == 2


def test_pushes_of_two_branches_share_no_key_and_are_told_apart(make_daemon: Make) -> None:
    """And a filter finds them by the branch, and by the kind of what they are about."""
    config = """
[worker]
concurrency = 1

[[route]]
name = "ci"
match = "event:push target:commit"
run = ["sleep", "0.2"]
key = "{repo}@{ref}"
supersede = "queued"
"""
    daemon = make_daemon(config)

    def push(ref: str, **more: object) -> Answer:
        return daemon.post("push", {**issue(1), "ref": ref, "after": "c0ffee" * 6 + "dead", "deleted": False, **more})

    made = [
        push(ref).json["tasks"][0] for ref in ("refs/heads/main", "refs/heads/main", "refs/heads/x", "refs/heads/main")
    ]
    gone = push("refs/heads/x", deleted=True, after="0" * 40)
    assert gone.json["state"] == "ignored"
    daemon.wait_all_done()
    tasks = {task["id"]: task for task in daemon.cli_json("tasks", "--limit", "0")["items"]}
    assert [tasks[id]["ref"] for id in made] == ["refs/heads/main"] * 2 + ["refs/heads/x", "refs/heads/main"]
    assert tasks[made[2]]["state"] == "completed" and tasks[made[3]]["state"] == "completed"
    assert tasks[made[2]]["key"] == f"{tasks[made[2]]['repo']}@refs/heads/x" and tasks[made[2]]["target"] == "commit"
    for filter, count in (
        ("ref:refs/heads/x", 2),
        ("ref:refs/heads/*", 5),
        ("target:branch", 1),
        ("-target:commit", 1),
    ):
        assert len(daemon.cli_json("deliveries", filter)["items"]) == count, filter
    assert [task["id"] for task in daemon.cli_json("tasks", "ref:refs/heads/x target:commit")["items"]] == [made[2]]
