"""What covenq uses of waitress beyond its documentation: every name of it, so that one that goes is found here and not in use.

`INHERITED` lists, for each of covenq's classes over one of waitress's, the names it takes from there; the lists are compared with
the code, and each name with waitress. A new waitress that lacks one fails here; pyproject.toml bounds which waitress may come.
"""

from __future__ import annotations

import ast
import inspect

import pytest
from waitress import channel, parser, server, task, wasyncore

from tests.support.checkout import ROOT

SERVER = ROOT / "covenq" / "http" / "server"

INHERITED: dict[tuple[str, str], tuple[tuple[type, ...], str]] = {
    ("channel", "JsonErrorTask"): (
        (task.ErrorTask, task.Task),
        "channel request response_headers set_close_on_finish write execute status content_length",
    ),
    ("channel", "Task"): ((task.WSGITask, task.Task), "channel request set_close_on_finish start"),
    ("channel", "DeferredTask"): (
        (task.WSGITask, task.Task),
        "build_response_header channel close_on_finish request start_time version complete content_length execute"
        " response_headers status wrote_header",
    ),
    ("channel", "Channel"): (
        (channel.HTTPChannel, wasyncore.dispatcher),
        "_flush_exception _flush_some adj connected creation_time last_activity outbuf_lock recv requests_lock server"
        " socket total_outbufs_len will_close close_when_flushed error_task_class handle_close handle_read handle_write"
        " parser_class readable request requests send task_class writable",
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
    ("parser", "Parser"): (
        (parser.HTTPRequestParser,),
        "adj body_rcv chunked close command completed content_length empty error expect_continue first_line fragment"
        " header_plus headers parse_header path proxy_netloc proxy_scheme query received request_uri url_scheme version",
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
