"""What one run leaves behind, without what is another each time: numbers, the report's words, keys, and what
MLflow was given.

Knows files and their content, none of the product's modules. The run is that of tests/e2e/test_run.py.
"""

from __future__ import annotations

import hashlib
import html
import json
import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.golden.machine import facts

FILE = "run.json"
RELATIVE, ABSOLUTE = 0.05, 0.02
"""On a machine of another kind, of each number of evaluation.json and of the summary's metrics: SSIM and
probabilities move in their fourth digit there, percentages by whole pictures or not at all."""
DATA = (
    *("data.files", "environment.packages", "neighbourhood.similarities"),
    *(f"models.{role}.files" for role in ("base", "clip", "judge", "second_judge")),
)
"""Mappings of a record whose keys are content: files, packages, concepts."""
VOLATILE = {"adapter", "code", "python", "device", "processes", "libraries", "flow run"}
"""Rows of the report that are another on each machine or in each run: the row's name stays."""
MARKED = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<id>"),
    (re.compile(r"\b[0-9a-f]{12,64}\b"), "<hash>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\.\d+)?(\+\d\d:\d\d|Z| UTC)?)?"), "<time>"),
    (re.compile(r"\b\d+(\.\d+)? ?(s|seconds|MB|MiB|it/s)\b"), "<spent>"),
)


def outcome(runs: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """All of it, as JSON. ``summary``: what ``fade run --json`` printed."""
    folder = Path(str(summary["adapter"])).parent
    record = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    return {
        "machine": facts(int(record["training"]["threads"])),
        "weights_sha256": weights_sha256(folder / "adapter.safetensors"),
        "metrics": {
            key: summary[key]
            for key in ("neighbours", "heldout", "metrics", "base_metrics", "intervals", "n")
        },
        "evaluation": evaluation,
        "report": report_text(folder / "report.html"),
        "keys": {
            "summary": keys(summary),
            "result.json": keys(result),
            "lineage.json": [
                key for key in keys(record) if not key.startswith(tuple(f"{name}." for name in DATA))
            ],
            "evaluation.json": keys(evaluation),
        },
        "files": sorted(
            str(path.relative_to(folder))
            for path in folder.rglob("*.*")
            if path.is_file() and ".lock" not in path.name
        ),
        "mlflow": registered(runs / "mlflow.db"),
    }


def weights_sha256(adapter: Path) -> str:
    """Of the tensors alone: the header holds the commit."""
    body = adapter.read_bytes()
    return hashlib.sha256(body[8 + int.from_bytes(body[:8], "little") :]).hexdigest()


CHECKOUT = ("clean", "with uncommitted changes")
"""The state of the checkout that the run is made from: another each time."""


def report_text(page: Path) -> list[str]:
    """The visible words of a page, one line an element, with hashes, times and the like named instead of
    shown."""
    text = page.read_text(encoding="utf-8")
    # Charts were PNGs when the golden file was made: their words were in no element.
    text = re.sub(
        r'<(style|script)\b.*?</\1>|<svg[^>]* class="fade-chart".*?</svg>', "", text, flags=re.DOTALL
    )
    text = html.unescape(re.sub(r"<[^>]+>", "\n", text))
    lines = [line for line in (" ".join(one.split()) for one in text.splitlines()) if line]
    out: list[str] = []
    for line in lines:
        marked = "<...>" if (out and out[-1] in VOLATILE) or line in CHECKOUT else line
        for pattern, name in MARKED:
            marked = pattern.sub(name, marked)
        out.append(marked)
    return out


def without_numbers(lines: list[str]) -> list[str]:
    """The words alone, for another machine: its last digits differ."""
    return [re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", line) for line in lines]


def registered(database: Path) -> dict[str, list[str]]:
    """Names of what the one registered run was given; MLflow's own tags are left out."""
    queries = {
        "run tags": "SELECT DISTINCT key FROM tags WHERE key NOT LIKE 'mlflow.%'",
        "version tags": "SELECT DISTINCT key FROM model_version_tags",
        "model tags": "SELECT DISTINCT key FROM registered_model_tags",
        "params": "SELECT DISTINCT key FROM params",
        "metrics": "SELECT DISTINCT key FROM latest_metrics",
        "experiments": "SELECT name FROM experiments",
        "models": "SELECT name FROM registered_models",
        "datasets": "SELECT name FROM datasets",
        "logged models": "SELECT name FROM logged_models",
    }
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return {
            name: sorted(str(row[0]) for row in connection.execute(query)) for name, query in queries.items()
        }


def keys(value: Any, at: str = "") -> list[str]:
    """Dotted names of everything in a JSON value, sorted; the items of a list are ``[]``."""
    found: set[str] = set()
    if isinstance(value, dict):
        for key, inner in value.items():
            name = f"{at}.{key}" if at else str(key)
            found |= {name, *keys(inner, name)}
    elif isinstance(value, list):
        for inner in value:
            found |= set(keys(inner, f"{at}[]"))
    return sorted(found)
