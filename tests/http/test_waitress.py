"""What covenq uses of waitress beyond its documentation: every name of it, so that one that goes is found here and not in use.

mypy lets covenq use what `stubs/waitress` declares, and no more: so each class, attribute, function and parameter there is
compared with waitress. `INHERITED` lists, for each of covenq's classes over one of waitress's, the names that it takes from there
on itself, those too that it declares anew; the lists are compared with the code, and each name with waitress. A new waitress that
lacks one fails here; pyproject.toml bounds which waitress may come.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import socket
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from waitress import channel, parser, receiver, server, task, wasyncore
from waitress.adjustments import Adjustments

from covenq.http.server.listener import Listener, ListenerSettings, bind_tcp
from covenq.http.server.parser import RequestLimits
from tests.support.checkout import ROOT

SERVER = ROOT / "covenq" / "http" / "server"
STUBS = ROOT / "stubs" / "waitress"
ENVIRON = ("waitress.client_disconnected",)
"""What the application reads of the environment that waitress makes."""

INHERITED: dict[tuple[str, str], tuple[tuple[type, ...], str]] = {
    ("channel", "JsonErrorTask"): (
        (task.ErrorTask, task.Task),
        "channel request response_headers set_close_on_finish write execute status content_length",
    ),
    ("channel", "Task"): ((task.WSGITask, task.Task), "channel request set_close_on_finish start get_environment"),
    ("channel", "DeferredTask"): (
        (task.WSGITask, task.Task),
        "build_response_header channel close_on_finish request start_time version complete content_length execute"
        " response_headers status wrote_header",
    ),
    ("channel", "Channel"): (
        (channel.HTTPChannel, wasyncore.dispatcher),
        "_flush_exception _flush_some adj connected creation_time last_activity outbuf_lock recv requests_lock server"
        " socket total_outbufs_len will_close close_when_flushed error_task_class handle_close handle_read handle_write"
        " parser_class readable request requests send task_class writable write_soon",
    ),
    ("deferred", "DeferredChannel"): (
        (channel.HTTPChannel, wasyncore.dispatcher),
        "addr request requests server",
    ),
    ("deferred", "DeferredServer"): (
        (server.TcpWSGIServer, server.BaseWSGIServer, wasyncore.dispatcher),
        "add_task close pull_trigger task_dispatcher trigger",
    ),
    ("listener", "_ServerMixin"): (
        (server.TcpWSGIServer, server.BaseWSGIServer, wasyncore.dispatcher),
        "_map accept active_channels adj channel_class fix_addr readable set_socket_options",
    ),
    ("parser", "WholeBody"): ((receiver.FixedStreamReceiver,), "completed getbuf getfile"),
    ("parser", "Parser"): (
        (parser.HTTPRequestParser,),
        "adj body_rcv chunked close command completed content_length empty error expect_continue first_line fragment"
        " header_plus headers headers_finished parse_header path proxy_netloc proxy_scheme query received request_uri url_scheme"
        " version",
    ),
}


def defined(classes: tuple[type, ...]) -> set[str]:
    """Names that these classes define, or set on themselves."""
    found: set[str] = set()
    for one in classes:
        found |= set(vars(one))
        for node in ast.walk(ast.parse(inspect.cleandoc("\n" + inspect.getsource(one)))):
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.ctx, ast.Store)
                and ast.unparse(node.value) == "self"
            ):
                found.add(node.attr)
    return found


def mentioned(module: str, name: str) -> set[str]:
    """Names that a class of covenq's defines or uses on itself."""
    tree = ast.parse((SERVER / f"{module}.py").read_text())
    (one,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name]
    found = {node.name for node in ast.walk(one) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(one):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            found.add(node.attr)
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return found


@pytest.mark.parametrize(("module", "name"), INHERITED)
def test_every_name_taken_from_waitress_is_listed_and_there(module: str, name: str) -> None:
    classes, names = INHERITED[module, name]
    listed = set(names.split())
    there = defined(classes)
    assert listed - there == set(), "waitress no longer has these"
    taken = {one for one in mentioned(module, name) & there if not one.startswith("__")}
    assert taken - listed == set(), "covenq takes these, and they are not listed"
    assert listed - taken == set(), "covenq does not take these any more"


def declared() -> Iterator[tuple[str, str, ast.FunctionDef | None]]:
    """Module, name (`Class`, `Class.attribute`, `function`) of all that the stubs declare, and the signature of a function."""
    for path in sorted(STUBS.glob("*.pyi")):
        module = "waitress" if path.stem == "__init__" else f"waitress.{path.stem}"
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef):
                yield module, node.name, node
            elif isinstance(node, ast.ClassDef):
                yield module, node.name, None
                for one in node.body:
                    if isinstance(one, ast.FunctionDef):
                        yield module, f"{node.name}.{one.name}", one
                    elif isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
                        yield module, f"{node.name}.{one.target.id}", None


DECLARED = {f"{module}.{name}": (module, name, signature) for module, name, signature in declared()}


def looked_up(module: ModuleType, name: str) -> tuple[bool, Any]:
    """Whether waitress has it, and what it is, where that is known without an object of the class."""
    first, _, attribute = name.partition(".")
    found = getattr(module, first, None)
    if not attribute or found is None:
        return found is not None, found
    classes = tuple(one for one in inspect.getmro(found) if one is not object)
    return attribute in defined(classes), getattr(found, attribute, None)


@pytest.mark.parametrize("full_name", DECLARED)
def test_every_name_of_the_stubs_is_waitress_own(full_name: str) -> None:
    module, name, signature = DECLARED[full_name]
    there, found = looked_up(importlib.import_module(module), name)
    assert there, f"waitress no longer has {full_name}"
    if signature is not None:
        assert callable(found), f"{full_name} is no function of waitress any more"
        check_parameters(full_name, signature, found)


def check_parameters(full_name: str, stub: ast.FunctionDef, found: Any) -> None:
    """What covenq passes by place is at that place, and what it passes by name has that name."""
    theirs = inspect.signature(found).parameters
    by_place = [one.arg for one in stub.args.args]
    places = [name for name, one in theirs.items() if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert places[: len(by_place)] == by_place, f"{full_name} takes other arguments"
    named = {one.arg for one in stub.args.kwonlyargs}
    if full_name == "waitress.adjustments.Adjustments.__init__":
        theirs = dict(Adjustments._params)  # it takes any name, and refuses those that are no setting
    missing = named - theirs.keys()
    assert not missing, f"{full_name} no longer takes {', '.join(sorted(missing))}"


def test_every_name_of_the_stubs_is_used() -> None:
    used = set(re.findall(r"\w+", "\n".join(path.read_text() for path in SERVER.glob("*.py"))))
    names = {name.rpartition(".")[2]: full for full, (module, name, _) in DECLARED.items() if module != "waitress"}
    unused = sorted(full for name, full in names.items() if name not in used)
    assert not unused, "covenq does not use these any more"


def test_waitress_gives_the_application_what_it_reads() -> None:
    seen: list[object] = []

    def app(environ: Any, start: Any) -> list[bytes]:
        seen.extend(environ.get(one) for one in ENVIRON)
        start("200 OK", [("Content-Length", "2")])
        return [b"ab"]

    bound = bind_tcp("127.0.0.1", 0)
    settings = ListenerSettings("x", 1, RequestLimits(1 << 20, 30.0, 30.0), streams=True)
    listener = Listener(app, bound, settings, on_refusal=lambda *_: None)
    listener.start()
    try:
        with socket.create_connection(bound.getsockname(), timeout=30) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            while connection.recv(65536):
                pass
    finally:
        listener.close()
    assert [callable(one) for one in seen] == [True] * len(ENVIRON)
    read = "\n".join(path.read_text() for path in (ROOT / "covenq").rglob("*.py"))
    assert set(re.findall(r'"(waitress\.\w+)"', read)) == set(ENVIRON)
