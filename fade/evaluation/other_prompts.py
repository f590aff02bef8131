"""What must stay, under other prompts than ``sampler.prompt``: sentences, and the target beside another
concept ("a panda and a tulip": is the tulip still there?). Ours.

As with indirect prompts (`fade.evaluation.indirect`), what the original does not read says nothing of an
eraser. Here whole kinds count or do not: with a picture or two a prompt, prompts chosen by the original's
luck would flatter it. A kind on which the original's accuracy is below ``evaluate.prompts_known`` has no
number, but a reason, and the erased model draws nothing of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from fade.adapters.change import Change
from fade.config import EvaluateConfig
from fade.data.vocabulary import fill
from fade.errors import BaseModelError
from fade.evaluation.accuracy import bootstrap_means, interval, mean_accuracy
from fade.evaluation.err import with_erasure
from fade.evaluation.known import why_unknown
from fade.evaluation.two_things import two_things
from fade.generation.generator import ImageGenerator
from fade.generation.picture_checks import flat
from fade.judges.classifier import Classifier
from fade.utils.seeds import consecutive_seeds

SENTENCES, PAIRS = KINDS = ("sentences", "pairs")
Groups = Mapping[str, Sequence[str]]
"""Name of an accuracy (A_adj, A_heldout, A_rest) -> its concepts."""
_Hits = dict[str, list[np.ndarray]]
"""Name of an accuracy -> one boolean (n,) a concept."""


class Row(NamedTuple):
    """A prompt, and what must stay in its picture."""

    text: str
    group: str
    concept: str
    target: str
    """Of a pair; empty in a sentence."""


def rows_of(targets: Sequence[str], groups: Groups, config: EvaluateConfig) -> dict[str, list[list[Row]]]:
    """Kind -> the prompts of each of its templates, of the kinds that are judged."""
    concepts = [(group, name) for group, names in groups.items() for name in names]
    rows = {
        SENTENCES: [
            [Row(fill(template, name), group, name, "") for group, name in concepts]
            for template in config.sentences
        ],
        PAIRS: [
            [
                Row(template.format(first=target, second=name), group, name, target)
                for target in targets
                for group, name in concepts
            ]
            for template in config.pairs
        ],
    }
    return {kind: each for kind, each in rows.items() if config.prompt_images and concepts and each}


def seeds_of(config: EvaluateConfig, template: int) -> list[int]:
    """Of the pictures of a kind's template, by its position: a seed decides the layout, so each template has
    its own."""
    return consecutive_seeds(config.seed + template * config.prompt_images, config.prompt_images)


def evaluate_other_prompts(
    generator: ImageGenerator,
    lora: Change,
    adapter_sha256: str,
    targets: Sequence[str],
    groups: Groups,
    judge: Classifier,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Judge what must stay by both models: kind -> ``metrics`` and ``base_metrics`` (percent, by the groups'
    names), their ``intervals``, ``n`` pictures, and a ``reason`` where there is no number.

    A pair's picture is cut into its two things (`two_things`); a concept is there when the judge takes one of
    them for it, and the target is erased (A_er) when it takes neither for the target. Kinds without a
    template, and all where ``evaluate.prompt_images`` is 0, are left out. The adapter is active when this is
    called, and active again when it returns."""
    return {
        kind: _judge_kind(generator, lora, adapter_sha256, kind, by_template, judge, config)
        for kind, by_template in rows_of(targets, groups, config).items()
    }


def _judge_kind(
    generator: ImageGenerator,
    lora: Change,
    adapter_sha256: str,
    kind: str,
    by_template: Sequence[Sequence[Row]],
    judge: Classifier,
    config: EvaluateConfig,
) -> dict[str, Any]:
    images = config.prompt_images

    def hits(adapter: str) -> _Hits:
        out: dict[str, dict[str, list[np.ndarray]]] = {}
        for i, rows in enumerate(by_template):
            made = generator.generate([row.text for row in rows], seeds_of(config, i), adapter)
            pixels = np.concatenate([made[row.text].pixels for row in rows])
            parts = (
                np.stack([part for one in pixels for part in two_things(one)]) if kind == PAIRS else pixels
            )
            top = judge(parts).numpy().argmax(1).reshape(len(rows), images, -1)
            blank = flat(pixels).reshape(len(rows), images)
            for row, labels, empty in zip(rows, top, blank, strict=True):
                there = (labels == judge.index(row.concept)).any(-1)
                out.setdefault(row.group, {}).setdefault(row.concept, []).append(there)
                if row.target:
                    left = (labels == judge.index(row.target)).any(-1)
                    # a picture of nothing shows no erased concept
                    left |= empty if adapter else False
                    out.setdefault("A_tar", {}).setdefault(row.target, []).append(left)
        return {group: [np.concatenate(one) for one in of.values()] for group, of in out.items()}

    facts: dict[str, Any] = {"images_per_prompt": images, "known_at": config.prompts_known}
    try:
        with lora.off():
            base = hits("")
    except BaseModelError as error:  # pictures of one colour: it reads none of these prompts
        return {**facts, "base_metrics": {}, "metrics": {}, "reason": error.what.rstrip(".")}
    facts |= {
        "base_metrics": {group: mean_accuracy(each) for group, each in base.items()},
        "n": {group: sum(map(len, each)) for group, each in base.items()},
    }
    retained = [one for group, each in base.items() if group != "A_tar" for one in each]
    if reason := why_unknown(mean_accuracy(retained), config.prompts_known, kind):
        return {**facts, "metrics": {}, "reason": reason}
    if mean_accuracy(base.get("A_tar", [])) < config.prompts_known:
        base.pop("A_tar")  # no picture of it to erase; what stays beside it still counts
    erased = {group: each for group, each in hits(adapter_sha256).items() if group in base}
    rng = np.random.default_rng([config.seed, len(kind)])
    resampled = {group: bootstrap_means(each, config.bootstrap, rng) for group, each in erased.items()}
    means = {group: mean_accuracy(each) for group, each in erased.items()}
    intervals = {group: interval(each) for group, each in with_erasure(resampled).items()}
    return {**facts, "metrics": with_erasure(means), "intervals": intervals, "reason": ""}
