"""What to type next about a delivery and its tasks: the commands that `covenq why` ends with, each with a reason.

Values in, values out. `covenq.operate.inspect.verdict` takes the one that helps most from here.
"""

from __future__ import annotations

from collections.abc import Iterator

from covenq.model import REQUEUEABLE, Category, State
from covenq.model.rows import Delivery, Task
from covenq.operate.inspect import forward_signature
from covenq.operate.inspect.delivery_facts import DeliveryFacts, newest_by_route
from covenq.operate.inspect.history import Step
from covenq.operate.inspect.story_text import route_list
from covenq.routing.held import HELD


def next_steps(facts: DeliveryFacts) -> Iterator[Step]:
    """Of all its tasks, then of the delivery itself."""
    delivery = facts.delivery
    if not facts.tasks:
        yield from delivery_steps(facts)
        return
    for task in newest_by_route(facts.tasks):
        yield from task_steps(task, facts)
    if delivery.state == State.COMPLETED and not is_gone(delivery):
        yield Step("have it done again by today's routes", f"covenq replay {_id(delivery)} --force")
    elif delivery.state in REQUEUEABLE and not is_gone(delivery):
        yield Step("have it decided anew by today's routes", f"covenq replay {_id(delivery)}")


def is_gone(delivery: Delivery) -> bool:
    """Whether its payload is not held any more, so that nothing can be done with it."""
    return bool(delivery.redacted or delivery.payload_dropped)


def _id(delivery: Delivery) -> str:
    return f"{delivery.hook}/{delivery.guid}"


def delivery_steps(facts: DeliveryFacts) -> Iterator[Step]:
    """Of a delivery without tasks."""
    delivery, id = facts.delivery, _id(facts.delivery)
    wanted = [verdict.route for verdict in facts.verdicts if verdict.matches]
    if delivery.event == "ping" or is_gone(delivery):
        return
    if delivery.state == State.RECEIVED and delivery.reason == HELD:
        yield Step("it is held back: route it, if it was not worked on", f"covenq reroute {id}")
        yield Step("if it was: have it ignored", f"covenq reroute {id} --ignore")
        yield Step("see all that are held back", f"covenq deliveries state:received reason:{HELD}")
    elif wanted:
        yield Step(f"today {route_list(wanted)} would take it", f"covenq reroute {id}")
    elif delivery.state == State.RECEIVED:
        yield Step("mend the rule that failed, then route it", f"covenq reroute {id}")
    else:
        yield Step("no route of today wants it: see which there are, and change one", "covenq routes")


def task_steps(task: Task, facts: DeliveryFacts) -> Iterator[Step]:
    """Of one task, by its state."""
    name, delivery = task.id, facts.delivery
    match task.state:
        case State.RUNNING:
            yield Step("watch it", f"covenq tail -f id:{name}")
            if task.kind == "run":
                yield Step("watch what it writes", f"covenq logs {name} -f")
            yield Step("stop it", f"covenq cancel {name}")
        case State.QUEUED:
            yield from _waiting_steps(task, facts)
            yield from _install_step(task, facts)
            yield Step("end it", f"covenq cancel {name}")
        case state if state in REQUEUEABLE:
            yield from _install_step(task, facts)
            if state == State.FAILED:
                what = "show" if facts.outputs.get(name) is None else "logs"
                yield Step("see its output", f"covenq {what} {name}")
            if state == State.SUPERSEDED and task.superseded_by:
                yield Step("see the one that took its place", f"covenq why {task.superseded_by}")
            attempts = facts.attempts.get(name, ())
            if is_gone(delivery):
                return
            if forward_signature.refused(task, attempts, delivery, facts.signing):
                yield from forward_signature.steps(task, delivery, facts.signing)
            else:
                yield Step("run it again, as it was decided then", f"covenq requeue {name}")
            if state == State.FAILED and task.category == Category.TOKEN:
                yield Step("GitHub gave no token: see what it says of the App", "covenq doctor")


def _waiting_steps(task: Task, facts: DeliveryFacts) -> Iterator[Step]:
    waits = facts.waiting.get(task.id)
    if waits is None:
        return
    if waits.word.startswith("paused"):
        yield Step("see what is paused, and by whom", "covenq status")
        name = _paused_name(task, waits.word.removeprefix("paused_"))
        if name is not None:
            yield Step("let it go on, if it may", f"covenq resume {name}")
    elif waits.word == "receiver" and task.route:
        yield Step(
            "see all that waits for its receiver: it goes on by itself when that answers",
            f"covenq tasks route:{task.route} state:queued",
        )
    elif waits.word == "pull" and task.route:
        yield Step("work on such tasks by a command of yours", f"covenq worker --route {task.route} -- CMD")


def _paused_name(task: Task, what: str) -> str | None:
    """What `covenq resume` is told to resume, for the task to go on; None if it can't be named by what is known of the task."""
    import shlex  # here, for nearly all have nothing to quote, and `covenq why` must start fast

    names = {"route": task.route, "repo": task.repo or task.repo_id, "installation": task.installation}
    if what == "worker":
        return what
    name = names.get(what)
    return None if name is None else f"{what} {shlex.quote(str(name))}"


def _install_step(task: Task, facts: DeliveryFacts) -> Iterator[Step]:
    """Of a command of the daemon's whose program could not be started: where it would be found.

    By the phases that it came to: before `prepared` its directory could not be made, after `started` its process not be watched.
    """
    attempts = facts.attempts.get(task.id, ())
    last = attempts[-1] if attempts else None
    if task.kind != "run" or last is None or last.category != Category.SPAWN:
        return
    phases = {name for name, _ in last.phases}
    if "prepared" not in phases or "started" in phases:
        return
    where = facts.config_path or "the configuration"
    yield Step(
        f"its program could not be started: install it, or write its whole path in {where}",
        "covenq doctor",
    )
