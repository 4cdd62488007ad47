import logging
import socket
from wsgiref.types import WSGIApplication

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.task import ThreadedTaskDispatcher
from waitress.trigger import trigger as Trigger

# `active_channels` is declared by covenq's own server, by its own class of channels.
class BaseWSGIServer(wasyncore.dispatcher):
    _map: dict[int, wasyncore.dispatcher]
    adj: Adjustments
    application: WSGIApplication
    channel_class: type[HTTPChannel]
    logger: logging.Logger
    sockinfo: tuple[int, int, int, object]
    task_dispatcher: ThreadedTaskDispatcher
    trigger: Trigger

    def __init__(
        self,
        application: WSGIApplication,
        map: dict[int, wasyncore.dispatcher],
        _start: bool,
        _sock: socket.socket,
        *,
        dispatcher: ThreadedTaskDispatcher,
        adj: Adjustments,
        sockinfo: tuple[int, int, int, object],
        bind_socket: bool = True,
    ) -> None: ...
    def accept_connections(self) -> None: ...
    def accept(self) -> tuple[socket.socket, tuple[str, *tuple[object, ...]]] | None: ...
    def fix_addr(self, addr: tuple[str, *tuple[object, ...]]) -> tuple[str, *tuple[object, ...]]: ...
    def pull_trigger(self) -> None: ...
    def set_socket_options(self, conn: socket.socket) -> None: ...

class TcpWSGIServer(BaseWSGIServer): ...
class UnixWSGIServer(BaseWSGIServer): ...
