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
    from fade.reporting.image_grid import png
    from fade.reporting.pictures import release_grid
    from fade.utils.files import make_folder, write_whole
    from tasks.stages.report import make_report

    make_folder(folder / "pictures")
    body = png(release_grid(_release_rows(neighborhood, selected, evaluation)))
    write_whole(folder / "pictures" / "release.png", body, stage="report")
    whole = evaluation.whole
    return make_report(run, neighborhood, whole, (), (), lineage, seconds, command, folder).path


def _release_rows(
    neighborhood: Neighborhood, selected: ReleaseParts, evaluation: ReleaseEvaluation
) -> list[ReleaseRow]:
    """Each erased concept and its two nearest neighbours: the original, the champion alone, the release."""
    roles = {row["concept"]: row["role"] for row in evaluation.whole.numbers["per_concept"]}
    labels = {concept: part.label for part in selected.parts for concept in part.concepts}
    rows, n = [], RELEASE_PICTURES
    for part in neighborhood.parts:
        for name in (part.target, *part.neighbours[:2]):
            base, erased = evaluation.whole.pictures[name]
            alone, label = evaluation.alone[part.target][name], labels[part.target]
            rows.append(ReleaseRow(name, roles[name], base[:n], alone[:n], erased[:n], label))
    return rows
