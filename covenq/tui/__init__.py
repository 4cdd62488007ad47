"""`covenq tui`: a live dashboard over a `Source`, read-only where nothing may be written.

Nothing is imported here, so that the other commands never pay for Textual.
"""
