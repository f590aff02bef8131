"""The layout of pictures: `image_grid` makes every picture that shows several others."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from fade.errors import EvaluationError
from fade.reporting.report_data import ROLES, Pictures
from fade.reporting.theme import LIGHT, font
from fade.utils.text import visible

CAPTION_WIDTH = 12
"""Width at which a caption is wrapped, in text sizes."""
LEADING = 1.35
"""Distance between two lines of text, in text sizes."""


@dataclass(frozen=True)
class GridRow:
    """One row of a grid: its pictures and the words beside them."""

    blocks: Sequence[Pictures]
    """Groups of pictures from left to right, uint8 (n, H, W, 3) each; n = 0 leaves the place empty."""
    caption: str = ""
    """Left of the pictures."""
    role: str = ""
    """Role in the evaluation: its word and colour stand with the caption; a rule separates roles."""
    titles: Sequence[str] = ()
    """Above each block."""
    notes: Sequence[str] = ()
    """Right of each block."""


@dataclass(frozen=True)
class _Text:
    """Wrapped lines of text."""

    lines: Sequence[str]
    face: ImageFont.FreeTypeFont

    @classmethod
    def wrapped(cls, words: str, face: ImageFont.FreeTypeFont, width: float = float("inf")) -> _Text:
        """Break at blanks into lines of ``width`` pixels; a longer word has a line of its own. Invisible
        characters are shown as escapes."""
        lines: list[str] = []
        for word in map(visible, words.split()):
            if lines and face.getlength(f"{lines[-1]} {word}") <= width:
                lines[-1] += f" {word}"
            else:
                lines.append(word)
        return cls(lines, face)

    @property
    def width(self) -> float:
        return max(map(self.face.getlength, self.lines), default=0.0)

    @property
    def height(self) -> float:
        return LEADING * self.face.size * len(self.lines)

    def write(self, pen: ImageDraw.ImageDraw, x: float, y: float, colour: str) -> None:
        """Write the lines with their upper left corner at (x, y)."""
        for i, line in enumerate(self.lines):
            pen.text((x, y + LEADING * self.face.size * i), line, font=self.face, fill=colour)


@dataclass(frozen=True)
class _Row:
    """A row with its pictures scaled and its words wrapped; ``top``: y of its pictures."""

    tiles: Sequence[Sequence[Image.Image]]
    role: str
    caption: _Text
    role_name: _Text
    titles: Sequence[_Text]
    notes: Sequence[_Text]

    @property
    def title_height(self) -> float:
        return max((title.height for title in self.titles), default=0.0)

    @property
    def label_height(self) -> float:
        return self.caption.height + self.role_name.height


def image_grid(
    rows: Sequence[GridRow],
    *,
    side: int,
    enlarge: bool = True,
    resample: Image.Resampling = Image.Resampling.LANCZOS,
    gap: int = 10,
    text_size: int = 24,
    title: str = "",
    note: str = "",
    paper: str = LIGHT.paper,
) -> Image.Image:
    """Rows of pictures with their captions and titles; RGB, or RGBA where ``paper`` is "" (transparent).

    side: longest side of a picture in pixels; ``enlarge`` = False leaves smaller pictures as they are.
    gap: pixels between the pictures of a block. text_size: pixels of captions and titles. Text is wrapped and
    never cut: the grid grows with it. Without any text there is no margin. Raises EvaluationError when there
    is no picture."""
    bold, small = font(text_size, bold=True), font(text_size * 0.85)
    scaled = [[[_scaled(p, side, enlarge, resample) for p in block] for block in row.blocks] for row in rows]
    sizes = [tile.size for row in scaled for block in row for tile in block]
    if not sizes:
        action = "give at least one row with a picture."
        raise EvaluationError("there are no pictures to draw.", stage="report", action=action)
    wide, high = (max(lengths) for lengths in zip(*sizes, strict=True))
    count = max(map(len, scaled))
    widths = [max(len(row[b]) * (wide + gap) - gap for row in scaled if b < len(row)) for b in range(count)]
    laid_out = [
        _Row(
            tiles,
            row.role,
            _Text.wrapped(row.caption, bold, CAPTION_WIDTH * text_size),
            _Text.wrapped(ROLES.get(row.role, row.role), small),
            [_Text.wrapped(words, bold, width) for words, width in zip(row.titles, widths, strict=False)],
            [_Text.wrapped(words, bold) for words in row.notes],
        )
        for tiles, row in zip(scaled, rows, strict=True)
    ]
    label = max(max(row.caption.width, row.role_name.width) for row in laid_out)
    note_width = max((words.width for row in laid_out for words in row.notes), default=0.0)
    margin = text_size if title or note or label or any(row.titles or row.notes for row in rows) else 0
    between = text_size if margin else gap
    lefts = [margin + (label + 1.5 * text_size if label else 0)]
    for b, width in enumerate(widths):
        titles = [row.titles[b].width for row in laid_out if b < len(row.titles)]
        noted = width + (note_width + text_size / 2 if note_width else 0)
        lefts.append(lefts[-1] + max(noted, *titles, 0) + between)
    heading = _Text.wrapped(title, font(text_size * 1.6, bold=True))
    full = max(lefts.pop() - between, margin + heading.width)
    remark = _Text.wrapped(note, small, full - margin)
    y = margin + heading.height + remark.height + (text_size / 2 if title or note else 0)
    tops, ruled = [], [False, *(a.role != b.role for a, b in pairwise(laid_out))]
    for row, rule in zip(laid_out, ruled, strict=True):
        tops.append(y + row.title_height + (text_size if rule else 0))
        y = tops[-1] + max(high, row.label_height) + (text_size if margin else gap)
    size = (round(full + margin), round(y - (0 if margin else gap)))
    sheet = Image.new("RGB", size, paper) if paper else Image.new("RGBA", size)
    pen = ImageDraw.Draw(sheet)
    heading.write(pen, margin, margin, LIGHT.ink)
    remark.write(pen, margin, margin + heading.height, LIGHT.muted)
    for row, top, rule in zip(laid_out, tops, ruled, strict=True):
        if rule:
            line = top - row.title_height - text_size
            pen.line((margin, line, full, line), fill=LIGHT.line, width=2)
        _label(pen, row, margin, top, high, text_size)
        for b, (block, left) in enumerate(zip(row.tiles, lefts, strict=False)):
            for words in row.titles[b : b + 1]:
                words.write(pen, left, top - row.title_height, LIGHT.ink)
            for words in row.notes[b : b + 1]:
                words.write(pen, left + widths[b] + text_size / 2, top + (high - words.height) / 2, LIGHT.ink)
            for j, tile in enumerate(block):
                sheet.paste(tile, (round(left) + j * (wide + gap), round(top)))
    return sheet


def _label(pen: ImageDraw.ImageDraw, row: _Row, x: float, top: float, high: int, text_size: int) -> None:
    """Caption and role, centred on the row's pictures of ``high`` pixels, and a bar in the role's colour."""
    colour = getattr(LIGHT, row.role, LIGHT.rest)
    if row.role:
        pen.rectangle((x, top, x + text_size / 4, top + high - 1), fill=colour)
    left, y = x + (text_size * 0.75 if row.role else 0), top + max(0, high - row.label_height) / 2
    row.caption.write(pen, left, y, LIGHT.ink)
    row.role_name.write(pen, left, y + row.caption.height, colour)


def _scaled(picture: Pictures, side: int, enlarge: bool, resample: Image.Resampling) -> Image.Image:
    image = Image.fromarray(np.ascontiguousarray(picture))
    return ImageOps.contain(image, (side, side), resample) if enlarge or max(image.size) > side else image


def png(image: Image.Image, colours: int = 0) -> bytes:
    """PNG bytes; the same picture gives the same bytes. colours: most colours of a palette, 0 for all."""
    if colours:
        image = image.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=4)  # 6 takes twice as long for a hundredth of the size
    return stream.getvalue()
