"""Maintenance of a data directory: retention, redaction, backup, verification, and what doctor looks at."""
