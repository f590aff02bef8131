"""Re-evaluation: every champion held against today's base, judge and data. Repeated, it does nothing that was
done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.config import Params
from fade.errors import FadeError, RequestError
from fade.utils import progress
from fade.utils.locks import hold as alone
from tasks.data.pull import pull_task
from tasks.registry.connection import Tracking, connect
from tasks.release.reevaluate import BROKEN, OUTDATED, STAGE, Inputs, champions, hold, inputs_now

hold_task = task(name="hold champion", cache_policy=NO_CACHE)(hold)


def reevaluate(settings: Params, runs: Path, root: Path) -> list[dict[str, Any]]:
    """A row for each champion. Raises RequestError, which carries the rows, when one is stale, falls short or
    cannot be judged."""
    with alone(runs / "reevaluate", "champions are being re-evaluated", STAGE):
        pulled = pull_task(settings.data, root, runs)
        tracking = connect(runs, timeout=settings.register_.timeout_seconds)
        return told(hold_all(tracking, settings, runs, root, inputs_now(settings, root, pulled.md5)))


def hold_all(
    tracking: Tracking, settings: Params, runs: Path, root: Path, now: Inputs
) -> list[dict[str, Any]]:
    """One champion that cannot be judged does not stop the others."""
    rows = []
    found = champions(tracking, settings.register_.model_prefix)
    for done, version in enumerate(found):
        progress.report(STAGE, done, len(found), f"{version.name}/{version.version}")
        try:
            rows.append(hold_task(tracking, version, settings, runs, root, now))
        except FadeError as error:
            rows.append(
                {
                    "model": version.name,
                    "version": str(version.version),
                    "result": BROKEN,
                    "passes": None,
                    "why": str(error),
                }
            )
    progress.report(STAGE, len(found), len(found), "")
    return rows


def told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows, when all is well."""
    bad = [row for row in rows if row["result"] in (OUTDATED, BROKEN) or row["passes"] is False]
    if bad:
        what = f"{len(bad)} champion(s) need somebody: " + " | ".join(
            f"{r['model']}/{r['version']}: {r['why']}" for r in bad
        )
        error = RequestError(
            what,
            stage=STAGE,
            action="see `fade status`; promote another version, or let the request run again.",
        )
        error.told = rows  # type: ignore[attr-defined]
        raise error
    return rows
