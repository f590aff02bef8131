"""Judge a base and its erased self on the same seeds: target, trained neighbours, held-out neighbours, and
the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import torch

from fade.adapters.change import Change
from fade.config import EvaluateConfig
from fade.data.vocabulary import Vocabulary, fill
from fade.data.vocabulary import prompts as filled
from fade.evaluation import accuracy
from fade.evaluation.drift import drift_curve, null_drift
from fade.evaluation.err import balances, with_erasure
from fade.evaluation.indirect import evaluate_indirect
from fade.evaluation.known import require_known
from fade.evaluation.other_prompts import evaluate_other_prompts
from fade.evaluation.realism import RealPictures, Substitute, evaluate_realism
from fade.evaluation.second_opinion import CLASSIFIER, CLIP, Disputed, Opinion, second_opinion
from fade.evaluation.similarity import frechet_summary, mean_clip_score, ssim
from fade.evaluation.zero_shot import NAME as ZERO_SHOT
from fade.evaluation.zero_shot import zero_shot
from fade.generation.generator import ImageGenerator, OnBatch, Pictures
from fade.generation.picture_checks import flat, require_pictures
from fade.judges.classifier import Classifier
from fade.mining.image_encoder import ImageEncoder
from fade.mining.neighborhood import Neighborhood
from fade.utils.seeds import consecutive_seeds

STAGE = "evaluate"
_NAMES = {"target": "A_tar", "adjacent": "A_adj", "heldout": "A_heldout", "rest": "A_rest"}
"""Accuracy of each group; not read from the registry, whose titles are no part of a result's key."""
_NAN = float("nan")
REAL = "A_real"
_Arrays = dict[str, np.ndarray]
"""By concept."""
_Features = dict[str, torch.Tensor]
"""Concept -> (n, D)."""


@dataclass(frozen=True)
class Evaluation:
    """Numbers (percent) and the pictures behind them: concept -> (base, erased), each uint8 (n, H, W, 3)."""

    numbers: dict[str, Any]
    pictures: dict[str, tuple[np.ndarray, np.ndarray]] = field(repr=False)
    disputed: list[Disputed] = field(repr=False)
    """Pictures on which the judge and a second one differ."""
    substitutes: list[Substitute] = field(repr=False)
    """Pictures that stand in the target's place."""


def rest_sample(vocabulary: Vocabulary, taken: Sequence[str], size: int, seed: int) -> list[str]:
    """A fixed sample of the vocabulary without ``taken``: one seeded order for all targets, so its pictures
    are shared."""
    order = np.random.default_rng(seed).permutation(len(vocabulary))
    return [vocabulary.names[i] for i in order if vocabulary.names[i] not in set(taken)][:size]


def judged_groups(
    neighborhood: Neighborhood, vocabulary: Vocabulary, config: EvaluateConfig
) -> dict[str, list[str]]:
    """Group (target, adjacent, heldout, rest) -> the concepts of it that are judged."""
    named = [neighborhood.targets, neighborhood.neighbours, neighborhood.heldout]
    rest = rest_sample(vocabulary, [*chain(*named)], config.rest_concepts, config.seed)
    return dict(zip(_NAMES, map(list, (*named, rest)), strict=True))


def retained_groups(groups: Mapping[str, Sequence[str]]) -> dict[str, Sequence[str]]:
    """Accuracy (A_adj, A_heldout, A_rest) -> the concepts of `judged_groups` that must stay."""
    return {_NAMES[group]: groups[group] for group in ("adjacent", "heldout", "rest")}


def evaluate(
    generator: ImageGenerator,
    lora: Change,
    adapter_sha256: str,
    neighborhood: Neighborhood,
    vocabulary: Vocabulary,
    judge: Classifier,
    config: EvaluateConfig,
    on_batch: OnBatch = lambda done, total: None,
    *,
    encoder: ImageEncoder,
    second_judge: Classifier | None = None,
    real: RealPictures | None = None,
) -> Evaluation:
    """Judge both models. The adapter is active when this is called, and active again when it returns.

    ``encoder`` is the base's CLIP, for the CLIP score and a second opinion; ``second_judge`` gives another.
    ``real``: what the target's pictures are compared to. Indirect prompts are judged only where
    ``evaluate.indirect_images`` says so. Raises EvaluationError when a judge lacks a label, or the first does
    not know the original's pictures (``evaluate.base_known``); of blank pictures as `require_pictures`."""
    targets, base = neighborhood.targets, generator.base
    groups = judged_groups(neighborhood, vocabulary, config)
    rest = groups["rest"]
    role = {name: group for group, names in groups.items() for name in names}
    for one in (judge, second_judge):
        if one is not None:
            one.require(list(role))
    seeds = consecutive_seeds(config.seed, config.images_per_concept)
    prompts = {name: fill(generator.sampler.prompt, name) for name in role}
    texts = list(prompts.values())
    own = [prompts[name] for name in targets]
    with lora.off():
        images = {"base": generator.generate(texts, seeds, on_batch=lambda i, n: on_batch(i, 2 * n))}
    pixels = {"base": _pixels(images["base"], prompts, own)}
    odds: dict[str, _Arrays] = {}
    features: dict[str, _Features] = {}
    odds["base"], features["base"] = _judged(judge, pixels["base"])
    hits = {"base": {name: accuracy.top1(odds["base"][name], judge.index(name)) for name in role}}
    for group in ("target", "adjacent"):
        require_known(groups[group], hits["base"], config.base_known, STAGE)
    images["erased"] = generator.generate(texts, seeds, adapter_sha256, lambda i, n: on_batch(n + i, 2 * n))
    pixels["erased"] = _pixels(images["erased"], prompts, own, adapter_sha256)
    odds["erased"], features["erased"] = _judged(judge, pixels["erased"])
    hits["erased"] = {name: accuracy.top1(odds["erased"][name], judge.index(name)) for name in role}
    for name in targets:  # a picture of nothing shows no erased concept
        hits["erased"][name] |= flat(pixels["erased"][name])
    encoded = {model: _encoded(encoder, each) for model, each in pixels.items()}
    labels = encoder.text(filled(generator.sampler.prompt, vocabulary.names))
    opinions = {CLIP: Opinion(ZERO_SHOT, vocabulary.names, _by_clip(encoded, labels))}
    if second_judge is not None:
        by_second = {model: accuracy.probabilities(second_judge, each) for model, each in pixels.items()}
        opinions[CLASSIFIER] = Opinion("second judge", second_judge.labels, by_second)
    first = {name: [judge.labels[i] for i in odds["erased"][name].argmax(1)] for name in role}
    seconds = {
        key: second_opinion(one, role, _NAMES, hits, pixels["erased"], first) for key, one in opinions.items()
    }
    realism = evaluate_realism(judge, real, targets, pixels, odds, features, config.grid_images)
    similar = {name: ssim(pixels["base"][name], pixels["erased"][name]) for name in role}
    confusion = {
        model: accuracy.confusion(np.concatenate([each[name] for name in targets]), judge.labels)
        for model, each in odds.items()
    }
    # Drift is measured where pictures are made, not only at the target: on a few latents of every concept.
    latents = [images["base"][text].latents for text in texts]
    drift: dict[str, Any] = {"seed": config.seed, "negative_prompt": generator.sampler.negative_prompt}
    numbers = _accuracies(groups, hits, realism.within, config) | {
        "target": neighborhood.target,
        "targets": targets,
        "neighbours": neighborhood.neighbours,
        "heldout": neighborhood.heldout,
        "rest": rest,
        "evaluation_seed": config.seed,
        "per_concept": [
            {
                "concept": name,
                "role": role[name],
                "n": len(similar[name]),
                **{model: 100.0 * float(each[name].mean()) for model, each in hits.items()},
                "ssim": float(similar[name].mean()),
            }
            for name in role
        ],
        "confusion": confusion["erased"],
        "base_confusion": confusion["base"],
        "second_opinion": {key: one for key, (one, _) in seconds.items()},
        "realism": realism.numbers,
        "spatial_consistency": _consistency([similar[name] for name in rest], config),
        "target_probability": {
            model: float(np.mean([each[name][:, judge.index(name)].mean() for name in targets]))
            for model, each in odds.items()
        },
        "null_drift": null_drift(base, lora, torch.cat([x[:4] for x in latents]), **drift),
        **_utility(encoder, rest, prompts, features, encoded),
        "drift_over_t": drift_curve(
            base, lora, torch.cat([x[:1] for x in latents]), bins=config.drift_bins, **drift
        ),
    }
    numbers["other_prompts"] = evaluate_other_prompts(
        generator, lora, adapter_sha256, targets, retained_groups(groups), judge, config
    )
    if config.indirect_images:
        numbers["indirect"] = evaluate_indirect(
            generator, lora, adapter_sha256, targets, vocabulary, judge, config
        )
    pictures = {name: (pixels["base"][name], pixels["erased"][name]) for name in role}
    disputed = [one for _, some in seconds.values() for one in some]
    return Evaluation(measured(numbers), pictures, disputed, realism.substitutes)


def measured(value: Any) -> Any:
    """The same with None for NaN: JSON has no NaN, and what was not measured has no value."""
    if isinstance(value, dict):
        return {key: measured(item) for key, item in value.items()}
    if isinstance(value, list):
        return [measured(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _pixels(
    made: Mapping[str, Pictures], prompts: Mapping[str, str], targets: Sequence[str], adapter: str = ""
) -> _Arrays:
    """Pictures by concept. Raises as `require_pictures`."""
    require_pictures({p: flat(made[p].pixels) for p in prompts.values()}, targets, STAGE, adapter)
    return {name: made[prompt].pixels for name, prompt in prompts.items()}


def _judged(judge: Classifier, pixels: _Arrays) -> tuple[_Arrays, _Features]:
    """The judge's probabilities (n, L) and features (n, D) by concept, in one pass."""
    odds, features = judge.with_features(np.concatenate([*pixels.values()]))
    by_concept = (np.split(odds.numpy(), len(pixels)), features.chunk(len(pixels)))
    return dict(zip(pixels, by_concept[0], strict=True)), dict(zip(pixels, by_concept[1], strict=True))


def _encoded(encoder: ImageEncoder, pixels: _Arrays) -> _Features:
    """CLIP's unit features by concept."""
    return dict(zip(pixels, encoder(np.concatenate([*pixels.values()])).chunk(len(pixels)), strict=True))


def _by_clip(encoded: Mapping[str, _Features], labels: torch.Tensor) -> dict[str, _Arrays]:
    return {
        model: {name: zero_shot(one, labels).numpy() for name, one in each.items()}
        for model, each in encoded.items()
    }


def _accuracies(
    groups: Mapping[str, Sequence[str]],
    hits: Mapping[str, _Arrays],
    within: Mapping[str, Mapping[str, np.ndarray]],
    config: EvaluateConfig,
) -> dict[str, Any]:
    mean: dict[str, dict[str, Any]] = {}
    resampled: dict[str, dict[str, Any]] = {}
    for model, each in hits.items():
        rng = np.random.default_rng([config.seed, len(model)])
        of = {_NAMES[group]: [each[name] for name in members] for group, members in groups.items()}
        of[REAL] = [*within.get(model, {}).values()]
        mean[model] = {key: accuracy.mean_accuracy(h) for key, h in of.items()}
        resampled[model] = {key: accuracy.bootstrap_means(h, config.bootstrap, rng) for key, h in of.items()}
    n = config.images_per_concept
    return {
        "metrics": {key: float(value) for key, value in _with_balance(mean["erased"]).items()},
        "base_metrics": mean["base"],
        "intervals": {k: accuracy.interval(v) for k, v in _with_balance(resampled["erased"]).items()},
        "base_intervals": {k: accuracy.interval(v) for k, v in resampled["base"].items()},
        "n": {"per_concept": n, **{group: n * len(members) for group, members in groups.items()}},
    }


def _with_balance(accuracies: Mapping[str, Any]) -> dict[str, Any]:
    """A_er in place of A_tar, then the retentions, then the balances, then A_real, in percent; numbers, or
    arrays of resamples."""
    out = with_erasure(accuracies)
    real = out.pop(REAL)
    return {**out, **balances(out), REAL: real}


def _consistency(similar: Sequence[np.ndarray], config: EvaluateConfig) -> dict[str, Any]:
    values = np.concatenate([*similar, np.array([])])
    lo, hi = accuracy.bootstrap_interval(values, config.bootstrap, config.seed)
    mean = float(values.mean()) if len(values) else _NAN
    return {"mean": mean, "lo": lo, "hi": hi, "n": len(values), "role": "rest"}


def _utility(
    encoder: ImageEncoder,
    names: Sequence[str],
    prompts: Mapping[str, str],
    features: Mapping[str, _Features],
    encoded: Mapping[str, _Features],
) -> dict[str, Any]:
    """CLIP score and Fréchet distance over the unrelated concepts."""
    if not names:
        distances = dict.fromkeys(("rest", "crossed", "floor"), _NAN)
        clip_score = {"base": _NAN, "erased": _NAN, "n": 0}
        return {"clip_score": clip_score, "frechet": {**distances, "n": 0, "n_half": 0}}
    texts = encoder.text([prompts[name] for name in names])
    scores = {
        model: mean_clip_score([each[name] for name in names], texts) for model, each in encoded.items()
    }
    of_rest = [torch.stack([features[model][name] for name in names]) for model in ("base", "erased")]
    n = sum(len(one) for one in of_rest[0])
    return {"clip_score": {**scores, "n": n}, "frechet": frechet_summary(*of_rest)}
