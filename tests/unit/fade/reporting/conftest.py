"""What the tests of pages share."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from fade.reporting.html import draw
from tests.unit.fade.reporting import samples


@pytest.fixture(scope="package")
def drawn() -> dict[str, Any]:
    """The sample report's pictures but for its charts, which are a pixel each: for pages that differ in words
    alone."""
    with pytest.MonkeyPatch.context() as patch:
        names = ("heatmap", "confusion", "losses")
        patch.setattr(
            "fade.reporting.html.charts", lambda *_: {name: Image.new("RGB", (1, 1)) for name in names}
        )
        return draw(samples.report())
