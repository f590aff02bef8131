"""How many pictures an evaluation has to make, before it makes them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from fade.config import EvaluateConfig
from fade.data.vocabulary import Vocabulary
from fade.data.vocabulary import prompts as filled
from fade.evaluation import indirect, other_prompts
from fade.evaluation.evaluate import judged_groups, retained_groups
from fade.evaluation.gated import GatedGenerator
from fade.generation.cost import lacking
from fade.generation.generator import ImageGenerator
from fade.mining.neighborhood import Neighborhood
from fade.utils.seeds import consecutive_seeds


def pictures_to_make(
    generator: ImageGenerator,
    adapter_sha256: str,
    neighborhood: Neighborhood,
    vocabulary: Vocabulary,
    config: EvaluateConfig,
) -> int:
    """Pictures of both models that `fade.evaluation.evaluate.evaluate` has to make, as the cache is now; at
    most so many, as the erased model draws no sentences or pairs that the original does not read."""
    groups, template = judged_groups(neighborhood, vocabulary, config), generator.sampler.prompt
    seeds = consecutive_seeds(config.seed, config.images_per_concept)
    calls = [(filled(template, [*chain(*groups.values())]), seeds)]
    for by_template in other_prompts.rows_of(neighborhood.targets, retained_groups(groups), config).values():
        for i, rows in enumerate(by_template):
            calls.append(([row.text for row in rows], other_prompts.seeds_of(config, i)))
    if config.indirect_images:
        pairs = indirect.prompts_of(neighborhood.targets, vocabulary, template)
        seeds = consecutive_seeds(config.seed, config.indirect_images)
        calls.append(([prompt.text for prompt, _ in pairs], seeds))
    return sum(_lacking(generator, *call, adapter) for call in calls for adapter in ("", adapter_sha256))


def _lacking(generator: ImageGenerator, prompts: Sequence[str], seeds: Sequence[int], adapter: str) -> int:
    if not adapter or not isinstance(generator, GatedGenerator):
        return lacking(generator, prompts, seeds, adapter)
    labels = generator.labels(prompts, adapter)
    return sum(lacking(generator, [prompt], seeds, label) for prompt, label in labels.items())
