import logging
from collections.abc import Sized

# `channel` and `request` are declared by covenq's own tasks, by its own classes.
class Task:
    close_on_finish: bool
    complete: bool
    content_length: int | None
    response_headers: list[tuple[str, str]]
    start_time: float
    status: str
    version: str
    wrote_header: bool

    def __init__(self, channel: object, request: object) -> None: ...
    def build_response_header(self) -> bytes: ...
    def set_close_on_finish(self) -> None: ...
    def start(self) -> None: ...
    def write(self, data: bytes) -> None: ...

class ErrorTask(Task):
    def execute(self) -> None: ...

class WSGITask(Task):
    def execute(self) -> None: ...

class ThreadedTaskDispatcher:
    active_count: int
    queue: Sized
    queue_logger: logging.Logger

    def add_task(self, task: object) -> None: ...
    def set_thread_count(self, count: int) -> None: ...
    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool: ...
