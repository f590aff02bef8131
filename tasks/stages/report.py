"""Write the report of a finished evaluation: one HTML page, the model card, and the pictures that MLflow
keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.data.vocabulary import fill
from fade.run.context import RunContext
from fade.utils.seeds import consecutive_seeds
from tasks.stages.evaluate import EvaluationResult

if TYPE_CHECKING:
    import numpy as np

    from fade.mining.neighborhood import Neighborhood
    from fade.reporting.report_data import Report
    from tasks.data.validate import Checks

CHECKS = ("Data checks", "Checks of the mined pictures")
REST_ROWS = 4
"""Unrelated concepts in the grid of pictures."""


@dataclass(frozen=True)
class Evidence:
    """A report that was written."""

    path: Path
    page: Report = field(repr=False)
    pictures: dict[str, Any] = field(repr=False)
    base_model: str

    def name(self, registered: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
        """Write it again, now that its version has a name, with the pictures as they are. Raises
        StorageError."""
        from fade.reporting.html import write_report

        page = dataclasses.replace(self.page, registered=registered, seconds=seconds)
        write_report(page, self.path.parent, self.pictures, base_model=self.base_model)


def make_report(
    run: RunContext,
    neighborhood: Neighborhood,
    result: EvaluationResult,
    history: Sequence[Mapping[str, Any]],
    checks: Sequence[Checks],
    lineage: Mapping[str, Any],
    seconds: Mapping[str, float],
    command: str,
    folder: Path | None = None,
    foreign: Mapping[str, str] | None = None,
) -> Evidence:
    """Write ``pictures/``, ``report.html`` and ``card.md`` into ``folder``, by default the run's. Raises
    StorageError.

    foreign: see `Report.foreign`; there is no card then. Shown are `evaluate.grid_images` pictures a concept,
    of the unrelated concepts those of the first REST_ROWS. The card shows what lies in ``pictures/`` already,
    too."""
    from fade.reporting.html import write_pictures, write_report
    from fade.reporting.report_data import Report, Row

    folder, shown = folder or run.folder, run.params.evaluate.grid_images
    roles = {row["concept"]: row["role"] for row in result.numbers["per_concept"]}
    rows = [
        Row(name, roles[name], base[:shown], erased[:shown])
        for name, (base, erased) in result.pictures.items()
    ]
    rest = [row for row in rows if row.role == "rest"]
    page = Report(
        result=result.numbers,
        neighborhood=neighborhood,
        rows=[row for row in rows if row.role != "rest"] + rest[:REST_ROWS],
        mined=_mined_pictures(run, neighborhood),
        disputed=result.disputed,
        substitutes=result.substitutes,
        history=history,
        checks=[
            {"title": title, "success": one.success, "results": one.results}
            for title, one in zip(CHECKS, checks, strict=bool(checks))
        ],
        lineage=lineage,
        seconds=seconds,
        command=command,
        foreign=foreign or {},
    )
    pictures = write_pictures(page, folder)
    path = write_report(page, folder, pictures, base_model=run.params.data.base)
    return Evidence(path, page, pictures, run.params.data.base)


def _mined_pictures(run: RunContext, neighborhood: Neighborhood) -> dict[str, np.ndarray]:
    """One mined picture of each concept of the neighbourhood."""
    names = [*neighborhood.targets, *neighborhood.neighbours, *neighborhood.heldout]
    seeds = consecutive_seeds(neighborhood.seed, neighborhood.images_per_concept)
    prompts = {name: fill(run.generator.sampler.prompt, name) for name in names}
    batches = run.generator.generate(list(prompts.values()), seeds)
    return {name: batches[prompt].pixels[0] for name, prompt in prompts.items()}
