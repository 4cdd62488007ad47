import socket
import threading
from collections.abc import Callable

from waitress import wasyncore
from waitress.adjustments import Adjustments

# `server`, `addr`, `request` and `requests` are declared by covenq's own channel, by its own classes.
class HTTPChannel(wasyncore.dispatcher):
    adj: Adjustments
    close_when_flushed: bool
    creation_time: float
    last_activity: float
    outbuf_lock: threading.Condition
    requests_lock: threading.Lock
    total_outbufs_len: int
    will_close: bool

    def __init__(
        self,
        server: object,
        sock: socket.socket,
        addr: object,
        adj: Adjustments,
        map: dict[int, wasyncore.dispatcher] | None = None,
    ) -> None: ...
    def service(self) -> None: ...
    def write_soon(self, data: bytes) -> int: ...
    def _flush_some(self, do_close: bool = True) -> bool: ...
    def _flush_exception(self, flush: Callable[..., bool], do_close: bool = True) -> tuple[bool, bool]: ...
