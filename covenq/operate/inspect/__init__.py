"""Answers about what is stored: objects of the API, the history of a delivery, the journal as it goes on, counts. Reads only."""
