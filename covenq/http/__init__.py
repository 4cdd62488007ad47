"""The web faces: each parses a request, calls one function of the floors below, and answers."""
