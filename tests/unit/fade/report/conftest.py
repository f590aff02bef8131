"""What the tests of pages share."""

from __future__ import annotations

from typing import Any

import pytest

from fade.report.html import draw
from tests.unit.fade.report import samples


@pytest.fixture(scope="package")
def drawn() -> dict[str, Any]:
    """The sample report's pictures, for pages that differ in words alone: charts in two themes take seconds."""
    return draw(samples.report())
