"""The palette as Textual has it: a theme for what its style sheet draws, and Rich styles for the runs of text drawn here."""

from __future__ import annotations

from functools import lru_cache

from rich.style import Style
from textual.theme import Theme

from covenq.model.palette import DARK, PALETTES, Palette, Tone

_BY_NAME = {palette.name: palette for palette in PALETTES}


def palette_in_use(theme: str) -> Palette:
    """The palette of the application's theme. One of Textual's own, as in an application of a test, has the dark one's tones."""
    return _BY_NAME.get(theme, DARK)


def _css(colour: str) -> str:
    return colour if colour.startswith("#") else f"ansi_{colour}"


def _colour_of(palette: Palette, tone: Tone) -> str:
    """The colour alone."""
    words = [word for word in palette.tones[tone].split() if word not in ("bold", "reverse")]
    return _css(words[0] if words else palette.foreground)


def theme_of(palette: Palette) -> Theme:
    """The theme, with the variables that the style sheet uses. What has a background of its own names its foreground too."""
    foreground, background = _css(palette.foreground), _css(palette.background)
    accent, panel, muted = _css(palette.accent), _css(palette.panel), _colour_of(palette, "muted")
    cursor = foreground if palette.selected is None else _css(palette.selected)
    on_cursor = background if palette.selected is None else foreground
    unknown = palette.foreground == "default"
    if unknown:  # the terminal's own colours, which can't be exchanged; and Textual drops the reverse video of a part
        cursor, on_cursor = background, foreground
    weight = "bold underline" if unknown else "bold"
    alarm_text, alarm = palette.alarm
    return Theme(
        name=palette.name,
        primary=accent,
        secondary=accent,
        accent=accent,
        warning=_colour_of(palette, "warning"),
        error=_colour_of(palette, "bad"),
        success=_colour_of(palette, "good"),
        foreground=foreground,
        background=background,
        surface=_css(palette.surface),
        panel=panel,
        dark=palette.dark,
        ansi=palette.native,
        variables={
            "surface": _css(palette.surface),
            "panel": panel,
            "panel-lighten-1": panel,
            "panel-darken-1": panel,
            "text": foreground,
            "text-muted": muted,
            "text-disabled": muted,
            "text-error": _colour_of(palette, "bad"),
            "text-success": _colour_of(palette, "good"),
            "text-warning": _colour_of(palette, "warning"),
            "alarm": _css(alarm),
            "alarm-text": _css(alarm_text),
            "alarm-style": "bold reverse" if palette.alarm == ("default", "default") else "bold",
            "border": accent,
            "border-blurred": muted,
            "block-cursor-foreground": on_cursor,
            "block-cursor-background": cursor,
            "block-cursor-text-style": weight,
            "block-cursor-blurred-foreground": on_cursor,
            "block-cursor-blurred-background": cursor,
            "block-cursor-blurred-text-style": weight,
            "block-hover-background": panel,
            "button-foreground": foreground,
            "button-color-foreground": foreground,
            "button-focus-text-style": "bold reverse",
            "footer-foreground": foreground,
            "footer-background": panel,
            "footer-item-background": panel,
            "footer-description-foreground": foreground,
            "footer-description-background": panel,
            "footer-key-foreground": accent,
            "footer-key-background": panel,
            "input-cursor-background": foreground,
            "input-cursor-foreground": background,
            "input-cursor-text-style": "underline" if unknown else "none",
            "ansi-background": background,
            "ansi-foreground": foreground,
            "scrollbar": muted,
            "scrollbar-hover": accent,
            "scrollbar-active": accent,
            "scrollbar-background": panel,
            "scrollbar-background-hover": panel,
            "scrollbar-background-active": panel,
            "scrollbar-corner-color": panel,
        },
    )


@lru_cache(maxsize=1024)
def run_style(palette: Palette, words: str) -> Style:
    """The style of a run: a tone, and in Rich's words what isn't colour (`bold`)."""
    return sum((Style.parse(palette.tones.get(word, word)) for word in words.split()), Style.null())


@lru_cache(maxsize=1024)
def selected_style(palette: Palette, words: str, base: Style) -> Style:
    """The style of a run in the row under the cursor. In reverse video no tone is legible for sure: its weight alone remains."""
    style = run_style(palette, words)
    if palette.selected is None:
        return base + Style(reverse=not style.reverse, bold=style.bold)
    return base + style + Style(bgcolor=palette.selected, bold=True)
