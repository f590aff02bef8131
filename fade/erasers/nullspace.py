"""Erasure in the null space of what must stay, from FADE's Concept Neighborhood and All but One's demand
(arXiv 2503.19783, 2312.12807); what is ours of it, and what is not, stands below.

FADE names what must survive, its mined neighbours; All but One wants the target's guidance term changed and
the unconditional score left alone. Both are penalties there. Here they are a space: the adapter sits on the
cross-attention's keys and values, all that the text enters by, and its down projection is fixed to the
directions a of the text space to which the target's token states c answer and those of what must stay do not:

    a = argmax  sum_{c in target} (a.c)^2 / [sum_{c in kept} (a.c)^2 + ridge |a|^2]

the leading generalised eigenvectors of the two second moments. Kept are the null prompt and the neighbours'
prompts on one side, random words and pairs of words of the tokenizer's vocabulary on the other, for all that
nobody thought of. Since the update is up (a.c), a prompt with a.c = 0 gets the original model's keys and
values, whatever is trained; only up is, on FADE's own

    L = lam_er max(0, mean_i ||eps(x,e) - eps0(x,a_i)||^2 - ||eps(x,e) - eps0(x,e)||^2 + delta) + lam_guid
    ||eps(x,e) - eps0(x,"")||^2

without its L_adj: the space holds what that penalty would. No step needs a neighbour's picture, and only the
target's latents go through the student.

Variants leave one part out each: ``words`` and ``neighbours`` one of the two sides of what is kept, ``free``
the space (the down projection is trained), ``untrained`` the training (both projections in closed form), and
``guidance`` puts ESD's negative guidance in the place of FADE's loss.

Prior art. Erasing in the null space of what must stay is SPEED's (2503.07392), ACE's (2503.08116) and Double
Projections' (2604.10032), after AlphaEdit (2410.02355); UCE and RECE are its soft form; close to it are CURE
(2505.12677), AdaVD (2412.06143), GLoCE (2503.12356) and LEACE (2306.03819). ReGLU (2604.17396) sets a LoRA's
down projection to a discriminative subspace and then trains; NLCE (2603.25994) keeps neighbourhoods without
training. CPE (2506.22806) proves that linear updates of cross-attention cannot keep diverse remaining
concepts. Ours is the combination: mined neighbours and words of the vocabulary as the kept moment, ridge
generalised eigenvectors as a fixed down projection, FADE's hinge for the up projection."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from fade.data.vocabulary import fill
from fade.erasers import esd
from fade.erasers.base import KEYS_VALUES, Eraser, register
from fade.erasers.fade import Attenuation
from fade.errors import TrainingError
from fade.models.capabilities import NULL_PROMPT
from fade.utils.seeds import named_seed

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from fade.erasers.base import ErasureBatch, Extras, Loss, Predictor, Preparation, Space


DIRECTIONS = 2
"""Rows of the space for each target where no training uses mesh.rank (`untrained`)."""
TARGET_TEMPLATES = ("{concept}", "a picture of a {concept}", "two {concept}")
"""Ways to name the target, beside the prompt's own. None of them is an indirect prompt that is judged."""


class Config(Attenuation, esd.Config):
    """FADE's and ESD's knobs, and those of the space."""

    words: Annotated[int, Field(ge=0)] = 400
    """How many words of the tokenizer's vocabulary, and as many pairs of them, are kept."""
    ridge: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.003
    """How far the space may be from the very null space, in shares of the kept moment's mean eigenvalue."""


def words_of(vocabulary: Iterable[str]) -> list[str]:
    """Whole words of the vocabulary of CLIP's byte-pair tokenizer, sorted: three ASCII letters or more."""
    words = (token.removesuffix("</w>") for token in vocabulary if token.endswith("</w>"))
    return sorted(word for word in words if len(word) >= 3 and word.isascii() and word.isalpha())


def retain_prompts(
    tokenizer: Any, prompt: str, n: int, left_out: Collection[str], generator: torch.Generator
) -> list[str]:
    """Up to ``n`` words and ``n`` pairs of words, by ``generator``, in the template ``prompt``: language at
    large. None of them is one of the names ``left_out`` (any case)."""
    import torch

    names = {name.lower() for name in left_out}
    words = [word for word in words_of(tokenizer.get_vocab()) if word not in names]
    if not words:
        return []
    order = torch.randperm(len(words), generator=generator).tolist()
    pairs = torch.randint(len(words), (n, 2), generator=generator).tolist()
    phrases = [*(words[i] for i in order[:n]), *(f"{words[i]} {words[j]}" for i, j in pairs)]
    return [fill(prompt, phrase) for phrase in phrases if phrase not in names]


def prepare(target: Preparation, config: Config) -> Extras:
    """``language``: prompts of random words, for language at large. ``phrasings``: several ways to name the
    target, its own prompt first."""
    import torch

    generator = torch.Generator().manual_seed(named_seed(target.seed, "language"))
    excluded = {*target.heldout, target.target}
    words = retain_prompts(target.model.tokenizer, target.prompt, config.words, excluded, generator)
    language = target.model.encode(words) if words else target.conditioning[:0]
    templates = [fill(template, target.target) for template in TARGET_TEMPLATES]
    phrasings = target.conditioning.join(target.model.encode(templates))
    return lambda _: {"language": language, "phrasings": phrasings}


def attenuation(eps: Predictor, batch: ErasureBatch, config: Config) -> tuple[Tensor, dict[str, Tensor]]:
    """FADE's L_er and L_guid. One student call (n_t latents) and one teacher call (n_t (K + 2))."""
    import torch

    n_t, prompts = len(batch.x), batch.target.join(batch.null, batch.neighbours)  # K + 2
    x, t = batch.x.repeat(len(prompts), 1, 1, 1), batch.t.repeat(len(prompts))
    old, null, *positives = eps.teacher(x, t, prompts.repeat_interleave(n_t)).split(n_t)
    anchor = eps.student(batch.x, batch.t, batch.target.expand(n_t))
    pull = ((anchor[None] - torch.stack(positives)) ** 2).mean()  # mean over neighbours, latents and elements
    push = ((anchor - old) ** 2).mean()
    l_er = (pull - push + config.margin).clamp_min(0)
    l_guid = ((anchor - null) ** 2).mean()
    return config.erase_weight * l_er + config.guidance_weight * l_guid, {
        "erase": l_er.detach(),
        "guidance": l_guid.detach(),
    }


def space(
    batches: Sequence[ErasureBatch], rank: int, config: Config, *, words: bool = True, neighbours: bool = True
) -> Tensor:
    """Rows of the LoRA down projection, (rank, D) float32: eigenvectors of (target moment, retained
    moment + ridge), generalised, solved in float64; several targets share the rank.

    A target's first row has unit RMS response on the target's tokens; each further row responds to the
    retained prompts no more than the first does, so a direction that separates the target less is shorter.
    ``words``, ``neighbours``: whether those prompts are retained; the null prompt always is.
    ``method.ridge``, in shares of the retained moment's mean eigenvalue: a larger one gives shorter rows and
    a weaker separation. Raises TrainingError when the rank is lower than the number of targets."""
    import torch

    if rank < len(batches):
        action = f"set mesh.rank and mesh.alpha to {len(batches)}."
        what = f"mesh.rank {rank} is too low for {len(batches)} targets."
        raise TrainingError(what, stage="train", action=action)
    rows = []
    for i, batch in enumerate(batches):
        share = rank // len(batches) + (i < rank % len(batches))
        phrasings = batch.extra["phrasings"].tokens
        fixed = kept_moment(batch, words=words, neighbours=neighbours)
        half = torch.linalg.inv(torch.linalg.cholesky(_with_ridge(fixed, config)))
        _, vectors = torch.linalg.eigh(half @ _moment(phrasings) @ half.T)  # ascending
        leading = vectors.flip(1)[:, :share].T @ half  # (share, D)
        leading = leading / (phrasings.double().flatten(0, 1) @ leading[0]).square().mean().sqrt()
        largest = leading.gather(1, leading.abs().argmax(1, keepdim=True))
        # An eigenvector's sign is free: it is fixed, so that the same job gives the same bytes.
        rows.append(leading * largest.sign())
    return torch.cat(rows).float()


def untrained(
    weights: Mapping[str, Tensor], batches: Sequence[ErasureBatch], config: Config
) -> dict[str, Tensor]:
    """The change (out, in) of each weight (out, in) without a training: the rows A of `space`, and the up
    projection B that leads the target's token states c to those of the null prompt at the same places,

        min_B  mean_c ||(W + B A) c - W c_null||^2 + mean_{c kept} ||B A c||^2 + ridge |B A|^2

    solved in float64: UCE's soft form inside the space."""
    import torch

    rows = space(batches, DIRECTIONS * len(batches), config).double()  # (r, D)
    phrasings = [batch.extra["phrasings"].tokens for batch in batches]  # (M, T, D)
    goals = [batch.null.tokens.expand_as(c) for batch, c in zip(batches, phrasings, strict=True)]
    states, goal = (torch.cat(some).double().flatten(0, 1) for some in (phrasings, goals))
    reach = states @ rows.T  # (N, r)
    moments = [_with_ridge(kept_moment(batch), config) for batch in batches]
    kept = torch.stack([rows @ moment @ rows.T for moment in moments]).mean(0)
    up = torch.linalg.solve(reach.T @ reach / len(reach) + kept, reach.T @ (goal - states) / len(reach))
    change = up.T @ rows  # (D, D): B A = W up^T A
    return {name: (weight.double() @ change).to(weight.dtype) for name, weight in weights.items()}


def kept_moment(batch: ErasureBatch, *, words: bool = True, neighbours: bool = True) -> Tensor:
    """Second moment (D, D), float64, of the token states that must stay: the mean of the null prompt's and
    the neighbours', and of the words'. ``words``, ``neighbours``: whether those are kept."""
    import torch

    language = batch.extra["language"].tokens
    sides = [(batch.null.join(batch.neighbours) if neighbours else batch.null).tokens]
    sides += [language] if words and len(language) else []
    return torch.stack([_moment(side) for side in sides]).mean(0)


def _with_ridge(moment: Tensor, config: Config) -> Tensor:
    """The moment (D, D) plus ``method.ridge`` of its mean eigenvalue in every direction."""
    import torch

    eye = torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    return moment + config.ridge * moment.trace() / len(moment) * eye


def _moment(states: Tensor) -> Tensor:
    """Second moment (D, D), float64, of token states (N, T, D)."""
    flat = states.double().flatten(0, 1)
    return flat.T @ flat / len(flat)


_SOURCE = (
    "ours is the combination of FADE's neighbourhood and loss (2503.19783), All but One's untouched "
    "unconditional score (2312.12807), and edits in the null space of what must stay (SPEED 2503.07392, ACE "
    "2503.08116, after AlphaEdit 2410.02355) by a fixed LoRA subspace (cf. ReGLU 2604.17396)"
)
_SETTINGS = (
    KEYS_VALUES, "mesh.rank=2", "mesh.alpha=2", "train.lr=0.02", "train.steps=100", "train.weight_decay=0.2",
    "train.batch_target=4",
)  # fmt: skip
_PARTS: dict[str, tuple[Loss, Space | None]] = {
    "hinge": (attenuation, space),
    "guidance": (esd.esd, space),
    "words": (attenuation, partial(space, neighbours=False)),
    "neighbours": (attenuation, partial(space, words=False)),
    "free": (attenuation, None),
}
for _variant, (_loss, _rows) in _PARTS.items():
    register(
        Eraser(
            "nullspace",
            _variant,
            _SOURCE,
            Config,
            _loss,
            requires=(NULL_PROMPT,),
            space=_rows,
            prepare=prepare if _rows else None,
            requires_neighbours=True,
            requires_heldout=_rows is not None,
            settings=_SETTINGS,
        )
    )
register(
    Eraser(
        "nullspace",
        "untrained",
        f"{_SOURCE}; without its training",
        Config,
        solve=untrained,
        requires=(NULL_PROMPT,),
        prepare=prepare,
        requires_neighbours=True,
        requires_heldout=True,
        settings=(KEYS_VALUES, "mesh.rank=8", "mesh.alpha=8"),
    )
)
