"""Colours and type of every page, chart and picture grid."""

from __future__ import annotations

import functools
from dataclasses import asdict, dataclass
from pathlib import Path

from PIL import ImageFont

from fade.utils.text import visible


@dataclass(frozen=True)
class Theme:
    """Colours as #rrggbb. The role colours keep their contrast for red-green blindness; a word always goes
    with them."""

    paper: str
    panel: str
    ink: str
    muted: str
    line: str
    target: str
    adjacent: str
    heldout: str
    rest: str
    good: str
    mixed: str
    bad: str

    def css(self, *names: str) -> str:
        """The named colours, or all, as CSS custom properties."""
        colours = asdict(self)
        return " ".join(f"--{name}: {colours[name]};" for name in names or colours)


LIGHT = Theme(
    "#fffefb", "#f7f3ec", "#1d1b18", "#6d675e", "#e5dfd4", "#c4472b", "#1f6f9f", "#7a5bb0", "#7c766b",
    "#1f7a4d", "#95610a", "#b3321d",
)  # fmt: skip
DARK = Theme(
    "#1d1c1a", "#262522", "#f0ece4", "#a59e92", "#393631", "#f0835f", "#6cb6e0", "#b79ce8", "#a59e92",
    "#63c795", "#e3ad55", "#f28a72",
)  # fmt: skip


@functools.cache
def font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans of ``size`` pixels. matplotlib brings the file, so every machine has it."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), size)


def shortened(name: str, most: int) -> str:
    """``name`` in at most ``most`` characters."""
    return name if len(name) <= most else name[: most - 1] + "…"


def width_of(words: str, size: float, *, bold: bool = False) -> float:
    """Width of a line of text in pixels."""
    return font(size, bold).getlength(visible(words))


def percent(value: float) -> str:
    """``95.8333`` -> ``"95.8 %"``, ``100.0`` -> ``"100 %"``."""
    return f"{value:.1f}".removesuffix(".0") + " %"
