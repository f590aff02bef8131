"""The static site, made again after each scheduled run: `fade serve --site DIR`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fade.errors import FadeError
from fade.utils import progress
from flows.site import make_site
from tasks.requests.project import Project


@contextmanager
def published(project: Project, site: str) -> Iterator[None]:
    """After the block, however it ended, the site is made in the folder ``site``; empty: none is made. A site
    that cannot be made is reported, and fails nothing: the one before stays."""
    try:
        yield
    finally:
        if site:
            try:
                make_site(project, Path(site))
            except FadeError as error:
                progress.report("site", 0, 0, str(error))
