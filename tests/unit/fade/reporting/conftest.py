"""What the tests of pages share."""

from __future__ import annotations

from typing import Any

import pytest

from fade.reporting.html import page_pictures
from tests.unit.fade.reporting import samples


@pytest.fixture(scope="package")
def pictures() -> dict[str, Any]:
    """The sample report's pictures and charts: for pages that differ in words alone."""
    return page_pictures(samples.report())
