"""The contrast of two colours, as WCAG 2.2 defines it, and what the 16 colours look like on terminals that people use."""

from __future__ import annotations

from rich.color import Color, ColorSystem, ColorType

Rgb = tuple[int, int, int]

ENOUGH = 4.5
"""Success criterion 1.4.3, for text of the usual size."""

NAMES = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
NAMES_16 = (*NAMES, *(f"bright_{name}" for name in NAMES))


def _colours(words: str) -> dict[str, Rgb]:
    found = [(int(word[:2], 16), int(word[2:4], 16), int(word[4:], 16)) for word in words.split()]
    return dict(zip(NAMES_16, found, strict=True))


XTERM = _colours(
    "000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5 7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff"
)
VGA = _colours(
    "000000 aa0000 00aa00 aa5500 0000aa aa00aa 00aaaa aaaaaa 555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff"
)
WINDOWS = _colours(
    "0c0c0c c50f1f 13a10e c19c00 0037da 881798 3a96dd cccccc 767676 e74856 16c60c f9f1a5 3b78ff b4009e 61d6d6 f2f2f2"
)
TERMINALS = {"xterm": XTERM, "Linux console": VGA, "Windows Terminal": WINDOWS}
BOLD_IS_BRIGHT = frozenset({"xterm", "Linux console"})
"""Where what is bold is of the bright colour."""


def luminance(colour: Rgb) -> float:
    red, green, blue = (
        part / 255 / 12.92 if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in colour
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Rgb, other: Rgb) -> float:
    """From 1, of two that are the same, to 21, of black on white."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def rgb(colour: str | Color, *, colours: int = 1 << 24) -> Rgb:
    """`#rrggbb`, as it is shown where there are so many colours."""
    found = Color.parse(colour) if isinstance(colour, str) else colour
    if colours == 256 and found.type is ColorType.TRUECOLOR:
        found = found.downgrade(ColorSystem.EIGHT_BIT)
    triplet = found.get_truecolor()
    return triplet.red, triplet.green, triplet.blue
