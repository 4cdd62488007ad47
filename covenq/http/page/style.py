"""The style sheet, with the dashboard's colours, light or dark as the browser is.

It is in each page, and the policy has its hash: nothing else that looks like a style is applied.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from covenq.model.palette import DARK, LIGHT, Palette


def _variables(palette: Palette) -> str:
    colours = {
        "text": palette.foreground,
        "page": palette.background,
        "panel": palette.panel,
        "surface": palette.surface,
        "accent": palette.accent,
        **{tone: style.rpartition(" ")[2] for tone, style in palette.tones.items()},
    }
    return "".join(f"--{name}:{colour};" for name, colour in colours.items())


@cache
def sheet() -> str:
    """The whole of it."""
    rules = (files(__package__) / "style.css").read_text("utf-8")
    return (
        f":root{{color-scheme:light dark;{_variables(LIGHT)}}}\n"
        f"@media (prefers-color-scheme: dark){{:root{{{_variables(DARK)}}}}}\n{rules}"
    )


@cache
def sheet_hash() -> str:
    """As a policy has it."""
    return f"sha256-{base64.b64encode(hashlib.sha256(sheet().encode()).digest()).decode()}"
