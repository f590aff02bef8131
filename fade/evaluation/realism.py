"""What stands in the target's place: a picture of something, or a smear?

A_er counts every picture that the judge does not call the target, so a featureless disc would be a perfect
erasure. Here the target's pictures are held against real ones: the distance of each to the nearest of the
data set's training pictures, of whatever concept, in the judge's penultimate features. Ours; the idea of
judging each generated picture by its nearest real ones is Kynkäänniemi et al.'s (2019, improved precision).

Why nearest neighbours. A Fréchet distance needs a covariance of D features from the few pictures of one
target (24), and is mostly the bias of so few. A kernel distance (KID) has none, but compares distributions:
the pictures of ONE concept are far from all real ones together however real they are. A distance to the
nearest real picture is a number of each picture by itself: its mean over few has no bias, only spread.

The features have no unit of their own, so distances are given in radii: within one radius of another real
picture lie 95 % of the real ones. What the number is worth, two comparisons say:

* the floor, the original's own pictures of the target: what this base can reach;
* the control, the same pictures with their features taken away (`featureless`), which resemble nothing.
  Where half of them lie within the radius all the same, the judge's features do not see the difference, and
  nothing is reported but that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor

from fade.data.manifest import MANIFEST, TRAIN, read_manifest
from fade.data.pictures import decode_rgb, read_picture_file
from fade.errors import DataError
from fade.generation.cache import Cache
from fade.judges.classifier import Classifier

QUANTILE = 95.0
"""Percent of the real pictures that lie within the radius of another one."""
CONTROL_MOST = 50.0
"""Percent of the control within the radius from which the distance is taken to be blind."""
LEAST = 1e-6
"""The smallest radius, of a set that repeats its pictures."""
CELLS = 4
"""A featureless picture keeps this many colours along each side."""
_Arrays = Mapping[str, np.ndarray]
"""By concept."""


@dataclass(frozen=True)
class RealPictures:
    """Training pictures of a data set."""

    folder: Path
    paths: Sequence[str]
    side: int
    """Pixels of the square into which each is fitted: what the judge reads."""
    features: Tensor
    """(N, D) float32, by the judge."""
    radius: float
    """See the module."""

    def load(self, i: int) -> np.ndarray:
        """One of them, uint8 (side, side, 3). Raises DataError."""
        return _read(self.folder, self.paths[i], self.side)


@dataclass(frozen=True)
class Substitute:
    """A picture of the erased model for the target's prompt, and the real one that is nearest to it."""

    concept: str
    """The target."""
    pixels: np.ndarray
    """uint8 (H, W, 3)."""
    label: str
    """What the judge takes it for, with the probability ``confidence``."""
    confidence: float
    distance: float
    """In radii."""
    nearest: np.ndarray
    """uint8 (side, side, 3)."""


def real_pictures(judge: Classifier, folder: Path, most: int, cache: Cache) -> RealPictures | None:
    """At most ``most`` training pictures of the set in ``folder``, evenly of all concepts: the first of every
    concept, then the second, and so on. None where it has none. Features are kept in the cache by what the
    manifest says of the pictures. Raises DataError for a picture that cannot be read."""
    frame = read_manifest(folder / MANIFEST)
    frame = frame[frame["split"] == TRAIN]
    frame = frame.loc[frame.groupby("concept").cumcount().sort_values(kind="stable").index].head(most)
    if frame.empty:
        return None
    paths, side = frame["path"].tolist(), judge.prepare.size
    key = Cache.key(judge=judge.sha256, pictures=frame["sha256"].tolist(), side=side)
    if (stored := cache.get("real", key)) is None:
        with ThreadPoolExecutor() as pool:
            pixels = np.stack(list(pool.map(lambda path: _read(folder, path, side), paths)))
        features = judge.features(pixels)
        stored = {
            "features": features,
            "spacing": _distances(features, features).fill_diagonal_(torch.inf).amin(1),
        }
        cache.put("real", key, stored)
    spacing = stored["spacing"][stored["spacing"].isfinite()].numpy()
    radius = max(float(np.percentile(spacing, QUANTILE)), LEAST) if len(spacing) else LEAST
    return RealPictures(folder, paths, side, stored["features"], radius)


def _read(folder: Path, path: str, side: int) -> np.ndarray:
    """A photograph's middle square."""
    try:
        picture = Image.fromarray(decode_rgb(read_picture_file(folder, path))[1])
    except (OSError, ValueError) as error:
        action = "pull the data again (`fade pull`), or mend the picture."
        raise DataError(
            f"{folder / path} cannot be read: {error}.", stage="evaluate", action=action
        ) from None
    square = picture if picture.size == (side, side) else ImageOps.fit(picture, (side, side))
    return np.asarray(square)


def featureless(pixels: np.ndarray) -> np.ndarray:
    """uint8 pictures (n, H, W, 3) of which CELLS x CELLS mean colours are left, blended into each other."""
    x = torch.as_tensor(pixels).permute(0, 3, 1, 2).float()
    means = F.adaptive_avg_pool2d(x, CELLS)
    smooth = F.interpolate(means, size=x.shape[-2:], mode="bilinear", align_corners=False)
    out: np.ndarray = smooth.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return out


def nearest_real(features: Tensor, real: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean distance (n,) of each picture's features (n, D) to the nearest of real ones (N, D), and which
    it is."""
    nearest = _distances(features, real).min(dim=1)
    return nearest.values.numpy(), nearest.indices.numpy()


def _distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, N); without the products of a faster way, in which small distances drown."""
    out: Tensor = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
    return out


@dataclass(frozen=True)
class Realism:
    """The outcome. numbers: see `evaluate_realism`."""

    numbers: dict[str, Any] = field(default_factory=dict)
    within: Mapping[str, _Arrays] = field(default_factory=dict)
    """Model (base, erased) -> target -> (n,) whether each picture lies within the radius."""
    substitutes: list[Substitute] = field(default_factory=list)


def evaluate_realism(
    judge: Classifier,
    real: RealPictures | None,
    targets: Sequence[str],
    pixels: Mapping[str, _Arrays],
    odds: Mapping[str, _Arrays],
    features: Mapping[str, Mapping[str, Tensor]],
    shown: int,
) -> Realism:
    """Compare the targets' pictures to real ones; None: nothing is measured.

    pixels, odds, features: model (base, erased) -> concept -> pictures (n, H, W, 3), the judge's
    probabilities (n, L) and its features (n, D). Numbers: ``distance`` in radii (mean and sd), ``share``
    within the radius (percent) and ``confidence`` (the judge's mean highest probability), each of base,
    erased and control; ``per_target``, the erased model's share; ``n`` pictures of each, and of ``real``
    ones; a ``reason`` where the control shows that the distance is blind, and nothing is ``within`` then.
    ``shown``: substitutes of each target, the first pictures."""
    if real is None:
        return Realism()
    radius = real.radius
    base = {name: nearest_real(features["base"][name], real.features)[0] for name in targets}
    erased = {name: nearest_real(features["erased"][name], real.features) for name in targets}
    blurred = np.concatenate([featureless(pixels["base"][name]) for name in targets])
    control_odds, control_features = judge.with_features(blurred)
    distances = {
        "base": np.concatenate([base[name] for name in targets]) / radius,
        "erased": np.concatenate([erased[name][0] for name in targets]) / radius,
        "control": nearest_real(control_features, real.features)[0] / radius,
    }
    within = {
        "base": {name: base[name] <= radius for name in targets},
        "erased": {name: erased[name][0] <= radius for name in targets},
    }
    confidence = {model: np.concatenate([odds[model][name].max(1) for name in targets]) for model in within}
    confidence["control"] = control_odds.numpy().max(1)
    share = {model: 100.0 * float((one <= 1).mean()) for model, one in distances.items()}
    blind = share["control"] >= CONTROL_MOST
    reason = f"{share['control']:.0f} % of pictures without features count as real by this judge, too"
    numbers = {
        "real": len(real.paths),
        "radius": radius,
        "distance": {model: {"mean": float(one.mean()), "sd": _sd(one)} for model, one in distances.items()},
        "share": share,
        "confidence": {model: float(one.mean()) for model, one in confidence.items()},
        "per_target": {name: 100.0 * float(one.mean()) for name, one in within["erased"].items()},
        "n": len(distances["erased"]),
        "reason": reason if blind else "",
    }
    substitutes = [
        Substitute(
            concept=name,
            pixels=pixels["erased"][name][i],
            label=judge.labels[int(odds["erased"][name][i].argmax())],
            confidence=float(odds["erased"][name][i].max()),
            distance=float(erased[name][0][i] / radius),
            nearest=real.load(int(erased[name][1][i])),
        )
        for name in targets
        for i in range(min(shown, len(pixels["erased"][name])))
    ]
    return Realism(numbers, {} if blind else within, substitutes)


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
