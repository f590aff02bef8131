"""Small data sets for tests: a folder of pictures and a correct manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from fade.data.manifest import COLUMNS, MANIFEST
from fade.utils.hashing import sha256_of

FAMILIES: Mapping[str, Sequence[str]] = {"bears": ("panda", "koala"), "flowers": ("tulip", "rose")}
STYLES: Mapping[str, str] = {"noto": "train", "fluent": "train", "twemoji": "heldout"}


def make_dataset(folder: Path, *, size: int = 8, seed: int = 0) -> pd.DataFrame:
    """4 concepts in 2 families, each in 3 styles (one held out): 12 different noise pictures, ``size``
    px; its manifest."""
    rng = np.random.default_rng(seed)
    rows = []
    for family, concepts in FAMILIES.items():
        for concept in concepts:
            for style, split in STYLES.items():
                name = f"{style}/{concept}.png"
                save(folder / name, rng.integers(0, 256, (size, size, 3), dtype=np.uint8))
                digest = sha256_of(folder / name)
                rows.append(
                    (name, concept, family, style, f"{style}-set", "1.0", "MIT", digest, size, size, split)
                )
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    write_manifest(folder, frame)
    return frame


def save(path: Path, pixels: np.ndarray, mode: str = "RGB") -> None:
    """uint8 (H, W, 3) as a picture of ``mode``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)


def write_manifest(folder: Path, frame: pd.DataFrame) -> None:
    """Write the manifest of ``folder``."""
    frame.to_csv(folder / MANIFEST, index=False)


def rehash(folder: Path, frame: pd.DataFrame) -> None:
    """Write the manifest with the hashes of the files as they are now: the planted fault is then the only
    one."""
    frame["sha256"] = [sha256_of(folder / name) for name in frame["path"]]
    write_manifest(folder, frame)
