"""The image manifest: what a data set is. One CSV row a picture, beside the pictures it names."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fade.errors import DataError
from fade.utils.reading import RECORD, read_text

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    *("path", "concept", "family", "style", "package", "version", "licence"),
    *("sha256", "width", "height", "split"),
)
SHOWN = 200
"""Characters of a wrong path or value in an error."""
MAX_SIDE = 10**6
LONGEST_HEAD = 10_000
"""Characters of the first line."""
MAX_ROWS = 10**6
"""Lines: a row has about 150 bytes, so a file of RECORD bytes has fewer."""
TRAIN, HELDOUT = SPLITS = ("train", "heldout")
MANIFEST = "manifest.csv"
IMPORT, CLASSES, SOURCES, TERMS = "import.json", "classes.csv", "sources.csv", "terms.json"
RECORDS = (MANIFEST, IMPORT, CLASSES, SOURCES, TERMS)
"""Files of a data set that are no pictures; all but the manifest are an import's."""


def read_manifest(path: Path) -> pd.DataFrame:
    """Read ``manifest.csv``: all columns as text except width and height (pixels, integers).

    Raises DataError when the file is missing, empty, not UTF-8, has other columns than COLUMNS, or a path
    that leaves the folder or is no plain one (`is_plain`). Whether the rows are *true* is for the data checks
    to judge, not for the reader."""
    import pandas as pd

    def fault(what: str) -> DataError:
        action = "pull the data again (`fade pull`), or write the manifest anew."
        return DataError(f"{path}{what}.", stage="manifest", action=action)

    try:
        text = read_text(path, RECORD)
        # before pandas: it takes a minute for a table of 300,000 columns, or of 20 million rows
        if unknown := _wrong_columns(text):
            raise fault(f": columns: {unknown}")
        if text.count("\n") > MAX_ROWS:
            raise fault(f" has more than {MAX_ROWS:,} rows")
        frame = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise fault(" does not exist") from None
    except OSError as error:
        raise fault(f" cannot be read: {error}") from None
    except pd.errors.EmptyDataError:
        raise fault(" is empty") from None
    except pd.errors.ParserError as error:
        raise fault(f" is no CSV table: {str(error).strip()}") from None
    if not isinstance(frame.index, pd.RangeIndex):  # pandas takes a surplus first field for a row name
        raise fault(" is no CSV table: its rows have more fields than its head")
    if frame.empty:
        raise fault(" has no rows")
    for row, name in enumerate(frame["path"]):
        if not is_inside(name):
            raise fault(f": row {row + 2}: {name[:SHOWN]!r} leaves the data folder")
        if not is_plain(name):  # the same file under two spellings would count twice
            why = "has an empty or `.` part, or a character that cannot be printed"
            raise fault(f": row {row + 2}: {name[:SHOWN]!r} {why}")
    for column in ("width", "height"):
        number = pd.to_numeric(frame[column], errors="coerce")
        # NaN and infinity are no whole numbers either; a larger one would be another after the cast
        wrong = ((number % 1 != 0) | (number.abs() > MAX_SIDE)).to_numpy(dtype=bool)
        if wrong.any():
            row = int(wrong.argmax())
            raise fault(
                f": row {row + 2}: {column} is {frame[column][row][:SHOWN]!r}, not a whole number of pixels"
            )
        frame[column] = number.astype(int)
    return frame[list(COLUMNS)]


def _wrong_columns(text: str) -> str:
    """What is wrong with the head of a table, in words; "" for COLUMNS in any order and an empty text."""
    head = text.removeprefix("\ufeff").lstrip("\n")[: LONGEST_HEAD + 1].partition("\n")[0]
    if len(head) > LONGEST_HEAD:
        return f"the first line is longer than {LONGEST_HEAD:,} characters"
    names = next(csv.reader([head]), []) if head.strip() else list(COLUMNS)
    missing = [name for name in COLUMNS if name not in names]
    extra = [name[:SHOWN] for place, name in enumerate(names) if name not in COLUMNS or name in names[:place]]
    parts = [f"missing {missing}" if missing else "", f"unknown {extra[:5]}" if extra else ""]
    return ", ".join(filter(None, parts))


def is_inside(relpath: str) -> bool:
    """True when a POSIX path stays below its folder: relative, no ``..``, no drive, no back slash."""
    path = PurePosixPath(relpath)
    absolute = path.is_absolute() or ":" in relpath or "\\" in relpath
    return bool(relpath) and not absolute and ".." not in path.parts


def is_plain(relpath: str) -> bool:
    """True for a relative POSIX path that stays inside, has no empty or ``.`` part, and is printable: the one
    spelling of its file."""
    normal = PurePosixPath(relpath).as_posix() == relpath and relpath != "."
    return is_inside(relpath) and normal and relpath.isprintable()
