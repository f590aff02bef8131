"""Erasing objectives, registered by name: one file a method, each a function of a noise predictor and a batch
of tensors.

A file in this folder is found by itself; it calls ``register`` once for each of its variants.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fade import erasers
from fade.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from fade.config import MethodConfig


class Predictor(Protocol):
    """Predicted noise (B, C, h, w) of noisy latents x (B, C, h, w) at timesteps t (B,) under embeddings emb
    (B, T, D)."""

    def student(self, x: Tensor, t: Tensor, emb: Tensor) -> Tensor:
        """The adapted model; carries gradients."""
        ...

    def teacher(self, x: Tensor, t: Tensor, emb: Tensor) -> Tensor:
        """The original model: adapters off, no gradient."""
        ...


@dataclass(frozen=True)
class ErasureBatch:
    """One step's noisy latents and prompt embeddings."""

    x: Tensor
    """(n_t, C, h, w) noisy latents of the target concept's pictures."""
    t: Tensor
    """(n_t,) their timesteps."""
    x_adj: Tensor
    """(n_a, C, h, w) noisy latents of the neighbours' pictures."""
    t_adj: Tensor
    """(n_a,) their timesteps."""
    target: Tensor
    """(1, T, D) the target's prompt, e."""
    null: Tensor
    """(1, T, D) the null prompt."""
    neighbours: Tensor
    """(K, T, D) the neighbours' prompts, a_i."""
    which: Tensor
    """(n_a,) the neighbour that each latent of x_adj shows."""
    replacement: Tensor
    """(1, T, D) the prompt of what takes the target's place; the null prompt when nothing does."""
    random: Tensor
    """(n_t, T, D) random embeddings of the prompts' scale, one a latent of x; (0, T, D) for a method that
    asks for none."""
    language: Tensor
    """(W, T, D) prompts of random words, for language at large; (0, T, D) for a method that asks for none."""
    phrasings: Tensor
    """(P, T, D) several ways to say the target; the target's prompt is the first, and the only one for a
    method that asks for none."""


Loss = Callable[[Predictor, ErasureBatch, "MethodConfig"], "tuple[Tensor, dict[str, Tensor]]"]
"""The loss, a scalar that carries gradients, and its unweighted terms by name (detached scalars)."""
Solve = Callable[["Mapping[str, Tensor]", "Sequence[ErasureBatch]", "MethodConfig"], "dict[str, Tensor]"]
"""The change (out, in) of each weight (out, in), by layer; one batch a target."""
Space = Callable[["Sequence[ErasureBatch]", int, "MethodConfig"], "Tensor"]
"""The rows (rank, D) to which the down projections of an adapter of this rank are fixed; one batch a
target."""


@dataclass(frozen=True)
class Method:
    """A registered objective."""

    name: str
    variant: str
    source: str
    """Where the objective comes from, and what of it is ours."""
    needs_neighbours: bool
    """Whether the loss is undefined without neighbours (K = 0)."""
    loss: Loss | None = None
    """What the training loop minimises."""
    solve: Solve | None = None
    """Instead of a loss: the change of every weight in closed form."""
    ramp: bool = False
    """The learning rate is one linear ramp over all steps, whatever train.warmup says."""
    recipe: tuple[str, ...] = ()
    """``--set`` overrides under which its authors ran it; for comparisons."""
    settings: tuple[str, ...] = ()
    """``--set`` overrides that define the method (what it trains): they hold unless the user sets the same
    key."""
    takes_replacement: bool = False
    """Whether method.replacement means anything to it."""
    takes_anchors: bool = False
    """Whether FADE's neighbours may be added as anchors (method.anchors), the fair control of a method that
    has none."""
    needs_random: bool = False
    """Whether the loss reads Batch.random."""
    needs_language: bool = False
    """Whether the space reads Batch.language and Batch.phrasings."""
    space: Space | None = None
    """Beside a loss: fixes the down projections, so that only the up projections are trained."""


_METHODS: dict[tuple[str, str], Method] = {}


def register(method: Method) -> Method:
    """Add a method. Raises UsageError when its name and variant are taken by another, or it has not just one
    of loss and solve."""
    key = (method.name, method.variant)
    if (method.loss is None) == (method.solve is None):
        raise UsageError(
            f"method {method.name} needs a loss or a closed form.",
            stage="methods",
            action="give it one of the two.",
        )
    if _METHODS.get(key, method) != method:
        raise UsageError(
            f"method {method.name} ({method.variant}) is registered twice.",
            stage="methods",
            action="rename one.",
        )
    _METHODS[key] = method
    return method


def known_methods() -> dict[str, list[str]]:
    """Registered names, sorted, and their variants, the one that a bare name means first."""
    for module in pkgutil.iter_modules(erasers.__path__):
        importlib.import_module(f"{erasers.__name__}.{module.name}")
    out: dict[str, list[str]] = {}
    for name, variant in _METHODS:
        out.setdefault(name, []).append(variant)
    return dict(sorted(out.items()))


def with_anchors(loss: Loss) -> Loss:
    """``loss`` plus FADE's adjacency term, adjacency_weight * mean_i ||eps(x_i,a_i) - eps0(x_i,a_i)||^2: the
    fair control."""

    def anchored(
        eps: Predictor, batch: ErasureBatch, config: MethodConfig
    ) -> tuple[Tensor, dict[str, Tensor]]:
        total, terms = loss(eps, batch, config)
        emb = batch.neighbours[batch.which]
        l_adj = (
            (eps.student(batch.x_adj, batch.t_adj, emb) - eps.teacher(batch.x_adj, batch.t_adj, emb)) ** 2
        ).mean()
        return total + config.adjacency_weight * l_adj, {**terms, "adjacency": l_adj.detach()}

    return anchored


def variants_of(name: str) -> list[str]:
    """Its variants, the one that the bare name means first. Raises UnknownNameError that offers the nearest
    name."""
    known = known_methods()
    if name not in known:
        raise UnknownNameError("method", name, known, stage="method.name")
    return known[name]


def get_method(name: str, variant: str) -> Method:
    """The registered method. Raises UnknownNameError that offers the nearest name or variant."""
    if variant not in (known := variants_of(name)):
        raise UnknownNameError("variant", variant, known, stage=f"method.variant of {name}")
    return _METHODS[(name, variant)]
