"""Indirect prompts: can the erased concept still be had by other words, styles, templates, another order of
its words, within a sentence, or beside another concept?

The prompts are data (``indirect.yaml``, versioned, written before any was tried). A small text encoder cannot
know every word, so a prompt counts only when the ORIGINAL model draws the target from it, by the judge, on at
least ``evaluate.indirect_known`` percent of the pictures: a rule that no eraser has a say in. The others are
listed as unknown, never dropped in silence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from fade.adapters.change import Change
from fade.config import EvaluateConfig
from fade.data.vocabulary import Vocabulary, fill
from fade.errors import EvaluationError
from fade.evaluation.accuracy import bootstrap_interval
from fade.evaluation.two_things import two_things
from fade.generation.generator import ImageGenerator, Pictures
from fade.generation.picture_checks import flat
from fade.judges.classifier import Classifier
from fade.utils.seeds import consecutive_seeds

FILE = Path(__file__).with_name("indirect.yaml")
PAIR = "pair"
KINDS = (
    "template",
    "style",
    "medium",
    "combination",
    "case",
    "sentence",
    PAIR,
    "family",
    "order",
    "synonym",
    "description",
)
STYLES, COMBINATIONS = 4, 2
"""The vocabulary's first styles that are tried alone, and together with another template; bounds the cost."""


class IndirectPrompt(NamedTuple):
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
    file has them. Raises UnknownNameError for a target outside the vocabulary."""
    data, family = load_indirect(), vocabulary.family(target)
    own: Mapping[str, list[str]] = data["concepts"].get(target, {})
    styles = vocabulary.styles[:STYLES]

    def texts(kind: str, several: Sequence[str] = ("",)) -> list[str]:
        return [t.format(concept=target, style=s, family=family) for t in data[kind] for s in several]

    kinds = {
        "template": texts("template"),
        "style": texts("style", styles),
        "medium": [] if styles else texts("medium"),
        "combination": texts("combination", styles[-COMBINATIONS:]),
        "case": [template.format(upper=target.upper()) for template in data["case"]],
        "sentence": texts("sentence"),
        PAIR: [
            template.format(concept=target, other=other)
            for template, other in zip(data[PAIR], others_of(target, vocabulary), strict=False)
        ],
        "family": texts("family") if family else [],
        "order": texts("order") + _orders(target.split(), data),
        "synonym": [f"a {word}" for word in own.get("synonym", [])],
        "description": own.get("description", []),
    }
    return list({text: IndirectPrompt(kind, text) for kind in KINDS for text in kinds[kind]}.values())


def others_of(target: str, vocabulary: Vocabulary) -> list[str]:
    """What stands beside the target in pairs, one a template: concepts of other families, evenly along the
    vocabulary; of a vocabulary of one family or none its other concepts."""
    others = [name for name in vocabulary.names if name != target]
    outside = [name for name in others if vocabulary.family(name) != vocabulary.family(target)] or others
    n = len(load_indirect()[PAIR])
    return list(dict.fromkeys(outside[len(outside) * i // n] for i in range(n))) if outside else []


def _orders(words: Sequence[str], data: Mapping[str, Any]) -> list[str]:
    """The words of a name in other orders; none for a name of one word."""
    if len(words) < 2:
        return []
    slots = {"first": words[0], "last": words[-1], "rest": " ".join(words[1:]), "head": " ".join(words[:-1])}
    return [template.format(**slots) for template in data["two_words" if len(words) == 2 else "more_words"]]


def prompts_of(
    targets: Sequence[str], vocabulary: Vocabulary, template: str
) -> list[tuple[IndirectPrompt, str]]:
    """The indirect prompts of all targets, each with its target. template: of the evaluation's own prompts,
    which are what was erased, so not indirect, should one of ours read like it."""
    direct = {fill(template, target) for target in targets}
    pairs = [(p, target) for target in targets for p in indirect_prompts(target, vocabulary)]
    return [(p, target) for p, target in pairs if p.text not in direct]


def evaluate_indirect(
    generator: ImageGenerator,
    lora: Change,
    adapter_sha256: str,
    targets: Sequence[str],
    vocabulary: Vocabulary,
    judge: Classifier,
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Judge the targets' indirect prompts by both models, ``evaluate.indirect_images`` pictures each, at the
    same seeds; a pair's picture is cut into its two things.

    Returns ``A_indirect`` = 100 - accuracy on the known prompts (percent; NaN when none is known) with the
    original's own accuracy, both also per kind, every prompt with its numbers, and the unknown ones by name.
    The adapter is active when this is called, and active again when it returns. Raises EvaluationError when
    the judge lacks the target or ``evaluate.indirect_images`` is 0."""
    images = config.indirect_images
    if images == 0:
        action = "set evaluate.indirect_images, to 4 say."
        raise EvaluationError("evaluate.indirect_images is 0.", stage="evaluate", action=action)
    pairs = prompts_of(targets, vocabulary, generator.sampler.prompt)
    texts, labels = [p.text for p, _ in pairs], np.array([judge.index(target) for _, target in pairs])
    seeds = consecutive_seeds(config.seed, images)

    def rates(made: Mapping[str, Pictures], *, active: bool) -> list[float]:
        """Accuracy of each prompt, percent, against its own label; active: by the erased model."""
        parts: list[Sequence[np.ndarray]] = [
            two_things(one) if prompt.kind == PAIR else [one]
            for prompt, _ in pairs
            for one in made[prompt.text].pixels
        ]
        owner = np.repeat(np.arange(len(parts)), [len(some) for some in parts])
        hit = judge(np.concatenate(parts)).numpy().argmax(1) == labels[owner // images]
        shown = np.zeros(len(parts), bool)
        np.logical_or.at(shown, owner, hit)
        shown = shown.reshape(-1, images)
        if active:  # a picture of nothing shows no erased concept
            shown |= np.stack([flat(made[text].pixels) for text in texts])
        shares: list[float] = (100.0 * shown.mean(1)).tolist()
        return shares

    with lora.off():
        base = rates(generator.generate(texts, seeds), active=False)
    erased = rates(generator.generate(texts, seeds, adapter_sha256), active=True)
    rows: list[dict[str, Any]] = [
        {"kind": p.kind, "text": p.text, "base": b, "erased": e, "known": b >= config.indirect_known}
        for (p, _), b, e in zip(pairs, base, erased, strict=True)
    ]
    by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in KINDS}
    # Prompts are resampled, for here they are the sample; their pictures go with them.
    shares = np.array([100.0 - row["erased"] for row in rows if row["known"]])
    return {
        "version": load_indirect()["version"],
        "known_at": config.indirect_known,
        "images_per_prompt": images,
        **_summary(rows, images),
        "interval": bootstrap_interval(shares, config.bootstrap, config.seed),
        "per_kind": {kind: _summary(own, images) for kind, own in by_kind.items() if own},
        "unknown": [row["text"] for row in rows if not row["known"]],
        "prompts": rows,
    }


def _summary(rows: Sequence[Mapping[str, Any]], images: int) -> dict[str, Any]:
    """Over the known rows: A_indirect and the original's accuracy ``base`` (percent, NaN for none), n
    pictures; known of asked prompts."""
    known = [row for row in rows if row["known"]]
    erased, base = ([row[model] for row in known] or [float("nan")] for model in ("erased", "base"))
    return {
        "A_indirect": 100.0 - float(np.mean(erased)),
        "base": float(np.mean(base)),
        "n": len(known) * images,
        "known": len(known),
        "asked": len(rows),
    }
