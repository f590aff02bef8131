"""What `fade purify` is given: pictures it must refuse with a sentence and exit code 2, and those it
takes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from fade.errors import UnknownNameError, UsageError
from tasks.stages.purify import fitted, purify, read_picture, save_panels


def bomb(path: Path, side: int) -> Path:
    """A PNG whose head promises ``side`` x ``side`` pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )
    return path


def text(path: Path) -> Path:
    path.write_text("no picture")
    return path


def cut(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    return path


def gif(path: Path) -> Path:
    Image.new("RGB", (8, 8)).save(path, format="GIF")
    return path


BAD = {
    "missing": (lambda path: path, "is not there"),
    "no picture": (text, "no picture that can be read"),
    "cut short": (cut, "no picture that can be read"),
    "another format": (gif, "no picture that can be read"),
    "a folder": (lambda path: path.parent, "no picture that can be read"),
    "larger than allowed": (lambda path: bomb(path, 7000), "too large: 7000 x 7000"),
    "where PIL warns": (lambda path: bomb(path, 11000), "too large"),
    "where PIL refuses": (lambda path: bomb(path, 60000), "too large"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_picture_is_refused_before_any_model_is_loaded(tmp_path: Path, case: str) -> None:
    make, said = BAD[case]
    with pytest.raises(UsageError) as caught:
        purify(SimpleNamespace(), make(tmp_path / "a.png"), "x.safetensors", None, tmp_path / "out.png")  # type: ignore[arg-type]
    sentence = str(caught.value)
    assert said in sentence and " Next: " in sentence and caught.value.exit_code == 2, sentence


def test_an_unknown_concept_offers_the_nearest(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    judge = SimpleNamespace(labels=["panda", "koala"])
    run = SimpleNamespace(runs=tmp_path, models=SimpleNamespace(judge=judge))
    with pytest.raises(UnknownNameError, match="'pnada'") as caught:
        purify(run, tmp_path / "a.png", "x.safetensors", "pnada", tmp_path / "out.png")  # type: ignore[arg-type]
    assert "'panda'" in str(caught.value) and caught.value.exit_code == 2


def test_the_original_model_purifies_nothing(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="needs an adapter"):
        purify(SimpleNamespace(runs=tmp_path), tmp_path / "a.png", "base", None, tmp_path / "out.png")  # type: ignore[arg-type]


def test_transparency_and_missing_sides_are_white(tmp_path: Path) -> None:
    Image.new("RGBA", (40, 20), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGB", (40, 20)).save(tmp_path / "black.png")
    assert (fitted(read_picture(tmp_path / "clear.png"), 16) == 255).all()
    black = fitted(read_picture(tmp_path / "black.png"), 16)
    assert black.shape == (1, 16, 16, 3) and (black[0, 8] == 0).all() and (black[0, 0] == 255).all()


def test_three_panels_stand_side_by_side(tmp_path: Path) -> None:
    shown = np.stack([np.full((8, 8, 3), grey, np.uint8) for grey in (10, 100, 200)])
    save_panels(shown, tmp_path / "new" / "out.png")
    with Image.open(tmp_path / "new" / "out.png") as sheet:
        row = np.asarray(sheet)[-20, :, 0]
    assert [int(grey) for grey in dict.fromkeys(row)] == [255, 10, 100, 200]
