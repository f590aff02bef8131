"""Pictures are the data folder's own plain files, and are refused by their head before they are unpacked."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fade.data.images import read_pictures
from fade.data.manifest import read_manifest
from fade.data.pictures import MAX_PIXELS, decode_rgb, read_picture_file
from fade.data.tables import picture_frame
from fade.errors import DataError
from fade.utils.reading import PICTURE
from tests.datasets import make_dataset, write_manifest

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
PANDA = "noto/panda.png"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    make_dataset(tmp_path / "data")
    return tmp_path / "data"


def panda(folder: Path) -> dict[str, object]:
    frame = picture_frame(folder)
    return dict(frame[frame["path"] == PANDA].iloc[0])


def png(width: int, height: int, depth: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of zeros; ``colour`` 2 = RGB, 0 = grey."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    line = bytes(1 + width * (3 if colour == 2 else 1) * depth // 8)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(line) for _ in range(height)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    middle = b"".join(chunk(*one) for one in chunks)
    return b"\x89PNG\r\n\x1a\n" + head + middle + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)  # type: ignore[arg-type]
    return stream.getvalue()


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(Image.fromarray(PIXELS), "JPEG", exif=exif)


def animated(kind: str) -> bytes:
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1].copy())]
    return saved(frames[0], kind, save_all=True, append_images=frames[1:])


ODD: dict[str, tuple[Callable[[], bytes], str]] = {
    "turned by EXIF": (lambda: turned(6), "orientation 6"),
    "an animated PNG": (lambda: animated("PNG"), "animated"),
    "an animated WebP": (lambda: animated("WEBP"), "animated"),
    "16 bits a channel": (lambda: png(8, 8, 16, 2), "16 bits"),
    "16 bits of grey": (lambda: png(8, 8, 16, 0), "16 bits"),
    "a transparent colour": (lambda: png(8, 8, 8, 2, (b"tRNS", bytes(6))), "transparent colour"),
    "a transparent palette": (
        lambda: saved(Image.fromarray(PIXELS).convert("P"), "PNG", transparency=0),
        "transparent colour",
    ),
    "too many pixels": (lambda: png(9000, 9000, 8, 2), "9000 x 9000 pixels are too many"),
    "a format of another program": (lambda: saved(Image.fromarray(PIXELS), "EPS"), "cannot identify"),
    "no picture": (lambda: b"GIF89a", "cannot identify"),
    "cut off": (lambda: saved(Image.fromarray(PIXELS), "PNG")[:-40], ""),
}


@pytest.mark.parametrize("what", ODD)
def test_what_a_viewer_shows_otherwise_is_refused_by_name(data: Path, what: str) -> None:
    make, reason = ODD[what]
    (data / PANDA).write_bytes(make())
    row = panda(data)
    assert row["exists"] is True and row["decodes"] is False and reason in str(row["error"])
    assert row["std"] is None and row["mode"] is None
    with pytest.raises(DataError, match=r"panda\.png cannot be read: .*Next: "):
        read_pictures([data / PANDA])


@pytest.mark.parametrize(
    "make", [lambda: turned(1), lambda: saved(Image.fromarray(PIXELS), "WEBP", lossless=True)]
)
def test_control_plain_pictures_are_decoded(data: Path, make: Callable[[], bytes]) -> None:
    (data / PANDA).write_bytes(make())
    assert panda(data)["decodes"] is True
    mode, pixels = decode_rgb(saved(Image.fromarray(PIXELS), "PNG"))
    assert mode == "RGB" and np.array_equal(pixels, PIXELS)
    assert np.array_equal(read_pictures([data / PANDA])[0], np.asarray(Image.open(data / PANDA)))


def test_other_modes_are_still_told_apart_by_the_checks(data: Path) -> None:
    (data / PANDA).write_bytes(saved(Image.fromarray(PIXELS).convert("RGBA"), "PNG"))
    assert (panda(data)["mode"], panda(data)["decodes"]) == ("RGBA", True)


def test_large_pictures_cost_little_before_they_are_refused(data: Path) -> None:
    body = png(9000, 9000, 8, 2)
    frame = read_manifest(data / "manifest.csv")
    for name in frame["path"][:4]:
        (data / name).write_bytes(body)
    picture_frame(data)  # what is imported is not counted
    tracemalloc.start()
    try:
        assert picture_frame(data)["decodes"].tolist()[:5] == [False] * 4 + [True]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20 and MAX_PIXELS < 9000 * 9000


LINKS: dict[str, Callable[[Path], object]] = {
    "a link to a file of the machine": lambda data: (data / PANDA).symlink_to("/etc/hostname"),
    "a link to a device": lambda data: (data / PANDA).symlink_to("/dev/zero"),
    "a link to another picture": lambda data: (data / PANDA).symlink_to("koala.png"),
    "a link to nothing": lambda data: (data / PANDA).symlink_to("gone.png"),
    "a named pipe": lambda data: os.mkfifo(data / PANDA),
    "a folder": lambda data: (data / PANDA).mkdir(),
}


@pytest.mark.parametrize("what", LINKS)
def test_only_the_folders_own_regular_files_are_pictures(data: Path, what: str) -> None:
    (data / PANDA).unlink()
    LINKS[what](data)
    row = panda(data)
    assert row["decodes"] is False and "it is a" in str(row["error"]) and row["actual_sha256"] is None


def test_a_folder_below_the_data_may_be_no_link_and_the_data_folder_may(data: Path, tmp_path: Path) -> None:
    (data / "noto").rename(tmp_path / "outside")
    (data / "noto").symlink_to(tmp_path / "outside")
    assert "it is a link, or lies below one" in str(panda(data)["error"])
    (data / "noto").unlink()
    (tmp_path / "outside").rename(data / "noto")
    (tmp_path / "linked").symlink_to(data)
    assert read_picture_file(tmp_path / "linked", PANDA) == (data / PANDA).read_bytes()
    assert panda(tmp_path / "linked")["decodes"] is True


def test_a_file_of_gigabytes_is_not_read(data: Path) -> None:
    with (data / PANDA).open("wb") as stream:
        stream.truncate(6 << 30)
    assert panda(data)["error"] == f"it is larger than {PICTURE >> 20} MiB"


@pytest.mark.parametrize(
    "name",
    [
        "noto/./panda.png",
        "./noto/panda.png",
        "noto//panda.png",
        "noto/panda.png/",
        ".",
        "noto/pan\u202eda.png",
        "a\x7f.png",
    ],
)
def test_a_second_spelling_of_a_path_is_refused_by_the_manifest(data: Path, name: str) -> None:
    frame = make_dataset(data)
    row = frame.iloc[[0]].assign(path=name)
    write_manifest(data, pd.concat([frame, row]))
    with pytest.raises(DataError, match="row 14: .* has an empty or `.` part, or a character that cannot"):
        read_manifest(data / "manifest.csv")
