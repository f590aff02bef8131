"""Mine the Concept Neighborhood, and check what was mined before anything is trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.data.vocabulary import prompts
from fade.run.context import RunContext
from fade.run.resolve_params import check_target
from fade.utils import progress
from fade.utils.seeds import consecutive_seeds
from tasks.stages.generate_pictures import announced, distributed

if TYPE_CHECKING:
    from fade.mining.neighborhood import Neighborhood
    from tasks.data.validate import Checks


def mine(run: RunContext) -> Neighborhood:
    """The target's neighbourhood over the whole vocabulary; pictures come from the cache when they were made
    before."""
    from fade.generation.cost import lacking
    from fade.mining.neighborhood import joint
    from fade.mining.neighborhood import mine as mine_neighbourhood

    for target in run.targets:
        check_target(run.params, target, run.vocabulary)  # an unknown name fails before a model is loaded

    text, config = "pictures of the vocabulary", run.params.neighborhood

    def on_progress(done: int, total: int) -> None:
        progress.report("mine", done, total, text)

    texts = prompts(run.generator.sampler.prompt, run.vocabulary.names)
    seeds = consecutive_seeds(config.seed, config.images_per_concept)
    to_make = lacking(run.generator, texts, seeds)
    what = (run.vocabulary, run.generator, run.models.encoder, config, on_progress)
    with announced(run, "mine", to_make, text), distributed(run):
        return joint(
            [
                mine_neighbourhood(target, *what, also=[t for t in run.targets if t != target])
                for target in run.targets
            ]
        )


def check_mined(run: RunContext, neighborhood: Neighborhood) -> Checks:
    """Great Expectations on the pictures that training will see: those of the target and of its K neighbours.
    Raises EvaluationError for one of them that the judge knows too little (`least_known`)."""
    import numpy as np

    from fade.evaluation.accuracy import top1
    from fade.evaluation.known import require_known
    from tasks.data.validate import validate_mined
    from tasks.data.verdicts import VerdictStore

    names = [*neighborhood.targets, *neighborhood.neighbours]
    seeds = consecutive_seeds(neighborhood.seed, neighborhood.images_per_concept)
    texts = prompts(run.generator.sampler.prompt, names)
    generated = run.generator.generate(texts, seeds)
    sets = [generated[text] for text in texts]
    pixels = np.concatenate([s.pixels for s in sets])
    run.models.judge.require(names)
    odds = run.models.judge(pixels).numpy().reshape(len(names), len(seeds), -1)
    hits = {name: top1(odds[i], run.models.judge.index(name)) for i, name in enumerate(names)}
    for name in names:
        least = least_known(run.params.evaluate.base_known, len(seeds), target=name in neighborhood.targets)
        require_known([name], hits, least, "mine")
    confidence = {n: float(odds[i, :, run.models.judge.index(n)].mean()) for i, n in enumerate(names)}
    finite = all(bool(s.latents.isfinite().all()) for s in sets)
    concepts = [n for n in names for _ in seeds]
    counts = dict.fromkeys(names, len(seeds))
    store = VerdictStore(run.runs / "cache" / "checks")
    return validate_mined(
        pixels, concepts, counts, confidence, finite, run.params.checks, run.folder / "checks", store
    )


def least_known(base_known: float, pictures: int, *, target: bool) -> float:
    """The share of a concept's mined pictures that the judge must recognise before anything is trained, in
    percent: ``base_known`` of them, rounded down to whole pictures, as a share of so few says little and the
    evaluation counts more. At least one of a target's; none of a neighbour's where that is less than one."""
    enough = int(base_known * pictures / 100)
    if target and base_known:
        enough = max(enough, 1)
    return 100.0 * (enough / pictures)  # as a mean of hits rounds


mine_task = task(name="mine", cache_policy=NO_CACHE)(mine)
check_mined_task = task(name="validate mined", cache_policy=NO_CACHE)(check_mined)
