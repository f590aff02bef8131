"""The image manifest: what a data set is. One CSV row a picture, beside the pictures it names."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fade.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("path", "concept", "family", "style", "package", "version", "licence", "sha256", "width", "height", "split")
SPLITS = ("train", "heldout")
MANIFEST = "manifest.csv"


def read_manifest(path: Path) -> pd.DataFrame:
    """Read ``manifest.csv``: all columns as text except width and height (pixels, integers).

    Raises DataError when the file is missing, empty, not UTF-8, has other columns than COLUMNS, or a path
    that leaves the folder. Whether the rows are *true* is for the data checks to say, not for the reader. """
    import pandas as pd

    fix = "pull the data again (`fade pull`), or write the manifest anew."
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.", stage="manifest", action=fix) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start}).", stage="manifest", action=fix) from None
    except pd.errors.EmptyDataError:
        raise DataError(f"{path} is empty.", stage="manifest", action=fix) from None
    except pd.errors.ParserError as error:
        raise DataError(f"{path} is no CSV table: "
                        f"{str(error).strip()}.", stage="manifest", action=fix) from None
    # pandas takes a surplus first field for a row name, and shifts the rest
    if not isinstance(frame.index, pd.RangeIndex):
        raise DataError(f"{path} is no CSV table: its rows have more fields than its "
                        "head.", stage="manifest", action=fix)
    missing = [c for c in COLUMNS if c not in frame.columns]
    extra = [c for c in frame.columns if c not in COLUMNS]
    if missing or extra:
        parts = [f"missing {missing}" if missing else "", f"unknown {extra}" if extra else ""]
        raise DataError(f"{path}: columns: {', '.join(p for p in parts if p)}.", stage="manifest", action=fix)
    if frame.empty:
        raise DataError(f"{path} has no rows.", stage="manifest", action=fix)
    for row, name in enumerate(frame["path"]):
        if not is_inside(name):
            raise DataError(f"{path}: row {row + 2}: {name!r} leaves the data "
                            "folder.", stage="manifest", action=fix)
    for column in ("width", "height"):
        number = pd.to_numeric(frame[column], errors="coerce")
        wrong = (number % 1 != 0).to_numpy()  # NaN and infinity, too
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"{path}: row {row + 2}: {column} is {frame[column][row]!r}, not a whole number.",
                stage="manifest",
                action=fix,
            )
        frame[column] = number.astype(int)
    return frame[list(COLUMNS)]


def is_inside(relpath: str) -> bool:
    """True when a relative POSIX path stays below its folder: not absolute, no ``..``, no drive, no back
    slash."""
    path = PurePosixPath(relpath)
    return bool(relpath) and not path.is_absolute() and ".." not in path.parts and "\\" not in relpath and ":" not in relpath


