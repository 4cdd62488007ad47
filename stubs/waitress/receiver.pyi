from waitress.buffers import OverflowableBuffer

class FixedStreamReceiver:
    def __init__(self, cl: int, buf: OverflowableBuffer) -> None: ...
    def __len__(self) -> int: ...

class ChunkedReceiver:
    chunk_remainder: int
    control_line: bytes
    trailer: bytes

    def __len__(self) -> int: ...
