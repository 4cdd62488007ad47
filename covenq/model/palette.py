"""The colours of every state and remark, for the dashboard and the command line, by what the terminal can show.

They serve one decision: which of these lines needs somebody. So a run of text names a tone, what it means, and the palette in
use gives the tone its colour; a failure differs by weight or reverse video too, and is seen where no colour is. Each tone has a
contrast of 4.5:1 or more on every background of its palette (WCAG 2.2, success criterion 1.4.3), also where 256 colours are all
there are. Of 16 colours the terminal says what they look like: they are chosen by the palettes that terminals come with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Tone = Literal["bad", "warning", "good", "active", "waiting", "muted"]
"""What a run of text means. What means nothing in particular has no tone."""

STATE_TONES: Final[Mapping[str, Tone]] = {
    "received": "waiting",
    "ignored": "muted",
    "queued": "waiting",
    "running": "active",
    "completed": "good",
    "failed": "bad",
    "cancelled": "muted",
    "superseded": "muted",
}
"""The tone of each state, of a delivery or a task, and of each outcome of an attempt."""


@dataclass(frozen=True, slots=True, eq=False)
class Palette:
    """Colours are `#rrggbb`, or the names of the 16, or `default`, the terminal's own; a tone is a Rich style.

    `selected` is the background of the row under the cursor, None where that is drawn in reverse video, without tones but for
    their weight. `panel` is that of the tabs and status lines, `surface` that of dialogs, `alarm` the foreground and background
    of the alarm bar.
    """

    name: str
    dark: bool
    native: bool
    """The 16 colours are the terminal's own, and are left to it."""
    foreground: str
    background: str
    panel: str
    surface: str
    selected: str | None
    alarm: tuple[str, str]
    accent: str
    tones: Mapping[str, str]


DARK: Final = Palette(
    name="covenq-dark",
    dark=True,
    native=False,
    foreground="#e4e4e4",
    background="#121212",
    panel="#262626",
    surface="#1c1c1c",
    selected="#14285a",
    alarm=("#ffffff", "#5f0000"),
    accent="#ffaf5f",
    tones={
        "bad": "bold #ff5f5f",
        "warning": "#ffd75f",
        "good": "#87d75f",
        "active": "#5fd7ff",
        "waiting": "#87afff",
        "muted": "#a8a8a8",
    },
)
LIGHT: Final = Palette(
    name="covenq-light",
    dark=False,
    native=False,
    foreground="#1c1c1c",
    background="#ffffff",
    panel="#e4e4e4",
    surface="#f5f5f5",
    selected="#d7d7ff",
    alarm=("#000000", "#ffd7d7"),
    accent="#005f87",
    tones={
        "bad": "bold #af0000",
        "warning": "#5f5f00",
        "good": "#005f00",
        "active": "#005f87",
        "waiting": "#0000af",
        "muted": "#585858",
    },
)
ANSI_DARK: Final = Palette(
    name="covenq-ansi-dark",
    dark=True,
    native=True,
    foreground="white",
    background="black",  # painted: on a terminal whose own is white these would not be seen
    panel="black",
    surface="black",
    selected=None,
    alarm=("black", "bright_red"),
    accent="white",
    tones={
        "bad": "bold bright_red",
        "warning": "bold yellow",  # which a console of VGA's shows brown without its weight
        "good": "green",
        "active": "bold cyan",
        "waiting": "cyan",
        "muted": "",  # as the rest: what is dim or bright black is legible in few terminals
    },
)
ANSI_LIGHT: Final = Palette(
    name="covenq-ansi-light",
    dark=False,
    native=True,
    foreground="default",
    background="default",
    panel="default",
    surface="default",
    selected=None,
    alarm=("bright_white", "red"),
    accent="default",
    tones={
        "bad": "reverse red",  # bold would be bright red, which white is too near to
        "warning": "magenta",
        "good": "",
        "active": "bold blue",
        "waiting": "blue",
        "muted": "",
    },
)
PLAIN: Final = Palette(
    name="covenq-plain",
    dark=True,
    native=True,
    foreground="default",
    background="default",
    panel="default",
    surface="default",
    selected=None,
    alarm=("default", "default"),
    accent="default",
    tones={"bad": "bold", "warning": "", "good": "", "active": "", "waiting": "", "muted": ""},
)
"""Without colour: for NO_COLOR."""
PALETTES: Final = (DARK, LIGHT, ANSI_DARK, ANSI_LIGHT, PLAIN)

_LIGHT_BACKGROUNDS = frozenset({"7", "15"})
"""White, of the 16 colours."""


def is_light(environ: Mapping[str, str]) -> bool:
    """Whether the terminal's background is light: COVENQ_THEME says it, else COLORFGBG, which some terminals set.

    Dark is what is taken of a terminal that doesn't tell: few can be asked.
    """
    theme = environ.get("COVENQ_THEME")
    if theme in ("dark", "light"):
        return theme == "light"
    return environ.get("COLORFGBG", "").rpartition(";")[2] in _LIGHT_BACKGROUNDS


def palette_of(environ: Mapping[str, str], *, few_colours: bool) -> Palette:
    """The dashboard's palette. `few_colours`: the terminal shows 16 or less."""
    if "NO_COLOR" in environ:
        return PLAIN
    light = is_light(environ)
    if few_colours:
        return ANSI_LIGHT if light else ANSI_DARK
    return LIGHT if light else DARK


# ---- for the command line, which paints no background


_ATTRIBUTES = {"bold": "1", "reverse": "7"}
_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")


def escape_sequences(environ: Mapping[str, str]) -> dict[str, str]:
    """The escape sequence that begins each tone, empty for one that looks like the rest: of the 16 colours, which all have."""
    tones = (ANSI_LIGHT if is_light(environ) else ANSI_DARK).tones
    return {tone: _sequence(style.split()) for tone, style in tones.items()}


def _sequence(words: list[str]) -> str:
    codes = [_ATTRIBUTES.get(word) or _colour_code(word) for word in words]
    return f"\x1b[{';'.join(codes)}m" if codes else ""


def _colour_code(word: str) -> str:
    first = 90 if word.startswith("bright_") else 30
    return str(first + _COLOURS.index(word.removeprefix("bright_")))
