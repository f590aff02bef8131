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
from tasks.stages.evaluate import EvaluationResult

if TYPE_CHECKING:
    import numpy as np

    from fade.mining.neighborhood import Neighborhood
    from fade.reporting import Report
    from tasks.data.validate import Checks


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
) -> Evidence:
    """Write ``pictures/``, ``report.html`` and ``card.md`` in ``folder``, by default the run's. Raises
    StorageError."""
    from fade import reporting as report

    folder = folder or run.folder
    roles = {row["concept"]: row["role"] for row in result.numbers["per_concept"]}
    shown = run.params.evaluate.grid_images
    rows = [
        report.Row(name, roles[name], base[:shown], erased[:shown])
        for name, (base, erased) in result.pictures.items()
    ]
    titles = ("Data checks", "Checks of the mined pictures")[: len(checks)]
    page = report.Report(
        result=result.numbers,
        neighborhood=neighborhood,
        rows=[row for row in rows if row.role != "rest"] + [row for row in rows if row.role == "rest"][:4],
        mined=mined_pictures(run, neighborhood),
        history=history,
        checks=[
            {"title": t, "success": c.success, "results": c.results}
            for t, c in zip(titles, checks, strict=True)
        ],
        lineage=lineage,
        seconds=seconds,
        command=command,
    )
    drawn = report.draw_report(page, folder)
    path = report.write_report(page, folder, drawn, base_model=run.params.data.base)
    return Evidence(path, page, drawn, run.params.data.base)


@dataclass(frozen=True)
class Evidence:
    """A report that was written."""

    path: Path
    page: Report = field(repr=False)
    drawn: dict[str, Any] = field(repr=False)
    base_model: str

    def name(self, registered: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
        """Write it again, now that its version has a name; the pictures are not drawn again. Raises
        StorageError."""
        from fade.reporting import write_report

        page = dataclasses.replace(self.page, registered=registered, seconds=seconds)
        write_report(page, self.path.parent, self.drawn, base_model=self.base_model)


def mined_pictures(run: RunContext, neighborhood: Neighborhood) -> dict[str, np.ndarray]:
    """One mined picture of each concept of the neighbourhood."""
    names = [*neighborhood.targets, *neighborhood.neighbours, *neighborhood.heldout]
    seeds = [neighborhood.seed + i for i in range(neighborhood.images_per_concept)]
    prompts = {n: fill(run.generator.sampler.prompt, n) for n in names}
    drawn = run.generator.draw(list(prompts.values()), seeds)
    return {n: drawn[p].pixels[0] for n, p in prompts.items()}
