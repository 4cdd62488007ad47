"""Queries: objects of the API, the status, the history of a delivery, the journal's newest records, counts. Reads only."""
