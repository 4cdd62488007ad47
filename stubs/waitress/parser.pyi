from typing import BinaryIO

from waitress.adjustments import Adjustments
from waitress.receiver import ChunkedReceiver, FixedStreamReceiver
from waitress.utilities import Error

class ParsingError(Exception): ...

class HTTPRequestParser:
    adj: Adjustments
    body_rcv: ChunkedReceiver | FixedStreamReceiver | None
    chunked: bool
    command: str
    completed: bool
    content_length: int
    empty: bool
    error: Error | None
    expect_continue: bool
    first_line: bytes
    fragment: str
    header_plus: bytes
    headers: dict[str, str]
    path: str
    proxy_netloc: str
    proxy_scheme: str
    query: str
    request_uri: str
    url_scheme: str
    version: str

    def __init__(self, adj: Adjustments) -> None: ...
    def received(self, data: bytes) -> int: ...
    def parse_header(self, header_plus: bytes) -> None: ...
    def get_body_stream(self) -> BinaryIO: ...
    def close(self) -> None: ...
