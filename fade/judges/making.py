"""How a judge was made, by the files that `fade judge` writes beside it. A run's record names it; nothing
rests on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fade.utils.files import read_json

IMPORT, EVALUATION, REGISTERED = "import.json", "evaluation.json", "registered.json"
_IMPORTED = ("layout", "source", "names")
_TRAINED = ("mode", "seed", "data", "start", "n", "top1", "warning")
_VERSION = ("name", "version", "run_id")
_LONGEST = 4000
"""Characters of a value's JSON: a file from outside can hold anything."""


def making(home: Path) -> dict[str, Any]:
    """``imported`` (layout, sources by sha256, where its names are from), ``trained`` (mode, seed, data,
    what it started from, accuracy on what was held out) and ``registered`` (as which version of MLflow), as
    far as the judge's directory has them. Its author's own words, not verified."""
    found = {}
    parts = (
        ("imported", IMPORT, _IMPORTED),
        ("trained", EVALUATION, _TRAINED),
        ("registered", REGISTERED, _VERSION),
    )
    for name, file, keys in parts:
        content = read_json(home / file)
        if isinstance(content, dict):
            found[name] = {key: content[key] for key in keys if key in content and _is_short(content[key])}
    return {name: facts for name, facts in found.items() if facts}


def _is_short(value: Any) -> bool:
    return len(json.dumps(value)) <= _LONGEST
