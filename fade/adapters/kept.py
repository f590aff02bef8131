"""What a release must leave alone: the concepts that it may use for that, those that are only measured, and
the prompts of both. Ours.

Every concept has a place in an order that the seed and its name alone decide. The first third of that order
is measured and never used, whatever a release erases, so that a concept stays on its side when champions come
and go. So is a concept whose name holds the name of one of those ("oncoming taxi" that of "taxi"): its
prompts would name it. A concept that a champion's training kept as a neighbour, or within a neighbour's name,
measures no more what nobody trained on, and stands on the other side."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fade.config import ReleaseConfig
from fade.data.vocabulary import fill
from fade.erasers.nullspace import retain_prompts
from fade.utils.hashing import fingerprint
from fade.utils.seeds import named_seed

USED, MEASURED, TRAINED, ERASED = "used", "measured", "trained", "erased"
"""Groups of concepts: `KeptConcepts`; and those that a release erases."""
NULL, NEIGHBOURS, CONCEPTS, LANGUAGE = "null", "neighbours", "concepts", "language"
"""Sides of what must stay; each counts as much as any other."""


@dataclass(frozen=True)
class KeptConcepts:
    """The concepts that a release does not erase, in vocabulary order."""

    used: tuple[str, ...]
    """Those that the release may use; the trained ones are among them."""
    measured: tuple[str, ...]
    """Those that no training and no release uses."""
    trained: tuple[str, ...] = ()
    """Of the measured third, those that a champion was trained on."""

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        erased: Collection[str],
        neighbours: Collection[str],
        config: ReleaseConfig,
    ) -> Self:
        """Split the vocabulary ``names``. neighbours: what the champions' trainings kept."""
        order = sorted(names, key=lambda name: (named_seed(config.seed, "kept", name), name))
        first = order[: len(order) // config.measured_one_in]
        kept = [name for name in names if name not in erased]
        apart = [name for name in kept if any(_holds(name, one) for one in first)]
        trained = tuple(name for name in apart if any(_holds(near, name) for near in neighbours))
        measured = tuple(name for name in apart if name not in trained)
        return cls(tuple(name for name in kept if name not in measured), measured, trained)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        return cls(*(tuple(map(str, content[key])) for key in (USED, MEASURED, TRAINED)))

    def to_json(self) -> dict[str, list[str]]:
        return {USED: [*self.used], MEASURED: [*self.measured], TRAINED: [*self.trained]}

    def group(self, name: str) -> str:
        """USED, MEASURED or TRAINED; ERASED for a concept that is none of these."""
        if name in self.measured:
            return MEASURED
        return TRAINED if name in self.trained else USED if name in self.used else ERASED

    def sha256(self) -> str:
        return fingerprint(self.to_json())


def _holds(name: str, part: str) -> bool:
    """Whether a name is another one, or has it among its words."""
    return f" {part} " in f" {name} "


def target_prompts(concepts: Sequence[str], prompt: str, config: ReleaseConfig) -> list[str]:
    """Several ways to name each concept: the template ``prompt`` first."""
    templates = dict.fromkeys([prompt, *config.templates])
    return [fill(template, name) for name in concepts for template in templates]


def kept_prompts(
    kept: KeptConcepts,
    erased: Collection[str],
    neighbours: Collection[str],
    tokenizer: Any,
    config: ReleaseConfig,
    *,
    prompt: str,
    negative_prompt: str = "",
) -> dict[str, list[str]]:
    """Side -> its prompts, none of which names a measured or an erased concept; a side without a prompt is
    left out. neighbours: what the champions' trainings kept."""
    import torch

    near = [name for name in kept.used if name in neighbours]
    far = [name for name in kept.used if name not in neighbours]
    every = [*kept.used, *kept.measured, *erased]
    generator = torch.Generator().manual_seed(named_seed(config.seed, LANGUAGE))
    phrases = retain_prompts(tokenizer, "{concept}", config.words, every, generator)
    templates = [*dict.fromkeys([prompt, *config.templates])]
    sides = {
        NULL: [*dict.fromkeys(["", negative_prompt])],
        NEIGHBOURS: target_prompts(near, prompt, config),
        CONCEPTS: target_prompts(far, prompt, config),
        LANGUAGE: [fill(templates[i % len(templates)], phrase) for i, phrase in enumerate(phrases)],
    }
    return {side: prompts for side, prompts in sides.items() if prompts}
