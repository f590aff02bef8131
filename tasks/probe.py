"""What a cell measures beyond the evaluation: attacks, indirect prompts, ERR. The one place to plug a further measurement in.

This file's hash is part of every cell's key.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.workshop import Workshop

if TYPE_CHECKING:
    from fade.neighborhood import Neighborhood


def probe(shop: Workshop, hood: Neighborhood, adapter: Path, numbers: dict[str, Any]) -> dict[str, Any]:
    """Blocks of the cell's record by name (``attacks``, ``indirect``, ``err``), each JSON of summary numbers, no arrays of pictures.

    numbers: what the evaluation gave. The base's UNet is plain when this is called and must be so when it returns. A number that
    the tables shall show gets a line in `fade.benchmark.metrics.METRICS`.
    """
    return {}
