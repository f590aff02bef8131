"""What the tests of pages share."""

from __future__ import annotations

from typing import Any

import pytest

from fade.reporting.html import draw
from tests.unit.fade.reporting import samples


@pytest.fixture(scope="package")
def drawn() -> dict[str, Any]:
    """The sample report's pictures and charts: for pages that differ in words alone."""
    return draw(samples.report())
