"""Judge the erased model against the original, and keep the numbers and the pictures beside the adapter."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.run.context import Workshop
from fade.utils import progress
from fade.utils.files import write_json

if TYPE_CHECKING:
    import numpy as np

    from fade.mining.neighborhood import Neighborhood


@dataclass(frozen=True)
class Judged:
    """The evaluation's JSON and the pictures behind it, concept -> (base, erased)."""

    numbers: dict[str, Any]
    pictures: dict[str, tuple[np.ndarray, np.ndarray]]
    seconds: float
    """Spent on the judge and the metrics, the making of pictures aside."""


def evaluate(shop: Workshop, hood: Neighborhood, adapter: Path) -> Judged:
    """Judge the run's adapter and write ``evaluation.json``."""
    from fade.erasers.base import get_method

    found = judge(shop, hood, adapter)
    method = shop.params.method
    known = get_method(method.name, method.variant)
    trained_on = (known.needs_neighbours and not known.takes_anchors) or method.anchors == "neighbourhood"
    chosen = {"method": method.name, "variant": method.variant, "neighbours_trained": trained_on, "seed": shop.params.train.seed}
    numbers = {**found.numbers, **chosen}
    write_json(shop.folder / "evaluation.json", numbers)
    return Judged(numbers, found.pictures, found.seconds)


def judge(shop: Workshop, hood: Neighborhood, adapter: Path) -> Judged:
    """Load an adapter into the one UNet and judge both models; the UNet is left as it was."""
    from fade.adapters.lora import Mesh
    from fade.evaluation import evaluate as judge_both
    from fade.utils.hashing import sha256_of

    def told(done: int, total: int) -> None:
        progress.report("evaluate", done, total, "pictures before and after")

    mesh = Mesh.load(shop.base, adapter)
    mesh.merge()  # drawing is faster without the adapter's extra products; off() and remove() give the base's bytes back
    start, drawing = time.perf_counter(), shop.studio.seconds
    try:
        found = judge_both(
            shop.studio, mesh, sha256_of(adapter), hood, shop.vocabulary, shop.judge, shop.params.evaluate, told, encoder=shop.encoder
        )
    finally:
        mesh.remove()
    judging = time.perf_counter() - start - (shop.studio.seconds - drawing)
    return Judged(found.numbers, found.pictures, judging)


evaluate_task = task(name="evaluate", cache_policy=NO_CACHE)(evaluate)
