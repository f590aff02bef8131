"""Check a data set that was imported: bytes, record, the team's reference, and the rules of every run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fade.config import ChecksConfig, DataConfig
from fade.data import tables
from fade.data.importers.verify import Findings, verify_set
from fade.errors import DataError
from tasks.data.validate import validate_data
from tasks.data.verdicts import measurements


def check_set(folder: Path, checks: ChecksConfig, runs: Path) -> dict[str, Any]:
    """``folder``, ``success``, ``findings`` {subject: sentence} and the ``page`` of the data checks. Raises
    DataError for a folder without a manifest."""
    measured = measurements(runs, folder)
    pictures = tables.picture_frame(folder, measured)
    found: Findings = verify_set(folder, pictures)
    kind = "photographs" if found.record else checks.kind
    licences = (*checks.licences, *found.licences)
    chosen = checks.model_copy(update={"kind": kind, "licences": tuple(dict.fromkeys(licences))})
    out = runs / "checks" / folder.resolve().name
    findings, success = {**found.sentences, "measured": measured.sentence()}, found.success
    try:
        verdict = validate_data(DataConfig(images=folder), chosen, out=out, measure=lambda _: pictures)
        met = sum(one["success"] for one in verdict.results)
        findings["checks"] = f"{met} of {len(verdict.results)} rules are met"
    except DataError as error:
        findings["checks"], success = str(error), False
    page = str(out / "data.html")
    return {"folder": str(folder), "success": success, "findings": findings, "page": page}
