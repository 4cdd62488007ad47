"""Base class of the API's resources."""

from __future__ import annotations

from covenq.http.services import Services


class Resource:
    """A Falcon resource over the daemon's services."""

    def __init__(self, services: Services) -> None:
        self._services = services
