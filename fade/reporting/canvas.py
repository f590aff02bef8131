"""Ink and paper: the two colour themes, type, and the few shapes that the grids are made of. Pillow only, no
global state."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fade.reporting.report_data import Pictures
from fade.utils.files import storage_error, write_whole

SCALE = 2
"""Device pixels a layout pixel: pictures stay sharp on dense screens and in print."""


@dataclass(frozen=True)
class Theme:
    """Colours as #rrggbb. The role colours keep their contrast for red-green blindness; a word always goes
    with them."""

    name: str
    paper: str
    ink: str
    muted: str
    line: str
    target: str
    adjacent: str
    heldout: str
    rest: str

    def role(self, role: str) -> str:
        """The colour of a role; `rest` for an unknown one."""
        return {"target": self.target, "adjacent": self.adjacent, "heldout": self.heldout}.get(
            role, self.rest
        )


LIGHT = Theme("light", "#fffefb", "#1d1b18", "#6d675e", "#e5dfd4", "#c4472b", "#1f6f9f", "#7a5bb0", "#7c766b")
DARK = Theme("dark", "#1d1c1a", "#f0ece4", "#a59e92", "#393631", "#f0835f", "#6cb6e0", "#b79ce8", "#a59e92")


@functools.cache
def font(size: float, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans at ``size`` layout pixels: the face that comes with matplotlib, so it is there on every
    machine."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(
        str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name), round(size * SCALE)
    )


def sheet(width: float, height: float, theme: Theme) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A blank sheet of ``width`` x ``height`` layout pixels."""
    image = Image.new("RGB", (round(width * SCALE), round(height * SCALE)), theme.paper)
    return image, ImageDraw.Draw(image)


def text(
    draw: ImageDraw.ImageDraw,
    x: float,
    y: float,
    words: str,
    size: float,
    colour: str,
    *,
    bold: bool = False,
    anchor: str = "ls",
) -> float:
    """Write at layout position (x, y); returns the width in layout pixels. Anchors as in Pillow (ls = left,
    baseline)."""
    draw.text((x * SCALE, y * SCALE), words, font=font(size, bold), fill=colour, anchor=anchor)
    return width_of(words, size, bold=bold)


def width_of(words: str, size: float, *, bold: bool = False) -> float:
    """Width of a line in layout pixels."""
    return font(size, bold).getlength(words) / SCALE


def wrap(words: str, size: float, width: float, *, bold: bool = False, lines: int = 2) -> list[str]:
    """Break at blanks into at most ``lines`` lines of ``width`` layout pixels; what does not fit ends in an
    ellipsis."""
    out = [""]
    for word in words.split():
        longer = f"{out[-1]} {word}".strip()
        if width_of(longer, size, bold=bold) <= width or not out[-1]:
            out[-1] = longer
        else:
            out.append(word)
    if len(out) > lines:
        out = [*out[: lines - 1], " ".join(out[lines - 1 :])]
    return [_ellipsis(line, size, width, bold) for line in out]


def _ellipsis(line: str, size: float, width: float, bold: bool) -> str:
    if width_of(line, size, bold=bold) <= width:
        return line
    while line and width_of(line + "…", size, bold=bold) > width:
        line = line[:-1]
    return line.rstrip() + "…"


def tile(picture: Pictures, side: float) -> Image.Image:
    """One picture (H, W, 3) as a square of ``side`` layout pixels; small drawings are enlarged smoothly."""
    image = Image.fromarray(np.ascontiguousarray(picture))
    pixels = round(side * SCALE)
    return image.resize(
        (pixels, pixels), Image.Resampling.BICUBIC if image.width < pixels else Image.Resampling.LANCZOS
    )


def paste(sheet: Image.Image, picture: Image.Image, x: float, y: float, line: str, radius: float = 5) -> None:
    """Put a picture at layout position (x, y), with round corners and a hairline."""
    mask, ring = _corners(picture.size, radius)
    at = (round(x * SCALE), round(y * SCALE))
    sheet.paste(picture, at, mask)
    sheet.paste(Image.new("RGB", picture.size, line), at, ring)


@functools.lru_cache(maxsize=64)
def _corners(size: tuple[int, int], radius: float) -> tuple[Image.Image, Image.Image]:
    """A picture's mask with round corners, and its hairline: the same for every picture of a grid."""
    over = 4  # the corners are drawn larger and reduced: Pillow's own shapes have stairs
    width, height = size[0] * over, size[1] * over
    mask, ring = Image.new("L", (width, height), 0), Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, width - 1, height - 1), radius * SCALE * over, fill=255)
    ImageDraw.Draw(ring).rounded_rectangle(
        (0, 0, width - 1, height - 1), radius * SCALE * over, outline=255, width=SCALE * over // 2
    )
    return mask.resize(size, Image.Resampling.LANCZOS), ring.resize(size, Image.Resampling.LANCZOS)


def bar(
    draw: ImageDraw.ImageDraw, x: float, y: float, width: float, height: float, colour: str, radius: float = 0
) -> None:
    """A filled bar at layout position (x, y)."""
    if width > 0:
        draw.rounded_rectangle(
            (x * SCALE, y * SCALE, (x + width) * SCALE, (y + height) * SCALE), radius * SCALE, fill=colour
        )


def rule(draw: ImageDraw.ImageDraw, x: float, y: float, width: float, colour: str) -> None:
    """A hairline from (x, y) to the right."""
    draw.line((x * SCALE, y * SCALE, (x + width) * SCALE, y * SCALE), fill=colour, width=max(1, SCALE // 2))


def percent(value: float) -> str:
    """``95.8333`` -> ``"95.8 %"``, ``100.0`` -> ``"100 %"``."""
    return f"{value:.1f}".removesuffix(".0") + " %"


def png(image: Image.Image) -> bytes:
    """PNG bytes."""
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=4)  # 6 takes twice as long for a hundredth of the size
    return stream.getvalue()


def write(data: bytes, path: Path) -> Path:
    """Write under a temporary name, then rename. Raises StorageError that names the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, path, "report") from error
    return write_whole(path, data, stage="report")
