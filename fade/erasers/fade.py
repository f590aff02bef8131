"""FADE, Fine-grained Attenuation for Diffusion Erasure (CVPR 2025, arXiv 2503.19783).

    L_er   = max(0, mean_i ||eps(x,e) - eps0(x,a_i)||^2 - mean ||eps(x,e) - eps0(x,e)||^2 + delta)
    L_guid = ||eps(x,e) - eps0(x,"")||^2
    L_adj  = mean_i ||eps(x_i,a_i) - eps0(x_i,a_i)||^2
    L      = lam_er L_er + lam_adj L_adj + lam_guid L_guid

eps is the adapted model, eps0 the original, e the target's prompt, a_i its K neighbours'. The target is
pulled to its neighbours and to the null prompt and pushed from its old self; the neighbours stay where they
were.

Ours, because it is not published: positives and negatives are taken at the anchor's own x_t, over all K
neighbours; ||.||^2 is the mean over a latent's elements, so that weights and margin do not depend on the
picture's size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fade.config.section import Weight
from fade.erasers.base import (
    Eraser,
    ErasureBatch,
    ErasureWeight,
    Predictor,
    SharedLatents,
    register,
)
from fade.models.capabilities import NULL_PROMPT

if TYPE_CHECKING:
    from torch import Tensor


class Attenuation(ErasureWeight):
    """The knobs of L_er and L_guid."""

    guidance_weight: Weight = 1.0
    """lam_guid."""
    margin: Weight = 0.5
    """delta: how much farther from its old self than from its neighbours the target must come."""


class Config(Attenuation):
    """FADE's knobs."""

    adjacency_weight: Weight = 50.0
    """lam_adj."""


TEMPLATES = ("a photo of a {concept}", "a picture of a {concept}", "an image of a {concept}")
"""The released hinge's three negatives; which words its authors use is not known: these are ours."""


def paper(eps: Predictor, batch: ErasureBatch, config: Config) -> tuple[Tensor, dict[str, Tensor]]:
    """The paper form. One student call (n_t + n_a latents) and one teacher call (n_t (K + 2) + n_a)."""
    anchor, kept = _student(eps, batch)  # (n_t, C, h, w), (n_a, C, h, w)
    old, null, positives, old_adj = _teacher(eps, batch)
    pull = ((anchor[None] - positives) ** 2).mean()  # mean over neighbours, latents and elements
    push = ((anchor - old) ** 2).mean()
    l_er = (pull - push + config.margin).clamp_min(0)
    l_guid = ((anchor - null) ** 2).mean()
    l_adj = ((kept - old_adj) ** 2).mean()
    return _total(l_er, l_adj, l_guid, config)


def official(eps: Predictor, batch: ErasureBatch, config: Config) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of the authors' code, from its description alone, on the latents x_e of the target, x_k of it
    in three other words e_k, and x_i of the K neighbours, which share noise and time:

        L_er   = max(0, sum_i |eps(x_e,e) - eps0(x_i,a_i)| - sum_k |eps(x_e,e) - eps0(x_k,e_k)| + delta)
        L_guid = ||eps(x_e,e) - eps0(x_e,"")||^2
        L_adj  = sum_i ||eps(x_i,a_i) - eps0(x_i,a_i)||^2

    |.| is the unsquared L2 norm over the last axis, its mean over the others: the hinge's alone. One student
    call (n_t (K + 1) latents) and one teacher call (n_t (K + 4)). Ours, where the description is silent: one
    hinge a batch."""
    import torch

    k, m = len(batch.neighbours), len(TEMPLATES)
    n = len(batch.x) // (1 + m + k)
    parts, e = [n, (1 + m) * n], batch.target.expand(n)
    (x_e, _, x_i), (t_e, _, t_i) = batch.x.tensor_split(parts), batch.t.tensor_split(parts)
    a_i, e_k = batch.neighbours.repeat_interleave(n), batch.extra["templates"].repeat_interleave(n)
    anchor, kept = eps.student(torch.cat([x_e, x_i]), torch.cat([t_e, t_i]), e.join(a_i)).tensor_split([n])
    prompts = batch.null.expand(n).join(e_k, a_i)
    null, negatives, positives = eps.teacher(batch.x, batch.t, prompts).tensor_split(parts)
    pull = torch.stack([_distance(anchor, positive) for positive in positives.split(n)]).sum()
    push = torch.stack([_distance(anchor, negative) for negative in negatives.split(n)]).sum()
    l_er = (pull - push + config.margin).clamp_min(0)
    l_guid = ((anchor - null) ** 2).mean()
    l_adj = k * ((kept - positives) ** 2).mean()
    return _total(l_er, l_adj, l_guid, config)


def _student(eps: Predictor, batch: ErasureBatch) -> tuple[Tensor, Tensor]:
    """eps(x, e) and eps(x_i, a_i) in one call."""
    import torch

    n_t = len(batch.x)
    x, t = torch.cat([batch.x, batch.x_adj]), torch.cat([batch.t, batch.t_adj])
    prompts = batch.target.expand(n_t).join(batch.neighbours[batch.which])
    anchor, kept = eps.student(x, t, prompts).tensor_split([n_t])
    return anchor, kept


def _teacher(eps: Predictor, batch: ErasureBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """eps0(x, e), eps0(x, ""), eps0(x, a_i) as (K, n_t, C, h, w), and eps0(x_i, a_i), in one call."""
    import torch

    n_t, k = len(batch.x), len(batch.neighbours)
    x = torch.cat([*([batch.x] * (k + 2)), batch.x_adj])
    t = torch.cat([*([batch.t] * (k + 2)), batch.t_adj])
    prompts = batch.target.join(batch.null, batch.neighbours).repeat_interleave(n_t)
    out = eps.teacher(x, t, prompts.join(batch.neighbours[batch.which]))
    old, null, positives, old_adj = out.tensor_split([n_t, 2 * n_t, (k + 2) * n_t])
    return old, null, positives.view(k, n_t, *batch.x.shape[1:]), old_adj


def _total(l_er: Tensor, l_adj: Tensor, l_guid: Tensor, config: Config) -> tuple[Tensor, dict[str, Tensor]]:
    loss = config.erase_weight * l_er + config.adjacency_weight * l_adj + config.guidance_weight * l_guid
    return loss, {"erase": l_er.detach(), "adjacency": l_adj.detach(), "guidance": l_guid.detach()}


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Unsquared L2 over the last axis, mean over the others. Its gradient at a = b is taken as 0 (that of
    sqrt is not finite)."""
    import torch

    distance: Tensor = torch.linalg.vector_norm(a - b, dim=-1).mean()
    return distance


_PAPER = "arXiv 2503.19783; latents of the hinge's terms and the elementwise mean are ours"
_OFFICIAL = (
    "the authors' released recipe, re-implemented from its description; the words of three templates, the "
    "model's own size, AdamW in float32 instead of 8 bit"
)
_LATENTS = {
    "official": (
        SharedLatents("stored", templates=TEMPLATES, neighbours=True),
        f"{_OFFICIAL}, and noised stored pictures instead of partial trajectories, are ours",
    ),
    "official-sampled": (
        SharedLatents("student", templates=TEMPLATES, neighbours=True),
        f"{_OFFICIAL} are ours",
    ),
}
_RECIPE = (
    "mesh.rank=1", "mesh.alpha=1", "method.erase_weight=3", "method.adjacency_weight=50",
    "method.guidance_weight=1000", "method.margin=1.0", "train.lr=0.0001", "train.steps=500",
    "train.warmup=500", "train.batch_target=4",
    "train.weight_decay=0.01",  # AdamW's own default: the authors' code names none
    "train.max_grad_norm=1000000",
)  # fmt: skip
register(Eraser("fade", "paper", _PAPER, Config, paper, requires=(NULL_PROMPT,), requires_neighbours=True))
for _variant, (_latents, _source) in _LATENTS.items():
    register(
        Eraser(
            "fade",
            _variant,
            _source,
            Config,
            official,
            requires=(NULL_PROMPT,),
            requires_neighbours=True,
            schedule="ramp",
            recipe=_RECIPE,
            prompt="{concept}",  # bare names
            latents=_latents,
            aliases=("release",) if _variant == "official" else (),
        )
    )
