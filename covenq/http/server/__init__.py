"""The HTTP server: listeners, and overrides of waitress where its settings don't reach. Nothing outside imports waitress."""
