class trigger:
    _closed: bool

    def pull_trigger(self) -> None: ...
