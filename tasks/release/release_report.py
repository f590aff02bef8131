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
    from fade.reporting.html import write_pictures, write_report
    from fade.reporting.image_grid import png
    from fade.reporting.pictures import release_grid
    from fade.utils.files import write_whole
    from tasks.stages.report import report_of

    page = report_of(run, neighborhood, evaluation.whole, lineage, seconds, command)
    pictures = write_pictures(page, folder)
    body = png(release_grid(_release_rows(neighborhood, selected, evaluation, page.roles)))
    write_whole(folder / "pictures" / "release.png", body, stage="report")
    return write_report(page, folder, pictures, base_model=run.params.data.base)


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
