"""Write a release's report: the page and the card of a run, and the pictures by the original, each champion
alone and the release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.reporting.release import SHOWN, Trio
from fade.run.context import RunContext

if TYPE_CHECKING:
    from fade.mining.neighborhood import Neighborhood
    from tasks.release.build_release import Chosen, Weighed


def make_release_report(
    run: RunContext,
    neighborhood: Neighborhood,
    chosen: Chosen,
    weighed: Weighed,
    lineage: Mapping[str, Any],
    seconds: Mapping[str, float],
    command: str,
    folder: Path,
) -> Path:
    """Write ``pictures/`` and write ``report.html`` and ``card.md`` into ``folder``; returns the page. Raises
    StorageError."""
    from fade import reporting as report
    from fade.reporting.canvas import png, write
    from fade.reporting.release import trios
    from tasks.stages.report import mined_pictures

    numbers, count = weighed.judged.numbers, run.params.evaluate.grid_images
    roles = {row["concept"]: row["role"] for row in numbers["per_concept"]}
    rows = [
        report.Row(name, roles[name], base[:count], erased[:count])
        for name, (base, erased) in weighed.judged.pictures.items()
    ]
    page = report.Report(
        result=numbers,
        neighborhood=neighborhood,
        rows=[row for row in rows if row.role != "rest"] + [row for row in rows if row.role == "rest"][:4],
        mined=mined_pictures(run, neighborhood),
        history=(),
        checks=(),
        lineage=lineage,
        seconds=seconds,
        command=command,
    )
    by = {concept: part.label for part in chosen.parts for concept in part.concepts}
    lines = [
        Trio(
            name,
            roles[name],
            base[:SHOWN],
            weighed.alone[part.target][name][:SHOWN],
            erased[:SHOWN],
            by[part.target],
        )
        for part in neighborhood.parts
        for name in (part.target, *part.neighbours[:2])
        for base, erased in [weighed.judged.pictures[name]]
    ]
    drawn = report.draw_report(page, folder)
    write(png(trios(lines)), folder / "pictures" / "release.png")
    return report.write_report(page, folder, drawn, base_model=run.params.data.base)
