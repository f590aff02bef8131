"""Attempts to bring an erased concept back, registered by name: one file of this folder an attack.

An attack runs under three conditions with the same budget: on the ``erased`` model; on the ``base`` itself,
which shows how much it can bring back at all (the ceiling); and as a ``control`` on the erased model with
another concept's material, which shows how often it hits the target without knowing anything of it (the
floor).

The token search and relearning are held out: no training or tuning uses them or their like. The eraser
``adversarial`` searches embeddings, as inversion does, and has the real pictures that ``noised`` starts
from."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fade.data.vocabulary import fill
from fade.errors import UnknownNameError, UsageError
from fade.utils.seeds import consecutive_seeds

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from fade.config import AttackConfig, SamplerConfig
    from fade.evaluation.attacks.material import Material
    from fade.judges.classifier import Classifier
    from fade.models.base import DiffusionModel
    from fade.models.conditioning import Conditioning


@dataclass(frozen=True)
class AttackContext:
    """The model under attack, and what the attacker has."""

    base: DiffusionModel
    """Its UNet is attacked as it is now: an adapter merged, active, or off."""
    judge: Classifier
    sampler: SamplerConfig
    config: AttackConfig
    material: Material
    concept: str
    """Whose pictures and prompt the attacker uses: the target, or the control concept; the target is
    judged."""
    at_once: int | None = None
    """Latents of a step with gradients that go through the denoiser at once; None: all."""
    checkpointing: bool = False
    """Whether the denoiser recomputes its blocks' activations in the backward pass."""

    adapter: str = ""
    """sha256 of the adapter in the UNet, "" for the original model."""

    @property
    def prompt(self) -> str:
        return fill(self.sampler.prompt, self.concept)

    @property
    def pictures(self) -> Tensor:
        """(m, C, h, w) clean latents of real pictures of the concept, on the model's device."""
        return self.material.pictures[self.concept].to(self.base.device)

    @property
    def seeds(self) -> list[int]:
        """One a judged picture, the same in every condition."""
        return consecutive_seeds(self.config.seed, self.config.images)

    def hits(self, latents: Tensor) -> np.ndarray:
        """True (n,) where the judge calls the decoded picture the target, and where the erased model's is of
        one colour: a picture of nothing shows no erased concept. latents: clean (n, C, h, w).

        Raises BaseModelError, AdapterError for latents that are not finite, and for pictures of which half
        are of one colour."""
        from fade.evaluation.accuracy import top1
        from fade.generation.picture_checks import decode_checked, flat

        pixels = decode_checked(self.base, latents, self.prompt, "attack", self.adapter)
        shown = top1(self.judge(pixels).numpy(), self.judge.index(self.material.target))
        return shown | flat(pixels) if self.adapter else shown


@dataclass(frozen=True)
class AttackResult:
    """What an attack brought back."""

    hits: np.ndarray
    """(n,) whether each judged picture shows the target."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else the attack measured; goes into JSON."""


@dataclass(frozen=True)
class Attack:
    """A registered attack."""

    name: str
    source: str
    """Where it comes from, and what of it is ours."""
    run: Callable[[AttackContext], AttackResult]
    """Leaves the model as it was, to the byte."""
    held_out: bool = False
    """Whether no training and no choice of settings may use it or its like: what an eraser that is trained
    against attacks withstands beyond those."""
    trained: Callable[[DiffusionModel, Conditioning], Sequence[Tensor]] | None = None
    """Of a model and a prompt's conditioning, the tensors that a step takes gradients of; None: the attack
    takes none."""


_ATTACKS: dict[str, Attack] = {}


def register(attack: Attack) -> Attack:
    """Add an attack. Raises UsageError when its name is taken by another."""
    if _ATTACKS.get(attack.name, attack) != attack:
        raise UsageError(f"attack {attack.name} is registered twice.", stage="attack", action="rename one.")
    _ATTACKS[attack.name] = attack
    return attack


def known_attacks() -> list[str]:
    """Registered names, sorted."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(_ATTACKS)


def get_attack(name: str) -> Attack:
    """The registered attack. Raises UnknownNameError that offers the nearest name."""
    if name not in (known := known_attacks()):
        raise UnknownNameError("attack", name, known, stage="attack.names")
    return _ATTACKS[name]
