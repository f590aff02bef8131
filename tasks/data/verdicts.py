"""Verdicts of the data checks, kept by content: the same inputs, rules and libraries are not judged twice.

An entry is ``<key>.json`` with the key and the sha256 of its content. A damaged entry, or one under another
key, counts as none. Times and sizes of files play no part."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fade.data.measurements import Measurements
from fade.errors import FadeError
from fade.provenance.fingerprints import code_sha256, files_sha256, versions
from fade.provenance.lineage import hash_path
from fade.utils.files import make_folder, read_json, write_whole
from fade.utils.hashing import fingerprint
from tasks.data.expectations import Rule

ENGINE = Path(__file__).with_name("validate.py")
"""The module that runs the rules and words their results; its syntax tree is part of the key."""
LIBRARIES = ("great_expectations", "pandas", "numpy", "pillow")


@dataclass(frozen=True)
class Verdict:
    """The outcome of one set of rules on one set of inputs."""

    results: list[dict[str, Any]]
    """One mapping a rule; see `tasks.data.validate.Checks`. Plain JSON."""
    facts: dict[str, Any]
    """What the page says about the data beside the results. Plain JSON."""

    @property
    def is_reusable(self) -> bool:
        """False when a critical rule failed or a rule could not be computed: then it is judged each time."""
        return not any(r["error"] or (r["severity"] == "critical" and not r["success"]) for r in self.results)


def verdict_key(rules: Mapping[str, Sequence[Rule]], **inputs: Any) -> str:
    """Key of a verdict: inputs, rules with all their arguments, the code that applies them, libraries."""
    return fingerprint(
        {
            "inputs": inputs,
            "rules": {table: [asdict(rule) for rule in some] for table, some in rules.items()},
            "code": {
                "measuring": code_sha256("pictures", "tables", "vocabulary"),
                "engine": files_sha256([ENGINE]),
            },
            "libraries": versions(LIBRARIES),
        }
    )


def measurements(runs: Path, folder: Path) -> Measurements:
    """What earlier checks measured of the pictures of a folder."""
    made_by = {"code": code_sha256("pictures", "tables"), "libraries": versions(("numpy", "pillow"))}
    name = fingerprint(str(folder.resolve()))[:16]
    return Measurements(runs / "cache" / "measured" / f"{name}.json", fingerprint(made_by))


def folder_sha256(folder: Path) -> str | None:
    """Hash of the name and the bytes of every file below ``folder``.

    None where a file cannot be read, and for a link below it, which the data checks refuse."""
    try:
        linked = any(path.is_symlink() for path in folder.rglob("*"))
        return None if linked else hash_path(folder)
    except (OSError, UnicodeError, FadeError):
        return None


class VerdictStore:
    """``folder/<key>.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Verdict | None:
        """The verdict kept under ``key``; None when there is none, or the file is damaged."""
        try:
            entry = read_json(self.folder / f"{key}.json")
            content = {"results": entry["results"], "facts": entry["facts"]}
            intact = entry["key"] == key and entry["sha256"] == fingerprint(content)
        except (ValueError, KeyError, TypeError):
            return None
        return Verdict(**content) if intact else None

    def put(self, key: str, verdict: Verdict) -> None:
        """Keep ``verdict`` where it `is_reusable`. Raises StorageError."""
        if not verdict.is_reusable:
            return
        # as it will be read: numpy's numbers become text
        content = json.loads(json.dumps(asdict(verdict), default=str))
        make_folder(self.folder)
        entry = {"key": key, "sha256": fingerprint(content), **content}
        write_whole(self.folder / f"{key}.json", json.dumps(entry, allow_nan=False), stage="validate")


def stored_verdict(
    store: VerdictStore | None, key: Callable[[], str | None], measure: Callable[[], Verdict]
) -> Verdict:
    """The verdict kept under ``key``, or else a new one, which is kept. ``key`` is computed again after the
    measurement: inputs that changed meanwhile would be kept under a key of neither state. Raises
    StorageError."""
    before = key() if store else None
    if store is None or before is None:
        return measure()
    if (verdict := store.get(before)) is None:
        verdict = measure()
        if before == key():
            store.put(before, verdict)
    return verdict
