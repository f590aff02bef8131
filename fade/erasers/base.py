"""What an eraser is: an objective with its knobs, registered by name and variant.

To add one, write ``fade/erasers/NAME.py``: a ``Config`` with its knobs, its loss (or closed form), and one
``register(Eraser(...))`` for each variant; and put the knobs' values under ``method`` in params.yaml."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fade.config.method import MethodConfig, MethodOptions
from fade.config.section import Weight
from fade.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fade.models.conditioning import Conditioning


KEYS_VALUES = "mesh.targets=[text]"
"""The setting of the erasers that train alone what reads the text (a role of `fade.models.base`): in a UNet
the cross-attention's keys and values."""


class ErasureWeight(MethodOptions):
    """The knob that most erasers share."""

    erase_weight: Weight = 4.0
    """lam_er: weight of the term that moves the target."""


class Predictor(Protocol):
    """Predictions (B, C, h, w) for noisy latents x (B, C, h, w) at times t (B,) under B prompts: the
    network's own output, be it noise, v or a velocity, or the noise in x according to it (train.loss_in).

    Noise read from v or a velocity is affine in it, with a term in x. So a loss holds in either when each of
    its differences is of predictions at the same x and t: the terms in x cancel."""

    def student(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The adapted model; carries gradients."""

    def teacher(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The original model: adapters off, no gradient."""

    def probe(self, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The adapted model for a search over its inputs, by `torch.autograd.grad`: it is no part of the
        step's gradients, and no other process takes part in it."""


@dataclass(frozen=True)
class ErasureBatch:
    """One step's noisy latents and prompts."""

    x: Tensor
    """(n_t, C, h, w) noisy latents of the target concept's pictures; of an eraser with `SharedLatents` n_t of
    each of their prompts, prompt by prompt."""
    t: Tensor
    """(n_t,) their times."""
    x_adj: Tensor
    """(n_a, C, h, w) noisy latents of the neighbours' pictures."""
    t_adj: Tensor
    """(n_a,) their times."""
    target: Conditioning
    """The target's prompt, e."""
    null: Conditioning
    """The null prompt."""
    neighbours: Conditioning
    """The K neighbours' prompts, a_i."""
    which: Tensor
    """(n_a,) the neighbour that each latent of x_adj shows."""
    replacement: Conditioning
    """The prompt of what takes the target's place; the null prompt when nothing does."""
    extra: Mapping[str, Conditioning] = field(default_factory=dict)
    """What the eraser's ``prepare`` adds, by name; with `SharedLatents` also ``templates`` and ``anchor``."""


@dataclass(frozen=True)
class SharedLatents:
    """The latents x of a step whose prompts share noise and time: n_t of the target, of it in other words,
    and of each neighbour, in this order; or of the target's broader concept alone."""

    by: Literal["stored", "original", "student"]
    """stored: pictures of the target and the neighbours are noised. Else a partial trajectory under each
    prompt, by the original model or by the one under training, with classifier-free guidance."""
    of: Literal["target", "family"] = "target"
    """family: of the target's broader concept, whose prompt is ``extra["anchor"]``."""
    templates: tuple[str, ...] = ()
    """The other words, with the slot {concept}: the prompts ``extra["templates"]``."""
    neighbours: bool = False
    guidance: float = 3.0
    """Of the trajectories."""
    steps: int = 30
    """Of a whole trajectory; a partial one ends after 1 to steps - 1 of them."""

    def prompts(self, k: int) -> int:
        """How many prompts have latents, with k neighbours."""
        return 1 + len(self.templates) + self.neighbours * k


class TextEncoder(Protocol):
    """What ``prepare`` may use of the model: its tokenizer and its prompt embeddings."""

    tokenizer: Any

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """The prompts' conditioning on the model's device."""

    def name_to_end(self, template: str, name: str) -> list[slice]:
        """Of each text encoder's token states: from the last token of ``name`` to the end."""


@dataclass(frozen=True)
class Preparation:
    """What an eraser's ``prepare`` gets for one target, before the first step."""

    model: TextEncoder
    prompt: str
    """Template with the slot {concept}."""
    target: str
    conditioning: Conditioning
    """The target's prompt."""
    heldout: tuple[str, ...]
    """Concepts that the evaluation tests: no prompt of the training may name them."""
    n_target: int
    """Target latents a step and process."""
    seed: int
    """Seed of the training."""
    null: Conditioning
    """The null prompt."""
    neighbours: Conditioning
    """The K neighbours' prompts."""
    names: tuple[str, ...]
    """The K neighbours."""
    replacement: str
    """The concept that takes the target's place; empty: nothing does."""
    replaced: Conditioning
    """The prompt of what takes the target's place; the null prompt when nothing does."""


Schedule = Literal["decay", "ramp", "constant"]
Extras = Callable[["torch.Generator"], "dict[str, Conditioning]"]
"""ErasureBatch.extra of one step; it samples by the step's generator, after noise and times."""
Prepare = Callable[[Preparation, Any], Extras]
"""Called once a target, with the eraser's ``Config``."""
Loss = Callable[[Predictor, ErasureBatch, Any], "tuple[Tensor, dict[str, Tensor]]"]
"""The loss, a scalar that carries gradients, and its unweighted terms by name (detached scalars)."""
Solve = Callable[["Mapping[str, Tensor]", "Sequence[ErasureBatch]", Any], "dict[str, Tensor]"]
"""The change (out, in) of each weight (out, in), by layer; one batch a target."""
Space = Callable[["Sequence[ErasureBatch]", int, Any], "Tensor"]
"""The rows (rank, D) to which an adapter's down projections are fixed; one batch a target."""


@dataclass(frozen=True)
class Eraser:
    """A registered objective. It has either a loss or a closed form."""

    name: str
    variant: str
    source: str
    """Where the objective comes from, and what of it is ours."""
    config: type[MethodOptions]
    """Its knobs, keys of the section ``method``."""
    loss: Loss | None = None
    """What the training loop minimises."""
    solve: Solve | None = None
    """Instead of a loss: the change of every weight in closed form."""
    space: Space | None = None
    """Beside a loss: fixes the down projections, so that only the up projections are trained."""
    prepare: Prepare | None = None
    """What the batches hold beyond latents and prompts."""
    requires_neighbours: bool = False
    """Whether the loss is undefined without neighbours (K = 0)."""
    requires: tuple[str, ...] = ()
    """What the model must have, of `fade.models.capabilities`."""
    requires_heldout: bool = False
    """Whether ``prepare`` must know the concepts that the evaluation tests, so as not to sample them."""
    real_pictures: bool = False
    """Whether the target's latents are also those of its training pictures in the data set."""
    accepts_replacement: bool = False
    """Whether method.replacement means anything to it."""
    accepts_anchors: bool = False
    """Whether FADE's neighbours may be added as anchors (method.anchors), the fair control."""
    schedule: Schedule = "decay"
    """Of the learning rate, see `fade.training.batches.rate`."""
    prompt: str = ""
    """Template of the training's prompts in place of sampler.prompt, with the slot {concept}."""
    latents: SharedLatents | None = None
    """How x comes about, when it is not the target's stored pictures with noise and times of their own."""
    seedless: bool = False
    """Whether every train.seed gives the same adapter: a closed form that samples no prompt."""
    gated: bool = False
    """Whether the evaluation's pictures are made with the gate of `fade.adapters.gating`."""
    recipe: tuple[str, ...] = ()
    """``--set`` overrides under which its authors ran it; for comparisons."""
    settings: tuple[str, ...] = ()
    """``--set`` overrides that define the eraser: they hold unless the user sets the same key."""
    aliases: tuple[str, ...] = ()
    """Former names of the variant, which still mean it; runs record the name that their params hold."""

    @property
    def given(self) -> str:
        """What it gets beside the target, in words."""
        neighbours = "the nearest neighbour" if self.accepts_anchors else "the neighbours"
        parts = [neighbours] if self.requires_neighbours else []
        parts += ["the family's name"] if self.latents and self.latents.of == "family" else []
        parts += ["words that name no judged concept"] if self.requires_heldout else []
        parts += ["the target's pictures in the data set"] if self.real_pictures else []
        return ", ".join(parts)

    @property
    def labels(self) -> tuple[str, ...]:
        """NAME/VARIANT, then the same by each alias."""
        return tuple(f"{self.name}/{variant}" for variant in (self.variant, *self.aliases))

    def config_of(self, method: MethodConfig) -> Any:
        """The eraser's own ``Config`` with the values of the section ``method``."""
        return self.config(**{key: getattr(method, key) for key in self.config.model_fields})


_ERASERS: dict[tuple[str, str], Eraser] = {}


def register(eraser: Eraser) -> Eraser:
    """Add an eraser and its knobs. Raises UsageError when its name and variant are taken by another, when it
    has not just one of loss and solve, or when it declares a knob otherwise than another eraser."""
    if (eraser.loss is None) == (eraser.solve is None):
        what = f"method {eraser.name} needs a loss or a closed form."
        raise UsageError(what, stage="methods", action="give it one of the two.")
    keys = [(eraser.name, variant) for variant in (eraser.variant, *eraser.aliases)]
    if any(_ERASERS.get(key, eraser) != eraser for key in keys):
        what = f"method {eraser.name} ({eraser.variant}) is registered twice."
        raise UsageError(what, stage="methods", action="rename one.")
    try:
        MethodConfig.register(eraser.config)
    except ValueError as error:
        raise UsageError(f"{error}.", stage="methods", action="rename the knob.") from None
    _ERASERS.update(dict.fromkeys(keys, eraser))
    return eraser


def known_erasers() -> dict[str, list[str]]:
    """Registered names, sorted, and their variants, the one that a bare name means first."""
    out: dict[str, list[str]] = {}
    for (name, variant), eraser in _ERASERS.items():
        if variant == eraser.variant:
            out.setdefault(name, []).append(variant)
    return dict(sorted(out.items()))


def variants_of(name: str) -> list[str]:
    """Its variants, the one that the bare name means first. Raises UnknownNameError that offers the nearest
    name."""
    if name not in (known := known_erasers()):
        raise UnknownNameError("method", name, known, stage="method.name")
    return known[name]


def get_eraser(name: str, variant: str) -> Eraser:
    """The registered eraser, by its variant or an alias. Raises UnknownNameError that offers the nearest
    name."""
    known = variants_of(name)
    if (name, variant) not in _ERASERS:
        raise UnknownNameError("variant", variant, known, stage=f"method.variant of {name}")
    return _ERASERS[name, variant]


def with_anchors(loss: Loss, weight: float) -> Loss:
    """``loss`` plus FADE's adjacency term, weight * mean_i ||eps(x_i,a_i) - eps0(x_i,a_i)||^2: the fair
    control."""

    def anchored(eps: Predictor, batch: ErasureBatch, config: Any) -> tuple[Tensor, dict[str, Tensor]]:
        total, terms = loss(eps, batch, config)
        shown = batch.neighbours[batch.which]
        new, old = (model(batch.x_adj, batch.t_adj, shown) for model in (eps.student, eps.teacher))
        l_adj = ((new - old) ** 2).mean()
        return total + weight * l_adj, {**terms, "adjacency": l_adj.detach()}

    return anchored
