"""What stands in the target's place: real pictures, the floor, and a control that must be far."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from fade.data.manifest import COLUMNS, MANIFEST
from fade.errors import DataError
from fade.evaluation.realism import (
    Realism,
    RealPictures,
    evaluate_realism,
    featureless,
    nearest_real,
    real_pictures,
)
from fade.generation.cache import Cache

NAMES = ("panda", "tulip")


class Edges:
    """A judge whose features are how much a picture's columns and rows change; labels by the grey level."""

    labels: ClassVar = [*NAMES]
    sha256 = "j" * 64
    prepare = type("Prepare", (), {"size": 8})
    calls = 0

    def features(self, pixels: np.ndarray) -> torch.Tensor:
        self.calls += 1
        x = pixels.astype(np.float32)[..., 0]
        across, down = np.abs(np.diff(x, axis=2)).mean((1, 2)), np.abs(np.diff(x, axis=1)).mean((1, 2))
        return torch.from_numpy(np.stack([across, down, np.full(len(x), 20.0, np.float32)], 1))

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        return torch.eye(2)[(torch.from_numpy(pixels[:, 0, 0, 0].astype(int)) > 100).long()]

    def with_features(self, pixels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        return self(pixels), self.features(pixels)


def stripes(n: int, level: int = 255, *, down: bool = False) -> np.ndarray:
    """Fine stripes: what a 2 x 2 mean takes away."""
    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, ::2] = level
    return np.stack([picture.transpose(1, 0, 2) if down else picture] * n)


def judged(erased: np.ndarray, judge: Edges | None = None, radius: float = 30.0) -> Realism:
    judge = judge or Edges()
    real = np.concatenate(
        [stripes(1, 255), stripes(1, 225), stripes(1, 245, down=True), stripes(1, 215, down=True)]
    )
    pictures = RealPictures(Path(), ("a", "b", "c", "d"), 8, judge.features(real), radius)
    pixels = {"base": {"panda": stripes(4, 230), "tulip": stripes(4, 240, down=True)}}
    pixels["erased"] = {**pixels["base"], "panda": erased}
    odds = {model: {name: judge(one).numpy() for name, one in each.items()} for model, each in pixels.items()}
    features = {
        model: {name: judge.features(one) for name, one in each.items()} for model, each in pixels.items()
    }
    return evaluate_realism(judge, pictures, ["panda"], pixels, odds, features, 0)  # type: ignore[arg-type]


def test_another_drawing_in_its_place_is_real_and_a_smear_is_not() -> None:
    drawn, smeared = judged(stripes(4, 235, down=True)), judged(featureless(stripes(4)))
    assert drawn.numbers["share"] == {"base": 100.0, "erased": 100.0, "control": 0.0}
    assert smeared.numbers["share"]["erased"] == 0.0 and not smeared.numbers["reason"]
    far, near = smeared.numbers["distance"]["erased"], drawn.numbers["distance"]["erased"]
    assert near["mean"] == pytest.approx(10 / 30) and far["mean"] > 5
    assert far["sd"] == pytest.approx(0, abs=1e-5)
    assert drawn.within["erased"]["panda"].all() and not smeared.within["erased"]["panda"].any()
    assert drawn.numbers["per_target"] == {"panda": 100.0} and drawn.numbers["n"] == 4
    assert drawn.numbers["confidence"] == {"base": 1.0, "erased": 1.0, "control": 1.0}


def test_where_the_control_passes_nothing_is_reported() -> None:
    class Colours(Edges):
        """Sees the mean level alone."""

        def features(self, pixels: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(pixels.mean((1, 2, 3)).astype(np.float32))[:, None]

    blind = judged(stripes(4), Colours(), radius=5.0)
    assert blind.within == {} and "100 % of pictures without features" in blind.numbers["reason"]


def test_without_real_pictures_nothing_is_measured() -> None:
    assert evaluate_realism(Edges(), None, ["panda"], {}, {}, {}, 4) == Realism()  # type: ignore[arg-type]


def test_the_nearest_is_named_with_its_distance() -> None:
    real = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    distances, which = nearest_real(torch.tensor([[4.0, 4.0], [0.0, 1.0], [1.0, 1e-4]]), real)
    assert distances == pytest.approx([5.0, 0.0, 1e-4]) and which[1:].tolist() == [1, 0]


def data_set(folder: Path) -> Path:
    """Three training pictures of one concept, one of another, and one that is held out; of several sizes."""
    rows = []
    for i, (concept, split) in enumerate(
        [("panda", "train"), ("panda", "train"), ("panda", "train"), ("tulip", "train"), ("tulip", "heldout")]
    ):
        path = f"{i}.png"
        picture = np.random.default_rng(i).integers(0, 256, (8 + i, 12, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / path)
        sha256 = hashlib.sha256((folder / path).read_bytes()).hexdigest()
        rows.append([path, concept, "f", "s", "p", "1", "MIT", sha256, 12, 8 + i, split])
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(folder / MANIFEST, index=False)
    return folder


def test_real_pictures_are_of_all_concepts_and_their_features_are_kept(tmp_path: Path) -> None:
    folder, cache, judge = data_set(tmp_path), Cache(tmp_path / "cache"), Edges()
    few, every = (real_pictures(judge, folder, most, cache) for most in (2, 100))  # type: ignore[arg-type]
    assert few is not None and every is not None
    assert few.paths == ["0.png", "3.png"] and every.paths == ["0.png", "3.png", "1.png", "2.png"]
    assert judge.calls == 2 and every.features.shape == (4, 3)
    spacing = torch.cdist(every.features, every.features).fill_diagonal_(torch.inf).amin(1)
    assert every.radius == pytest.approx(float(np.percentile(spacing.numpy(), 95)), rel=1e-4)
    kept = real_pictures(judge, folder, 100, cache)  # type: ignore[arg-type]
    assert kept is not None and judge.calls == 2 and torch.equal(kept.features, every.features)
    assert kept.radius == every.radius
    assert every.load(1).shape == (8, 8, 3)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = data_set(tmp_path)
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"3\.png cannot be read"):
        real_pictures(Edges(), folder, 9, Cache(tmp_path / "cache"))  # type: ignore[arg-type]
