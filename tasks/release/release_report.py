"""Write a release's report: the page and the card of a run, and the pictures by the original, each champion
alone and the release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.reporting.pictures import RELEASE_PICTURES, ReleaseRow
from fade.run.context import RunContext

if TYPE_CHECKING:
    from fade.mining.neighborhood import Neighborhood
    from tasks.release.build_release import ReleaseParts
    from tasks.release.evaluate_release import ReleaseEvaluation

REST_ROWS = 4
"""Unrelated concepts in the report's grid."""


def make_release_report(
    run: RunContext,
    neighborhood: Neighborhood,
    selected: ReleaseParts,
    evaluation: ReleaseEvaluation,
    lineage: Mapping[str, Any],
    seconds: Mapping[str, float],
    command: str,
    folder: Path,
) -> Path:
    """Write ``pictures/*.png``, ``report.html`` and ``card.md`` into ``folder``; returns the page. Raises
    StorageError."""
    from fade import reporting
    from fade.reporting.image_grid import png
    from fade.reporting.pictures import release_grid
    from fade.utils.files import write_whole
    from tasks.stages.report import mined_pictures

    whole, count = evaluation.whole, run.params.evaluate.grid_images
    roles = {row["concept"]: row["role"] for row in whole.numbers["per_concept"]}
    rows = [
        reporting.Row(name, roles[name], base[:count], erased[:count])
        for name, (base, erased) in whole.pictures.items()
    ]
    rest = [row for row in rows if row.role == "rest"][:REST_ROWS]
    page = reporting.Report(
        result=whole.numbers,
        neighborhood=neighborhood,
        rows=[row for row in rows if row.role != "rest"] + rest,
        mined=mined_pictures(run, neighborhood),
        history=(),
        checks=(),
        lineage=lineage,
        seconds=seconds,
        command=command,
    )
    drawn = reporting.draw_report(page, folder)
    body = png(release_grid(_release_rows(neighborhood, selected, evaluation, roles)))
    write_whole(folder / "pictures" / "release.png", body, stage="report")
    return reporting.write_report(page, folder, drawn, base_model=run.params.data.base)


def _release_rows(
    neighborhood: Neighborhood,
    selected: ReleaseParts,
    evaluation: ReleaseEvaluation,
    roles: Mapping[str, str],
) -> list[ReleaseRow]:
    """Each erased concept and its two nearest neighbours: the original, the champion alone, the release."""
    labels = {concept: part.label for part in selected.parts for concept in part.concepts}
    rows, n = [], RELEASE_PICTURES
    for part in neighborhood.parts:
        for name in (part.target, *part.neighbours[:2]):
            base, erased = evaluation.whole.pictures[name]
            alone, label = evaluation.alone[part.target][name], labels[part.target]
            rows.append(ReleaseRow(name, roles[name], base[:n], alone[:n], erased[:n], label))
    return rows
