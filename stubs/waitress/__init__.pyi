"""What covenq uses of waitress, which has no types of its own. `tests/http/test_waitress.py` holds the names against waitress."""
