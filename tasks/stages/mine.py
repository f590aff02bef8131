"""Mine the Concept Neighborhood, and check what was mined before anything is trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.data.vocabulary import fill
from fade.run.context import Workshop
from fade.run.resolve_params import check_target
from fade.utils import progress

if TYPE_CHECKING:
    from fade.mining.neighborhood import Neighborhood
    from tasks.data.validate import Checks


def mine(shop: Workshop) -> Neighborhood:
    """The target's neighbourhood over the whole vocabulary; pictures come from the cache when they were made before."""
    from fade.mining.neighborhood import joint
    from fade.mining.neighborhood import mine as mine_neighbourhood

    for target in shop.targets:
        check_target(shop.params, target, shop.vocabulary)  # an unknown name fails before a model is loaded

    def told(done: int, total: int) -> None:
        progress.report("mine", done, total, "pictures of the vocabulary")

    what = (shop.vocabulary, shop.studio, shop.encoder, shop.params.neighborhood, told)
    return joint([mine_neighbourhood(target, *what, also=[t for t in shop.targets if t != target]) for target in shop.targets])


def check_mined(shop: Workshop, hood: Neighborhood) -> Checks:
    """Great Expectations on the pictures that training will see: those of the target and of its K neighbours."""
    import numpy as np

    from tasks import checked

    names = [*hood.targets, *hood.neighbours]
    seeds = [hood.seed + i for i in range(hood.images_per_concept)]
    drawn = shop.studio.draw([fill(shop.studio.sampler.prompt, n) for n in names], seeds)
    sets = [drawn[fill(shop.studio.sampler.prompt, n)] for n in names]
    pixels = np.concatenate([s.pixels for s in sets])
    shop.judge.require(names)
    odds = shop.judge(pixels).numpy().reshape(len(names), len(seeds), -1)
    confidence = {n: float(odds[i, :, shop.judge.index(n)].mean()) for i, n in enumerate(names)}
    finite = all(bool(s.latents.isfinite().all()) for s in sets)
    concepts = [n for n in names for _ in seeds]
    counts = dict.fromkeys(names, len(seeds))
    return checked.check_mined(pixels, concepts, counts, confidence, finite, shop.params.checks, shop.folder / "checks")


mine_task = task(name="mine", cache_policy=NO_CACHE)(mine)
check_mined_task = task(name="validate mined", cache_policy=NO_CACHE)(check_mined)
