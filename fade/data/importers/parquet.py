"""A parquet shard of a data set on a hub: pictures and labels in columns, read in small batches."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fade.data.importers.members import STAGE, Member, Selects, check_name
from fade.errors import DataError

BATCH = 64
"""Rows that are held at once."""
_SPLIT = re.compile(r"(train|test|val(?:id(?:ation)?)?)\b", re.IGNORECASE)
_PICTURES, _LABELS = ("image", "img", "jpg"), ("label", "labels", "fine_label", "class")


@dataclass(frozen=True)
class ParquetFile:
    """One shard; a row's name is ``split/class/shard-row-file name``."""

    path: Path

    def members(self, selects: Selects) -> Iterator[Member]:
        """As `fade.data.importers.members.Container.members`. Raises DataError for a shard without pictures,
        without the names of its classes, or whose file name names no split."""
        with self._opened() as file:
            picture, label, names = self._columns(file)
            split, row = self._split(), 0
            # the label column alone first: a part of a set is chosen without reading its pictures
            for batch in file.iter_batches(BATCH, columns=[picture, label]):
                for value, index in zip(batch.column(0), batch.column(1).to_pylist(), strict=True):
                    stored = value["bytes"]
                    if index is None or not stored.is_valid:
                        raise self._fault(f"row {row} has no picture or no label", "fetch the shard again.")
                    base = Path(str(value["path"].as_py() or "")).name or "picture"
                    kind = str(index) if isinstance(index, str) else names[index]
                    name = check_name(
                        self.path, f"{split}/{kind.replace('/', ' ')}/{self.path.stem}-{row:07d}-{base}"
                    )
                    size = len(stored.as_buffer())
                    yield Member(name, size, stored.as_py() if selects(name, size) else None)
                    row += 1

    def _opened(self) -> Any:
        import pyarrow.parquet

        try:
            return pyarrow.parquet.ParquetFile(self.path)
        except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
            raise self._fault(f"it is no parquet file: {error}", "fetch it again.") from None

    def _columns(self, file: Any) -> tuple[str, str, list[str]]:
        """Names of the two columns, and of the classes."""
        columns = file.schema_arrow.names
        picture = next((name for name in _PICTURES if name in columns), "")
        label = next((name for name in _LABELS if name in columns), "")
        if not picture or not label:
            what = f"its columns {columns} hold no picture and label"
            raise self._fault(what, "name the folder of the parquet files of one data set of pictures.")
        stored = json.loads((file.schema_arrow.metadata or {}).get(b"huggingface", b"{}"))
        feature = stored.get("info", {}).get("features", {}).get(label, {})
        names = feature.get("names") or []
        import pyarrow

        if not names and not pyarrow.types.is_string(file.schema_arrow.field(label).type):
            what = "its labels are numbers without names"
            raise self._fault(what, "use a copy whose features name the classes; a guess would mix them up.")
        return picture, label, [str(name) for name in names]

    def _split(self) -> str:
        """The split that the shard's name, or its folder's, names."""
        for part in (self.path.name, self.path.parent.name):
            if found := _SPLIT.search(part.replace("_", " ").replace("-", " ")):
                return found.group(1).lower()
        action = "name it train-*.parquet or test-*.parquet."
        raise self._fault("its name names no split", action)

    def _fault(self, what: str, action: str) -> DataError:
        return DataError(f"{self.path}: {what}.", stage=STAGE, action=action)
