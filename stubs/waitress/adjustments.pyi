import socket
from collections.abc import Sequence

class Adjustments:
    channel_request_lookahead: int
    channel_timeout: int
    connection_limit: int
    ident: str | None
    inbuf_overflow: int
    recv_bytes: int
    url_scheme: str

    def __init__(
        self,
        *,
        sockets: Sequence[socket.socket] = ...,
        threads: int = ...,
        backlog: int = ...,
        connection_limit: int = ...,
        channel_timeout: int = ...,
        cleanup_interval: int = ...,
        ident: str = ...,
        log_socket_errors: bool = ...,
        max_request_header_size: int = ...,
        max_request_body_size: int = ...,
        inbuf_overflow: int = ...,
        recv_bytes: int = ...,
        clear_untrusted_proxy_headers: bool = ...,
        channel_request_lookahead: int = ...,
        outbuf_high_watermark: int = ...,
    ) -> None: ...
