"""What covenq uses of waitress, which has no types of its own. `tests/http/test_waitress.py` holds the names against waitress."""

from wsgiref.types import WSGIApplication

def serve(app: WSGIApplication, **kw: object) -> None: ...
