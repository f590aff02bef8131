"""What is measured on a data set before it is judged: every picture decoded and hashed, one row each. Says
nothing about good or bad."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.data.vocabulary import slug
from fade.data.manifest import COLUMNS, MANIFEST, read_manifest

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("PNG", "JPEG", "WEBP")  # Pillow opens dozens; these three need no outside program
MEASURED = ("exists", "actual_sha256", "decodes", "error", "mode", "actual_width", "actual_height", "std", "duplicate_of", "leaks_from")
MAX_PIXELS = 64 * 1024 * 1024
COLUMNS_OF_PICTURES = (*COLUMNS, *MEASURED)
COLUMNS_OF_CONCEPTS = ("concept", "slug", "families", "other_families", "train", "heldout")
COLUMNS_OF_FILES = ("path", "listed")
COLUMNS_OF_MINED = ("picture", "concept", "std", "duplicate_of")
COLUMNS_OF_COUNTS = ("concept", "expected", "count", "confidence")


def picture_frame(folder: Path) -> pd.DataFrame:
    """The manifest of ``folder`` with what its pictures really are: COLUMNS_OF_PICTURES, one row a manifest
    row.

    What cannot be measured (a missing or unreadable picture) is None, so that one fault is told once. std is
    that of the grey levels (0-255). duplicate_of names an earlier picture of the same split with the same
    pixels, leaks_from one of another split. Raises DataError when the manifest itself cannot be read. """
    frame = read_manifest(folder / MANIFEST)
    with ThreadPoolExecutor(max_workers=4) as pool:
        measured = list(pool.map(lambda name: _measure(folder / name), frame["path"]))
    for column in ("exists", "actual_sha256", "decodes", "error", "mode", "actual_width", "actual_height", "std"):
        frame[column] = _objects([m.get(column) for m in measured])
    pixels = [m.get("pixels") for m in measured]
    frame["duplicate_of"] = _objects(_twins(pixels, frame["path"], frame["split"], same=True))
    frame["leaks_from"] = _objects(_twins(pixels, frame["path"], frame["split"], same=False))
    return frame[list(COLUMNS_OF_PICTURES)]


def concept_frame(pictures: pd.DataFrame) -> pd.DataFrame:
    """One row a concept, in the manifest's order: its slug (run folders and model names), its families and
    its counts."""
    import pandas as pd

    rows = []
    for name, group in pictures.groupby("concept", sort=False):
        families = list(dict.fromkeys(group["family"]))
        splits = group["split"].value_counts()
        more = ", ".join(families[1:]) or None
        rows.append((name, slug(str(name)), len(families), more, int(splits.get("train", 0)), int(splits.get("heldout", 0))))
    return pd.DataFrame(rows, columns=list(COLUMNS_OF_CONCEPTS))


def file_frame(folder: Path, listed: Iterable[str]) -> pd.DataFrame:
    """One row a file below ``folder`` (the manifest aside) and whether the manifest lists it."""
    import pandas as pd

    known = set(listed)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    rows = [(name, name in known) for name in names if name != MANIFEST]
    return pd.DataFrame(rows, columns=list(COLUMNS_OF_FILES))


def mined_frame(pictures: np.ndarray, concepts: Sequence[str]) -> pd.DataFrame:
    """Generated pictures, uint8 (N, H, W, 3), of ``concepts`` (N names): std, and duplicates within a
    concept."""
    import pandas as pd

    names, seen = [], dict.fromkeys(concepts, 0)
    for concept in concepts:
        names.append(f"{concept} #{seen[concept]}")
        seen[concept] += 1
    pixels = [hashlib.sha256(np.ascontiguousarray(p).tobytes()).hexdigest() for p in pictures]
    frame = pd.DataFrame({"picture": names, "concept": list(concepts), "std": _objects([_grey_std(p) for p in pictures])})
    frame["duplicate_of"] = _objects(_twins(pixels, names, concepts, same=True))
    return frame[list(COLUMNS_OF_MINED)]


def count_frame(concepts: Sequence[str], expected: dict[str, int], confidences: dict[str, float]) -> pd.DataFrame:
    """One row a concept that was expected or made: how many, and the judge's mean confidence (None when not a
    number)."""
    import pandas as pd

    rows: list[tuple[Any, ...]] = []
    for name in dict.fromkeys([*expected, *concepts]):
        value = confidences.get(name)
        rows.append((name, expected.get(name, 0), list(concepts).count(name), value if value is not None and np.isfinite(value) else None))
    frame = pd.DataFrame(rows, columns=list(COLUMNS_OF_COUNTS))
    frame["confidence"] = _objects([row[-1] for row in rows])
    return frame


def _measure(path: Path) -> dict[str, Any]:
    """Facts of one picture file; only those that can be had."""
    from PIL import Image

    try:
        content = path.read_bytes()
    except OSError:
        return {"exists": False}
    facts: dict[str, Any] = {"exists": True, "actual_sha256": hashlib.sha256(content).hexdigest()}
    try:
        with Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:  # before it is unpacked
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            # (H, W, 3); reads every pixel: a truncated file fails here
            array = np.asarray(image.convert("RGB"))
            facts |= {"mode": image.mode, "actual_width": image.width, "actual_height": image.height}
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return facts | {"decodes": False, "error": str(error).splitlines()[0] if str(error) else type(error).__name__}
    digest = hashlib.sha256(f"{facts['mode']}{array.shape}".encode() + array.tobytes()).hexdigest()
    return facts | {"decodes": True, "std": _grey_std(array), "pixels": digest}


def _grey_std(pixels: np.ndarray) -> float:
    """Standard deviation of the grey levels of (H, W, 3) uint8; 0 = one flat tone."""
    return round(float(pixels.astype(np.float64).mean(axis=-1).std()), 4)


def _twins(keys: Sequence[str | None], names: Iterable[str], groups: Iterable[str], *, same: bool) -> list[str | None]:
    """For each item the first earlier item with the same key, in the same group or (``same=False``) in
    another; else None."""
    agrees: Callable[[str, str], bool] = (lambda a, b: a == b) if same else (lambda a, b: a != b)
    seen: dict[str, list[tuple[str, str]]] = {}
    out: list[str | None] = []
    for key, name, group in zip(keys, names, groups, strict=True):
        earlier = seen.setdefault(key, []) if key is not None else []
        # The same path listed twice is its own fault, not a duplicate picture.
        out.append(next((n for n, g in earlier if n != name and agrees(g, group)), None))
        earlier.append((name, group))
    return out


def _objects(values: Sequence[Any]) -> pd.Series[Any]:
    """A column in which None stays None (pandas would turn integers into floats beside it)."""
    import pandas as pd

    return pd.Series(list(values), dtype=object)
