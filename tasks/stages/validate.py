"""The data checks of a run, and its copy of their evidence."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fade.data.tables import picture_frame
from fade.run.context import RunContext
from fade.utils.files import make_folder, write_whole
from tasks.data.validate import validate_data_task
from tasks.data.verdicts import VerdictStore, measurements

if TYPE_CHECKING:
    import pandas as pd

    from tasks.data.validate import Checks


def validate_run(run: RunContext) -> Checks:
    """Great Expectations on the run's data, or the verdict that is stored for this very content."""

    def measure(folder: Path) -> pd.DataFrame:
        return picture_frame(folder, measurements(run.runs, folder))

    checks: Checks = validate_data_task(
        run.params.data,
        run.params.checks,
        out=run.home / "checks",
        root=run.root,
        names=run.labels(),
        store=VerdictStore(run.runs / "cache" / "checks"),
        measure=measure,
    )
    return checks


def keep_checks(run: RunContext) -> None:
    """Copy the data checks, which are made before the run has a folder, to the evidence of this run."""
    make_folder(run.folder / "checks")
    for file in sorted((run.home / "checks").glob("data.*")):
        write_whole(run.folder / "checks" / file.name, file.read_bytes(), stage="validate")
