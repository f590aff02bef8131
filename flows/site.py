"""The static site: made by `fade site`, by whoever publishes it after a pass, verified by an auditor.

Plain functions and no flow of Prefect's: neither needs a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.release import site as tasks_site
from tasks.requests.project import Project

BENCHMARK = Path("bench") / "record"
"""Below the project's folder: where `fade bench` writes its report."""


def make_site(
    project: Project, out: Path, *, benchmark: Path | None = None, pictures: bool = True
) -> dict[str, Any]:
    """`tasks.release.site.make_site`, with the benchmark's report of the project unless another is named."""
    folder = benchmark or project.root / BENCHMARK
    return tasks_site.make_site(project, out, benchmark=folder, pictures=pictures)


def verify_site(folder: Path, public_key: str = "") -> list[dict[str, str]]:
    """`tasks.release.site.verify_site`."""
    return tasks_site.verify_site(folder, public_key)
