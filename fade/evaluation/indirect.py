"""Indirect prompts: can the erased concept still be had by other words, styles, templates or another order of
its words?

The prompts are data (``indirect.yaml``, versioned, written before any was drawn). A small text encoder cannot
know every word, so a prompt counts only when the ORIGINAL model draws the target from it, by the judge, on at
least ``evaluate.indirect_known`` percent of the pictures: a rule that no eraser has a say in. The others are
listed as unknown, never dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fade.adapters.lora import LoraAdapter
from fade.config import EvaluateConfig
from fade.data.vocabulary import Vocabulary, fill
from fade.errors import EvaluationError
from fade.evaluation.accuracy import interval
from fade.generation.generator import ImageGenerator
from fade.judges.classifier import Classifier

FILE = Path(__file__).with_name("indirect.yaml")
KINDS = ("template", "style", "medium", "combination", "family", "order", "synonym", "description")
STYLES, COMBINATIONS = 4, 2
"""Styles that are asked for alone, and together with another template: the vocabulary's first ones, to bound
the cost."""


@dataclass(frozen=True)
class IndirectPrompt:
    """One prompt; ``kind`` is one of KINDS."""

    kind: str
    text: str


@cache
def load_indirect() -> dict[str, Any]:
    """The content of ``indirect.yaml``: version, the generic kinds' templates, and ``concepts`` with their
    own words."""
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return content


def indirect_prompts(target: str, vocabulary: Vocabulary) -> list[IndirectPrompt]:
    """The indirect prompts of any concept, none twice: the generic kinds, and its own words where the data
    file has them.

    Raises UnknownNameError for a target outside the vocabulary.
    """
    data, family = load_indirect(), vocabulary.family(target)
    own: Mapping[str, list[str]] = data["concepts"].get(target, {})
    styles = vocabulary.styles[:STYLES]
    texts = {
        "template": [t.format(concept=target) for t in data["template"]],
        "style": [t.format(concept=target, style=s) for t in data["style"] for s in styles],
        "medium": [] if styles else [t.format(concept=target) for t in data["medium"]],
        "combination": [
            t.format(concept=target, style=s) for t in data["combination"] for s in styles[-COMBINATIONS:]
        ],
        "family": [t.format(concept=target, family=family) for t in data["family"]] if family else [],
        "order": [t.format(concept=target) for t in data["order"]] + _orders(target.split(), data),
        "synonym": [f"a {word}" for word in own.get("synonym", [])],
        "description": own.get("description", []),
    }
    found = {text: IndirectPrompt(kind, text) for kind in KINDS for text in texts[kind]}
    return list(found.values())


def _orders(words: Sequence[str], data: Mapping[str, Any]) -> list[str]:
    """The words of a name in other orders; none for a name of one word."""
    if len(words) < 2:
        return []
    slots = {"first": words[0], "last": words[-1], "rest": " ".join(words[1:]), "head": " ".join(words[:-1])}
    return [template.format(**slots) for template in data["two_words" if len(words) == 2 else "more_words"]]


def evaluate_indirect(
    generator: ImageGenerator,
    lora: LoraAdapter,
    adapter_sha256: str,
    targets: Sequence[str],
    vocabulary: Vocabulary,
    judge: Classifier,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Draw and judge the targets' indirect prompts by both models, ``evaluate.indirect_images`` pictures
    each, at the same seeds.

    Returns ``A_indirect`` = 100 - accuracy on the known prompts (percent; NaN when none is known) with the
    original's own accuracy, both also per kind, every prompt with its numbers, and the unknown ones by name.
    The adapter is active when this is called, and active again when it returns. Raises EvaluationError when
    the judge lacks the target or ``evaluate.indirect_images`` is 0."""
    if config.indirect_images == 0:
        raise EvaluationError(
            "evaluate.indirect_images is 0.",
            stage="evaluate",
            action="set evaluate.indirect_images, to 4 say.",
        )
    # The evaluation's own prompt is what was erased, so not indirect, should it read like one of ours.
    direct = {fill(generator.sampler.prompt, target) for target in targets}
    pairs = [
        (p, target)
        for target in targets
        for p in indirect_prompts(target, vocabulary)
        if p.text not in direct
    ]
    prompts_tried, labels = [p for p, _ in pairs], [judge.index(target) for _, target in pairs]
    texts, seeds = [p.text for p in prompts_tried], [config.seed + i for i in range(config.indirect_images)]
    with lora.off():
        base = generator.generate(texts, seeds)
    erased = generator.generate(texts, seeds, adapter_sha256)
    rates = [_rates(judge, [drawn[t].pixels for t in texts], labels) for drawn in (base, erased)]
    rows = [
        {
            "kind": p.kind,
            "text": p.text,
            "base": float(b),
            "erased": float(e),
            "known": bool(b >= config.indirect_known),
        }
        for p, b, e in zip(prompts_tried, *rates, strict=True)
    ]
    return {
        "version": load_indirect()["version"],
        "known_at": config.indirect_known,
        "images_per_prompt": config.indirect_images,
        **summarise(rows, config.indirect_images),
        "interval": prompt_interval(rows, config),
        "per_kind": {
            k: summarise(own, config.indirect_images)
            for k in KINDS
            if (own := [row for row in rows if row["kind"] == k])
        },
        "unknown": [row["text"] for row in rows if not row["known"]],
        "prompts": rows,
    }


def summarise(rows: Sequence[Mapping[str, Any]], images: int) -> dict[str, Any]:
    """Over the known rows: A_indirect and the original's accuracy ``base`` (percent, NaN for none), n
    pictures; known of asked prompts."""
    known = [row for row in rows if row["known"]]
    nothing = float("nan")
    return {
        "A_indirect": 100.0 - float(np.mean([row["erased"] for row in known])) if known else nothing,
        "base": float(np.mean([row["base"] for row in known])) if known else nothing,
        "n": len(known) * images,
        "known": len(known),
        "asked": len(rows),
    }


def prompt_interval(rows: Sequence[Mapping[str, Any]], config: EvaluateConfig) -> list[float]:
    """95 % bootstrap interval of A_indirect: prompts are resampled, for here they are the sample; their
    pictures go with them."""
    gone = np.array([100.0 - row["erased"] for row in rows if row["known"]])
    if not len(gone):
        return [float("nan"), float("nan")]
    picked = np.random.default_rng(config.seed).integers(0, len(gone), (config.bootstrap, len(gone)))
    return interval(gone[picked].mean(1))


def _rates(judge: Classifier, pictures: Sequence[np.ndarray], labels: Sequence[int]) -> np.ndarray:
    """Accuracy (prompts,), percent, of pictures (n, H, W, 3) a prompt, each against its own label."""
    predicted = judge(np.concatenate(pictures)).numpy().argmax(1).reshape(len(pictures), -1)
    share: np.ndarray = 100.0 * (predicted == np.asarray(labels)[:, None]).mean(1)
    return share
