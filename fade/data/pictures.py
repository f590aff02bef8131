"""Picture files of a data set, read without trust: the folder's own regular files, within limits.

One rule for all: 8-bit pictures of one frame that are stored upright and have no transparency. Anything else
would be read as another picture than a viewer shows, and is refused by its name."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.utils.reading import PICTURE, RefusedFileError, read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP")
"""Pillow opens dozens; these three need no outside program."""
MAX_PIXELS = 64_000_000
"""Of one picture; known from its head, before anything is unpacked."""
ANIMATED, WIDE = "it is animated", "it has 16 bits a channel"
_ADVICE = {ANIMATED: "; keep one frame", WIDE: "; store 8"}
_ORIENTATION = 0x0112


def read_picture_file(folder: Path, name: str) -> bytes:
    """The bytes of ``folder/name``. Raises OSError: FileNotFoundError, and RefusedFileError for a link (the
    data folder itself may be one), a file below one, no regular file, or more than PICTURE bytes."""
    path = folder / name
    if path.resolve() != folder.resolve() / name:
        what = "it is a link, or lies below one; put the file itself there (`dvc config cache.type copy`)"
        raise RefusedFileError(path, what)
    return read_bytes(path, PICTURE, links=False)


@contextmanager
def open_picture(content: bytes) -> Iterator[Image]:
    """The head of a picture; its pixels are unpacked when they are asked for. Raises what Pillow raises."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
        yield picture


def unusable(picture: Image) -> str:
    """Why nothing can be made of a picture without a choice, by its head; "" for one that may be
    converted."""
    if picture.width * picture.height > MAX_PIXELS:
        return f"{picture.width} x {picture.height} pixels are too many"
    if getattr(picture, "is_animated", False):
        return ANIMATED
    return WIDE if has_wide_channels(picture) else ""


def header_fault(picture: Image) -> str:
    """Why a picture is not used as it is, by its head; "" for one that may be decoded."""
    if fault := unusable(picture):
        return fault + _ADVICE.get(fault, "")
    if "transparency" in picture.info:
        return "it has a transparent colour; put it on a background"
    if (turn := orientation(picture)) != 1:
        return f"its EXIF data turn it (orientation {turn}); store it upright"
    return ""


def has_wide_channels(picture: Image) -> bool:
    """Whether a channel has 16 bits."""
    tiles: Any = getattr(picture, "tile", ())  # how the codec unpacks it: "RGB;16B"
    return any(";16" in str(part) for tile in tiles for part in tile)


def orientation(picture: Image) -> int:
    """EXIF's, 1 for upright."""
    return int(picture.getexif().get(_ORIENTATION, 1))


def pixels_sha256(mode: str, pixels: np.ndarray) -> str:
    """Hash of what a picture shows, uint8 (H, W, 3), and of its mode in the file: two files of one hash are
    the same picture."""
    return hashlib.sha256(f"{mode}{pixels.shape}".encode() + pixels.tobytes()).hexdigest()


def decode_rgb(content: bytes) -> tuple[str, np.ndarray]:
    """(mode in the file, pixels as uint8 (H, W, 3)); reads every pixel, so that a truncated file fails.
    Raises ValueError for a picture that is refused or broken."""
    try:
        with open_picture(content) as picture:
            if fault := header_fault(picture):
                raise ValueError(fault)
            return picture.mode, np.asarray(picture.convert("RGB"))
    except Exception as error:  # Pillow raises a dozen kinds for a broken file
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from error
