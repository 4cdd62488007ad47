"""covenq: the durable inbox for GitHub webhooks."""

__version__ = "0.1.0"
"""That of pyproject.toml, said here too so that no command has to look it up among the installed packages."""
