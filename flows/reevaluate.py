"""Re-evaluation of every champion against the current base, judge and data. Repeated, it evaluates nothing
twice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.config import Params
from fade.errors import FadeError, RequestError
from fade.utils import progress
from fade.utils.locks import lock_folder
from tasks.data.pull import pull_task
from tasks.registry.connection import Tracking, connect
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.trust import Trust
from tasks.release.reevaluate import FAULT, OUTDATED, STAGE, current_inputs, reevaluate_version

reevaluate_task = task(name="re-evaluate champion", cache_policy=NO_CACHE)(reevaluate_version)


def reevaluate(params: Params, runs: Path, root: Path) -> list[dict[str, Any]]:
    """A row for each champion. Raises RequestError, whose ``result`` the rows are, when one is stale, falls
    short or cannot be evaluated."""
    with lock_folder(runs / "reevaluate", "champions are being re-evaluated", STAGE):
        pulled = pull_task(params.data, root, runs)
        tracking = connect(runs, timeout=params.register_.timeout_seconds)
        now = current_inputs(params, root, pulled.md5)
        return raise_failures(reevaluate_all(tracking, params, runs, root, now))


def reevaluate_all(
    tracking: Tracking, params: Params, runs: Path, root: Path, now: Mapping[str, tuple[str, ...]]
) -> list[dict[str, Any]]:
    """A row for each champion; one that cannot be evaluated does not stop the others."""
    rows = []
    trust = Trust.of(params.signing, root)
    trust.require_signer("a re-evaluation")
    snapshot = RegistrySnapshot.load(tracking, params.register_.model_prefix, trust)
    models = snapshot.decided_concepts()
    for done, name in enumerate(models):
        row = {"model": name, "version": ""}
        try:
            if (version := snapshot.champion(name)) is None:
                continue
            row["version"] = str(version.version)
            progress.report(STAGE, done, len(models), f"{name}/{version.version}")
            rows.append(reevaluate_task(snapshot, version, params, runs, root, now))
        except FadeError as error:
            rows.append({**row, "result": FAULT, "passes": None, "why": str(error)})
    progress.report(STAGE, len(models), len(models), "")
    return rows


def raise_failures(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows. Raises RequestError when one is stale, falls short or could not be evaluated."""
    bad = [row for row in rows if row["result"] in (OUTDATED, FAULT) or row["passes"] is False]
    if not bad:
        return rows
    reasons = " | ".join(f"{row['model']}/{row['version']}: {row['why']}" for row in bad)
    error = RequestError(f"{len(bad)} champion(s) need somebody: {reasons}", stage=STAGE)
    error.action = "see `fade status`; promote another version, or let the request run again."
    error.result = rows
    raise error
