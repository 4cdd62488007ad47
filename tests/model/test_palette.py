"""Every state is legible in every palette, on every background it stands on, and a failure is seen without colour."""

from __future__ import annotations

import itertools
import re

import pytest

from covenq.model import State
from covenq.model.palette import (
    ANSI_DARK,
    ANSI_LIGHT,
    DARK,
    LIGHT,
    PALETTES,
    PLAIN,
    STATE_TONES,
    Palette,
    escape_sequences,
    palette_of,
)
from tests.support.contrast import BOLD_IS_BRIGHT, ENOUGH, NAMES, TERMINALS, Rgb, contrast, rgb


def colour_of(style: str, otherwise: str) -> str:
    return next((word for word in style.split() if word not in ("bold", "reverse")), otherwise)


def test_the_formula_is_wcags() -> None:
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(21)
    assert contrast((0x76, 0x76, 0x76), (255, 255, 255)) == pytest.approx(4.54, abs=0.01), "the grey that just passes"


def test_every_state_has_a_tone() -> None:
    assert set(STATE_TONES) == set(State)
    assert [state for state, tone in STATE_TONES.items() if tone == "bad"] == ["failed"]


@pytest.mark.parametrize("colours", [1 << 24, 256])
@pytest.mark.parametrize("palette", [DARK, LIGHT], ids=lambda one: one.name)
def test_every_tone_is_legible_on_every_background(palette: Palette, colours: int) -> None:
    assert palette.selected is not None
    backgrounds = (palette.background, palette.panel, palette.surface, palette.selected)
    tones = {tone: colour_of(style, palette.foreground) for tone, style in palette.tones.items()}
    for (tone, colour), background in itertools.product(
        {**tones, "": palette.foreground, "accent": palette.accent}.items(), backgrounds
    ):
        found = contrast(rgb(colour, colours=colours), rgb(background, colours=colours))
        assert found >= ENOUGH, (tone, background, found)
    text, alarm = palette.alarm
    assert contrast(rgb(text, colours=colours), rgb(alarm, colours=colours)) >= ENOUGH


def on_terminal(terminal: str, name: str, default: str, *, bold: bool = False) -> Rgb:
    name = default if name == "default" else name
    if bold and terminal in BOLD_IS_BRIGHT and name in NAMES and name not in ("black", "white"):
        name = f"bright_{name}"
    return TERMINALS[terminal][name]


@pytest.mark.parametrize("terminal", TERMINALS)
@pytest.mark.parametrize("palette", [ANSI_DARK, ANSI_LIGHT], ids=lambda one: one.name)
def test_of_16_colours_every_tone_is_legible_too(palette: Palette, terminal: str) -> None:
    ground, text = ("black", "white") if palette.dark else ("bright_white", "black")
    background = on_terminal(terminal, palette.background, ground)
    for tone, style in palette.tones.items():
        name = colour_of(style, palette.foreground)
        found = contrast(on_terminal(terminal, name, text, bold="bold" in style), background)
        assert found >= ENOUGH, (tone, found)  # reverse video, which the selected row is drawn in, has the same
    assert colour_of(palette.tones["bad"], "").endswith("red"), "red is red"
    on, alarm = palette.alarm
    assert contrast(on_terminal(terminal, on, text), on_terminal(terminal, alarm, ground)) >= ENOUGH


@pytest.mark.parametrize("palette", PALETTES, ids=lambda one: one.name)
def test_a_failure_differs_by_weight_or_reverse_video_too(palette: Palette) -> None:
    assert re.search("bold|reverse", palette.tones["bad"])
    alike = {state for state, tone in STATE_TONES.items() if palette.tones[tone] == palette.tones["bad"]}
    assert alike == {"failed"}


def test_without_colour_there_is_none() -> None:
    assert {word for style in PLAIN.tones.values() for word in style.split()} <= {"bold", "reverse"}


@pytest.mark.parametrize(
    ("environ", "few_colours", "palette"),
    [
        ({}, False, DARK),
        ({}, True, ANSI_DARK),
        ({"COLORFGBG": "15;0"}, False, DARK),
        ({"COLORFGBG": "0;15"}, False, LIGHT),
        ({"COLORFGBG": "0;default;15"}, True, ANSI_LIGHT),
        ({"COVENQ_THEME": "light"}, False, LIGHT),
        ({"COVENQ_THEME": "dark", "COLORFGBG": "0;15"}, False, DARK),
        ({"COVENQ_THEME": "purple"}, False, DARK),
        ({"NO_COLOR": "1", "COVENQ_THEME": "light"}, False, PLAIN),
    ],
)
def test_the_palette_follows_the_terminal(environ: dict[str, str], few_colours: bool, palette: Palette) -> None:
    assert palette_of(environ, few_colours=few_colours) is palette


def test_the_command_line_has_the_same_tones_as_escape_sequences() -> None:
    dark, light = escape_sequences({}), escape_sequences({"COVENQ_THEME": "light"})
    assert dark["bad"] == "\x1b[1;91m"
    assert light["bad"] == "\x1b[7;31m"
    assert dark["good"] == "\x1b[32m"
    assert dark["muted"] == "", "dim and bright black are legible in few terminals"
    assert set(dark) == set(light) == set(DARK.tones)
