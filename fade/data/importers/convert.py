"""One picture of a copy -> the picture that is kept: 8-bit RGB, upright, without transparency.

A picture that is so already keeps its bytes. Runs in worker processes: imports no torch."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fade.data.pictures import FORMATS, WIDE, orientation, unusable

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
BAND = 16
"""Rows of pixels by which pictures are told apart at first."""
_KNOWN = {
    b"GIF8": "a GIF file",
    b"BM": "a BMP file",
    b"II*\0": "a TIFF file",
    b"MM\0*": "a TIFF file",
    b"%PDF": "a PDF file",
    b"<svg": "an SVG file",
    b"<!DO": "a web page",
    b"<htm": "a web page",
    b"vers": "a pointer of Git LFS",
}
"""First bytes -> what a file that is not read is."""


@dataclass(frozen=True)
class Converted:
    """A picture that is kept."""

    content: bytes
    suffix: str
    """Of its format, with the dot."""
    change: str
    """What was done to it, joined by ``+``: grey, cmyk, alpha, palette, turned, shrunk, suffix; "" for one
    whose bytes are the copy's."""
    width: int
    height: int
    band: str
    """sha256 of its size and of BAND rows in its middle: pictures of two bands are two pictures. To hash all
    pixels takes a fifth of their decoding."""


def convert(name: str, content: bytes, side: int | None) -> Converted:
    """``content`` of the file ``name`` as it is kept. side: pixels; a picture whose shorter side is longer is
    shrunk to it. Raises ValueError, which says why a picture is left out."""
    if not content:
        raise ValueError("it is empty")
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if fault := unusable(opened) or (WIDE if opened.mode.startswith(("I", "F")) else ""):
                raise ValueError(fault)
            kind, turned = str(opened.format), orientation(opened) != 1
            changes = [_mode_change(opened)]
            opened.load()
            # each of these calls copies all pixels: only where it changes something
            upright: Image.Image = ImageOps.exif_transpose(opened) if turned else opened
            picture = _on_white(upright) if changes[0] == "alpha" else upright
            picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    except ValueError:
        raise
    except Exception as error:  # Pillow raises a dozen kinds for a broken file
        raise ValueError(_why(content, error)) from None
    changes.append("turned" if turned else "")
    if side and min(picture.size) > side:
        scale = side / min(picture.size)
        size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
        changes.append("shrunk")
    redrawn = any(changes)
    suffix = ".png" if redrawn else SUFFIXES[kind]
    if redrawn:
        packed = io.BytesIO()
        picture.save(packed, "PNG")
        content = packed.getvalue()
    if not _is_named_so(name, SUFFIXES[kind]):
        changes.append("suffix")
    change = "+".join(filter(None, changes))
    return Converted(content, suffix, change, picture.width, picture.height, _band(picture))


def _band(picture: Image) -> str:
    top = max(0, (picture.height - BAND) // 2)
    rows = picture.crop((0, top, picture.width, min(top + BAND, picture.height)))
    return hashlib.sha256(b"%d %d " % picture.size + rows.tobytes()).hexdigest()


def _mode_change(picture: Any) -> str:
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA", "RGBa", "La"):
        return "alpha"
    known = {"RGB": "", "L": "grey", "1": "grey", "CMYK": "cmyk", "P": "palette"}
    mode = str(picture.mode)
    return known.get(mode, mode.lower())


def _on_white(picture: Image) -> Image:
    from PIL import Image

    layer = picture.convert("RGBA")
    ground = Image.new("RGBA", layer.size, "white")
    return Image.alpha_composite(ground, layer).convert("RGB")


def _is_named_so(name: str, suffix: str) -> bool:
    lower = name.lower()
    return lower.endswith(suffix) or (suffix == ".jpg" and lower.endswith((".jpeg", ".jpe")))


def _why(content: bytes, error: Exception) -> str:
    """What a file is that cannot be opened."""
    if content[4:8] == b"ftyp":
        return "it is a HEIC or AVIF file"
    kind = next((kind for head, kind in _KNOWN.items() if content.startswith(head)), "")
    text = (str(error).splitlines() or [""])[0] or type(error).__name__
    if not kind and text.startswith("cannot identify"):
        kind = "no JPEG, PNG or WebP picture"
    return f"it is {kind}" if kind else text
