"""The fixtures of data sets: tiny archives in the true layouts, and what each holds."""

from __future__ import annotations

import csv
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fade.data.importers.importing import import_pictures
from fade.data.importers.options import ImportOptions, Split
from fade.data.importers.plan import plan_import
from fade.data.importers.records import Accepted
from fade.data.importers.sets import picture_set

FIXTURES = Path(__file__).parent / "fixtures"
EXPECTED: Mapping[str, Any] = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
DRAWN = Split(0, 0.8)
ACCEPTED = Accepted("read", "tester", "2026-01-01T00:00:00+00:00")


def import_fixture(path: Path, out: Path, set_name: str, **options: Any) -> dict[str, Any]:
    """Import with one worker; returns the record."""
    plan = plan_import(picture_set(set_name), path, ImportOptions(**options))
    return import_pictures(plan, path, out, ACCEPTED, workers=1)


def unpacked(archive: Path, folder: Path) -> Path:
    """``folder`` with what an archive holds."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


def own_pictures(folder: Path) -> Path:
    """A copy of the folder of somebody's own pictures, with all its defects."""
    return unpacked(FIXTURES / "imagefolder.tgz", folder) / "imagefolder"


def copied(set_name: str, folder: Path) -> Path:
    """A copy of a fixture that a test may change."""
    return Path(shutil.copytree(FIXTURES / set_name, folder / set_name))


def table(path: Path) -> list[dict[str, str]]:
    """Rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
