"""The HTTP server: listeners, and waitress where its settings don't reach. Nothing outside names waitress."""
