"""A measured cell as a small JSON file, kept under the key of all that decided it: code, data and settings.

A file that is damaged, or of other data, code or settings, is as good as none: it is measured again, never
used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fade.benchmark.plan import Cell
from fade.config import Params
from fade.data.vocabulary import slug
from fade.models.layout import SECOND_JUDGE
from fade.provenance.fingerprints import code_sha256, method_components
from fade.training.settings import CODE
from fade.utils.files import make_folder, write_whole
from fade.utils.hashing import fingerprint
from fade.utils.parsing import parse_json
from fade.utils.reading import RECORD, read_text

SCHEMA = 1
SHARED = (
    *(*CODE, "attacks", "evaluation", "evaluation/accuracy", "generation"),
    *("generation/checks", "images", "judges", "mining", "pictures"),
)
"""The code (components of `fade.provenance.fingerprints`) behind every cell, the indirect prompts with it,
beside that of its method."""
SOURCES = ("base", "judge", "clip", "vocabulary")
"""What a cell names by hash, beside the data set's md5: these may lie elsewhere than the data set. A second
judge, where there is one, too."""


def inputs_of(
    cell: Cell, params: Params, sources: Mapping[str, str], data_md5: str, probed_by: str | None
) -> dict[str, Any]:
    """All that decides a cell's numbers, as JSON.

    sources: see SOURCES. probed_by: hash of the code of the further measurements (attacks, ERR); None where
    they are left out."""
    settings = params.key_fields("attacks")
    del settings["data"]  # the hashes of what it names are in ``sources``
    return {
        "arm": cell.condition.label,
        "target": cell.target,
        "seed": cell.seed,
        "settings": settings,
        "sources": {name: sources[name] for name in (*SOURCES, *({SECOND_JUDGE} & sources.keys()))},
        "data_md5": data_md5,
        "code": code_sha256(*SHARED, *method_components(cell.condition.name)),
        "probe": probed_by,
    }


def path_of(folder: Path, inputs: Mapping[str, Any]) -> Path:
    """``folder/TARGET/ARM-SEED-KEY.json``."""
    name = f"{slug(inputs['arm'])}-{inputs['seed']}-{fingerprint(inputs)[:12]}.json"
    return folder / slug(inputs["target"]) / name


def write_record(folder: Path, inputs: Mapping[str, Any], measured: Mapping[str, Any]) -> Path:
    """Write a cell. measured: ``numbers``, ``cost``, ``made`` and whatever else. Raises StorageError."""
    cell = {"schema": SCHEMA, "key": fingerprint(inputs), "inputs": dict(inputs), **measured}
    content = json.loads(json.dumps(cell, allow_nan=False))
    content["sha256"] = fingerprint(content)
    path = path_of(folder, inputs)
    make_folder(path.parent)
    text = json.dumps(content, indent=1, allow_nan=False, sort_keys=True) + "\n"
    return write_whole(path, text, stage="bench", sync=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """A kept cell; None when the file is missing, damaged, changed since, or of another schema."""
    try:
        content = parse_json(read_text(path, RECORD))
    except (OSError, ValueError):
        return None
    return content if whole(content) else None


def whole(content: Any) -> bool:
    """Whether it is a cell of this schema, unchanged since it was measured."""
    try:
        body = {name: value for name, value in content.items() if name != "sha256"}
        keyed = content["schema"] == SCHEMA and content["key"] == fingerprint(content["inputs"])
        return bool(keyed and content["sha256"] == fingerprint(body))
    except (KeyError, AttributeError, TypeError):
        return False


def read_picture(folder: Path, target: str, file: str) -> bytes | None:
    """A picture beside the cells of a target; None when there is none."""
    path = folder / slug(target) / Path(file).name
    return path.read_bytes() if path.is_file() else None


def find_record(folder: Path, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    """The kept cell of exactly these inputs, or None."""
    record = read_record(path_of(folder, inputs))
    return record if record is not None and record["inputs"] == inputs else None


def find_anywhere(folder: Path, inputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Cells of these inputs whatever their ``sources``, for a report where the models are not at hand."""
    pattern = f"{slug(inputs['arm'])}-{inputs['seed']}-*.json"
    records = map(read_record, sorted((folder / slug(inputs["target"])).glob(pattern)))
    same = {**inputs, "sources": None}
    return [record for record in records if record and {**record["inputs"], "sources": None} == same]
