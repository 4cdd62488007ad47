"""Maintenance of a data directory: retention, redaction, backup, verification, and the checks of doctor."""
