"""Tables of measurements for the data checks: every picture decoded and hashed, one row each. No rules."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fade.data.manifest import COLUMNS, MANIFEST, RECORDS, read_manifest
from fade.data.measurements import Measurements
from fade.data.pictures import decode_rgb, pixels_sha256, read_picture_file
from fade.data.vocabulary import slug
from fade.utils.progress import report
from fade.utils.reading import RefusedFileError

if TYPE_CHECKING:
    import pandas as pd

FACTS = (
    *("exists", "actual_sha256", "decodes", "error", "mode", "actual_width", "actual_height", "aspect"),
    "std",
)
COLUMNS_OF_PICTURES = (*COLUMNS, *FACTS, "duplicate_of", "leaks_from")
_OF_THE_FILE = ("exists", "actual_sha256")
"""FACTS that are no facts of a picture's bytes."""
COLUMNS_OF_MINED = ("picture", "concept", "std", "duplicate_of")


def picture_frame(folder: Path, kept: Measurements | None = None) -> pd.DataFrame:
    """The manifest of ``folder`` beside the measurements of its pictures: COLUMNS_OF_PICTURES, one row a
    manifest row.

    A picture is decoded by the rule of `fade.data.pictures`.

    A value that cannot be measured (a missing or unreadable picture) is None, so that one fault fails one
    check. std is that of the grey levels (0-255). duplicate_of names an earlier picture of the same split
    with the same pixels, leaks_from one of another split. Raises DataError when the manifest itself cannot be
    read.
    """
    frame = read_manifest(folder / MANIFEST)
    kept = kept or Measurements()
    measured = _measured(folder, list(frame["path"]), kept)
    for column in FACTS:
        frame[column] = _objects([m.get(column) for m in measured])
    pixels = [m.get("pixels") for m in measured]
    for column, same in (("duplicate_of", True), ("leaks_from", False)):
        frame[column] = _objects(_earlier_equals(pixels, frame["path"], frame["split"], same=same))
    return frame[list(COLUMNS_OF_PICTURES)]


def _measured(folder: Path, names: Sequence[str], kept: Measurements) -> list[dict[str, Any]]:
    """The measurements of each file, decoded or known."""

    def measure(known: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
        found = []
        with ThreadPoolExecutor(max_workers=4) as pool:
            for done, one in enumerate(pool.map(lambda name: _measure(folder, name, known), names), 1):
                found.append(one)
                report("measure", done, len(names), folder.name)
        return found

    known = {sha256: facts for sha256, facts in kept.known.items() if sha256 not in kept.sample}
    measured = measure(known)
    if not kept.agrees(_by_content(measured)):
        known = {}
        measured = measure(known)
    facts = _by_content(measured)
    kept.keep(facts, decoded=len(facts.keys() - known.keys()))
    return measured


def _by_content(measured: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """sha256 of a file's bytes -> what they alone decide."""
    return {
        one["actual_sha256"]: {name: value for name, value in one.items() if name not in _OF_THE_FILE}
        for one in measured
        if "actual_sha256" in one
    }


def concept_frame(pictures: pd.DataFrame) -> pd.DataFrame:
    """One row a concept, in the manifest's order: its slug (run folders, model names), families, counts."""
    import pandas as pd

    rows = []
    for name, group in pictures.groupby("concept", sort=False):
        families = list(dict.fromkeys(group["family"]))
        splits = group["split"].value_counts()
        train, heldout = int(splits.get("train", 0)), int(splits.get("heldout", 0))
        others = ", ".join(families[1:]) or None
        rows.append((name, slug(str(name)), len(families), others, train, heldout))
    return pd.DataFrame(rows, columns=["concept", "slug", "families", "other_families", "train", "heldout"])


def file_frame(folder: Path, listed: Iterable[str]) -> pd.DataFrame:
    """One row a file below ``folder`` (except its records) and whether the manifest lists it."""
    import pandas as pd

    known = set(listed)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    rows = [(name, name in known) for name in names if name not in RECORDS]
    return pd.DataFrame(rows, columns=["path", "listed"])


def mined_frame(pictures: np.ndarray, concepts: Sequence[str]) -> pd.DataFrame:
    """Generated pictures, uint8 (N, H, W, 3), of ``concepts`` (N names): std, duplicates in a concept."""
    import pandas as pd

    counters: dict[str, Iterator[int]] = defaultdict(count)
    names = [f"{concept} #{next(counters[concept])}" for concept in concepts]
    pixels = [hashlib.sha256(np.ascontiguousarray(p).tobytes()).hexdigest() for p in pictures]
    std = _objects([_grey_std(p) for p in pictures])
    equals = _objects(_earlier_equals(pixels, names, concepts, same=True))
    return pd.DataFrame(dict(zip(COLUMNS_OF_MINED, (names, list(concepts), std, equals), strict=True)))


def count_frame(
    concepts: Sequence[str], expected: Mapping[str, int], confidences: Mapping[str, float]
) -> pd.DataFrame:
    """One row a concept, expected or generated: how many, and the mean confidence (None for no number)."""
    import pandas as pd

    names, counts = list(dict.fromkeys([*expected, *concepts])), Counter(concepts)
    rows = [(name, expected.get(name, 0), counts[name]) for name in names]
    frame = pd.DataFrame(rows, columns=["concept", "expected", "count"])
    sure = [confidences.get(name, np.nan) for name in names]
    frame["confidence"] = _objects([value if np.isfinite(value) else None for value in sure])
    return frame


def _measure(folder: Path, name: str, known: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The measurements of one picture file; only those that could be made."""
    try:
        content = read_picture_file(folder, name)
    except RefusedFileError as error:
        return {"exists": True, "decodes": False, "error": str(error)}
    except OSError:
        return {"exists": False}
    sha256 = hashlib.sha256(content).hexdigest()
    facts = known.get(sha256) or _measure_content(content)
    return {"exists": True, "actual_sha256": sha256, **facts}


def _measure_content(content: bytes) -> dict[str, Any]:
    try:
        mode, array = decode_rgb(content)
    except ValueError as error:
        return {"decodes": False, "error": str(error)}
    height, width = array.shape[:2]
    return {
        "mode": mode,
        "actual_width": width,
        "actual_height": height,
        "decodes": True,
        "aspect": round(max(height, width) / max(min(height, width), 1), 2),
        "std": _grey_std(array),
        "pixels": pixels_sha256(mode, array),
    }


def _grey_std(pixels: np.ndarray) -> float:
    """Standard deviation of the grey levels of (H, W, 3) uint8; 0 = one flat tone."""
    return round(float(pixels.mean(axis=-1, dtype=np.float64).std()), 4)


def _earlier_equals(
    keys: Iterable[str | None], names: Iterable[str], groups: Iterable[str], *, same: bool
) -> list[str | None]:
    """For each item the first earlier one with its key, in its group or (``same=False``) another; or None."""
    by_key: dict[str, list[tuple[str, str]]] = {}
    equals: list[str | None] = []
    for key, name, group in zip(keys, names, groups, strict=True):
        earlier = by_key.setdefault(key, []) if key is not None else []
        # The same path listed twice is its own fault, not a duplicate picture.
        equals.append(next((n for n, g in earlier if n != name and (g == group) == same), None))
        earlier.append((name, group))
    return equals


def _objects(values: Sequence[Any]) -> pd.Series[Any]:
    """A column in which None stays None (pandas would turn integers into floats beside it)."""
    import pandas as pd

    return pd.Series(list(values), dtype=object)
