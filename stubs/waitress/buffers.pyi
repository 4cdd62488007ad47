class OverflowableBuffer:
    overflow: int

    def __init__(self, overflow: int) -> None: ...
