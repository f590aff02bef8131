"""The numbers that say whether a world is worth standing on: codec, judge, base, text geometry, styles."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fade.data.images import read_pictures
from fade.data.manifest import MANIFEST, read_manifest
from fade.data.vocabulary import fill, prompts
from fade.evaluation.two_things import two_things
from fade.models.sampling import sample
from fade.pretrain.captions import HELDOUT_TEMPLATES, with_article
from fade.pretrain.drawings import load_recipe
from fade.run.context import RunContext

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

OnBatch = Callable[[int, int], None]
SEED = 9000  # of the base's own pictures here; no other stage uses it
EACH = 24
PAIRS = 100
SMALLEST = 6
"""Concepts of a family whose neighbours are measured."""


def measure(run: RunContext, on_batch: OnBatch = lambda done, total: None) -> dict[str, Any]:
    """Everything, as one JSON object; percentages in 0..100, PSNR in dB."""
    from fade.judges.classifier import Classifier
    from fade.judges.train import accuracy
    from fade.pretrain.autoencoder import psnr

    images = run.root / run.params.data.images
    folder = (run.root / run.params.data.base).parent  # of this world alone, whatever it shares
    frame = read_manifest(images / MANIFEST)
    pixels = torch.from_numpy(read_pictures([images / path for path in frame["path"]]))
    heldout = (frame["split"] == "heldout").to_numpy(copy=True)
    model, concepts = run.models.judge.model, frame["concept"]
    augmented = accuracy(model, pixels[~heldout], list(concepts[~heldout]), views=5, seed=SEED)
    distances = psnr(run.models.base.vae, pixels[heldout])
    own = own_pictures(run, on_batch)
    second = Classifier(str(Path(run.models.local(run.params.data.judge)) / "second"), run.models.base.device)
    found = second(pixels[heldout].numpy()).argmax(1).tolist()
    seconds = [second.labels[i] == name for i, name in zip(found, concepts[heldout], strict=True)]
    return {
        "pictures": len(frame),
        "concepts": len(run.vocabulary),
        "weights_mb": sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 1e6,
        "psnr_heldout": {"mean": float(distances.mean()), "min": float(distances.min()), "n": len(distances)},
        "judge": {
            "augmented_real": 100 * float(augmented.mean()),
            "heldout_artist": 100 * float(accuracy(model, pixels[heldout], list(concepts[heldout])).mean()),
            "second_heldout_artist": 100 * float(np.mean(seconds)),
            "heldout_drawings": int(heldout.sum()),
        },
        "base": own,
        "styles": styles(run, frame, pixels, on_batch),
        "text_cosines": cosines(run),
        "pairs": pairs(run, on_batch),
        "sentences": sentences(run, on_batch),
        "neighbours": neighbours(run, load_recipe()["sisters"]),
    }


def neighbours(run: RunContext, sisters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Are the mined neighbours those that a person would name? The share of the K nearest, and of the K next,
    that are of the concept's own family or a sister of it.

    Over the concepts of families of SMALLEST and more; percent, and by family."""
    from fade.mining.neighborhood import mine

    config = run.params.neighborhood
    mined = mine(run.vocabulary.names[0], run.vocabulary, run.generator, run.models.encoder, config)
    matrix = mined.cosines(run.vocabulary.names)
    families = _families(run)
    nearest = family_share(matrix, families, sisters, 0, config.k)
    following = family_share(matrix, families, sisters, config.k, config.k + config.k_heldout)
    return {"k": config.k, "nearest": nearest, "next_k": config.k_heldout, "next": following}


def _families(run: RunContext) -> np.ndarray:
    return np.array([run.vocabulary.family(name) for name in run.vocabulary.names])


def family_share(
    matrix: np.ndarray, family: np.ndarray, sisters: Mapping[str, Sequence[str]], first: int, last: int
) -> dict[str, Any]:
    """``mean`` and ``families``: of cosines (N, N) between concepts of the given families (N,), the share of
    the neighbours from ``first`` to ``last`` that are kin, percent."""
    matrix = matrix.copy()
    np.fill_diagonal(matrix, -np.inf)
    order = np.argsort(-matrix, axis=1, kind="stable")[:, first:last]
    kin = {name: {name, *sisters.get(name, ())} for name in dict.fromkeys(family.tolist())}
    share = np.array(
        [np.mean([family[j] in kin[own] for j in row]) for own, row in zip(family, order, strict=True)]
    )
    large = np.array([(family == own).sum() >= SMALLEST for own in family])
    by_family = {name: 100 * float(share[family == name].mean()) for name in kin}
    return {"mean": 100 * float(share[large].mean()), "families": by_family}


def own_pictures(run: RunContext, on_batch: OnBatch) -> dict[str, Any]:
    """How often the judge recognises what the base generates of each concept, with the default sampler."""
    names = run.vocabulary.names
    texts = prompts(run.params.sampler.prompt, names)
    pictures = run.generator.generate(texts, [SEED + i for i in range(EACH)], on_batch=on_batch)
    odds = run.models.judge(np.concatenate([pictures[text].pixels for text in texts])).numpy()
    tops = odds.argmax(1).reshape(len(texts), EACH)
    per = {
        n: 100 * float((top == run.models.judge.index(n)).mean()) for n, top in zip(names, tops, strict=True)
    }
    values = np.array(list(per.values()))
    return {
        "mean_top1": float(values.mean()),
        "share_of_concepts_at_85": 100 * float((values >= 85).mean()),
        "n_per_concept": EACH,
        "seed": SEED,
        "weakest": dict(sorted(per.items(), key=lambda item: item[1])[:10]),
        "per_concept": per,
    }


def one_each(run: RunContext, texts: Sequence[str], on_batch: OnBatch) -> np.ndarray:
    """One picture of each prompt, (B, H, W, 3) uint8, every one by a seed of its own: a seed decides the
    layout, so that one alone would measure that layout."""
    seeds = [SEED + i for i in range(len(texts))]
    base = run.models.base
    return base.decode(sample(base, texts, seeds, run.params.sampler, on_batch))


def styles(run: RunContext, frame: pd.DataFrame, pixels: Tensor, on_batch: OnBatch) -> dict[str, Any]:
    """Does a style in the caption change the picture? The judge of styles on every concept in every style,
    one picture each.

    Its own top-1 comes from the real drawings of concepts that it was not trained on."""
    from fade.judges.classifier import Classifier
    from fade.judges.train import accuracy, heldout_concepts

    judge = Classifier(str(Path(run.models.local(run.params.data.judge)) / "styles"), run.models.base.device)
    names, template = run.vocabulary.names, run.params.sampler.prompt
    of_heldout = frame["concept"].isin(heldout_concepts(names))
    rows = (of_heldout & (frame["split"] == "train")).to_numpy(copy=True)
    odds = {
        style: judge(one_each(run, [fill(template, n, style) for n in names], on_batch)).numpy()
        for style in judge.labels
    }

    def preferred(named: str, other: str) -> float:
        """How often the judge prefers the style that the caption named to another, percent; chance is 50."""
        of_named, of_other = (odds[named][:, judge.index(style)] for style in (named, other))
        return 100 * float((of_named > of_other).mean())

    pairs = [{a: preferred(a, b), b: preferred(b, a)} for a, b in combinations(odds, 2)]
    real = accuracy(judge.model, pixels[torch.from_numpy(rows)], list(frame["style"][rows]))
    return {
        "best_pair": max(pairs, key=lambda pair: min(pair.values())),
        "judge_on_unseen_concepts": 100 * float(real.mean()),
        "unseen_drawings": int(rows.sum()),
        "base_top1": {s: 100 * float((o.argmax(1) == judge.index(s)).mean()) for s, o in odds.items()},
        "n_per_style": len(names),
        "chance": 100 / len(judge.labels),
    }


def pairs(run: RunContext, on_batch: OnBatch) -> dict[str, Any]:
    """ "a X and a Y": how often the judge recognises both, one in each of the picture's two things.

    PAIRS pairs of different concepts by a fixed seed, one picture each.
    ``in_order``: X is the left or the upper one, as the captions of the training have it for "and"."""
    rng = np.random.default_rng(SEED)
    chosen = [rng.choice(len(run.vocabulary), 2, replace=False) for _ in range(PAIRS)]
    names = [[run.vocabulary.names[i] for i in pair] for pair in chosen]
    texts = [f"{with_article(x)} and {with_article(y)}" for x, y in names]
    judge = run.models.judge
    crops = np.stack([crop for pixels in one_each(run, texts, on_batch) for crop in two_things(pixels)])
    found = judge(crops).numpy().argmax(1).reshape(PAIRS, 2)
    expected = np.array([[judge.index(name) for name in pair] for pair in names])
    in_order = (found == expected).all(1)
    both = in_order | (found == expected[:, ::-1]).all(1)
    one = (found[:, :, None] == expected[:, None]).any((1, 2))
    return {
        "both": 100 * float(both.mean()),
        "in_order": 100 * float(in_order.mean()),
        "at_least_one": 100 * float(one.mean()),
        "n": PAIRS,
        "seed": SEED,
        "missed": [texts[i] for i in np.flatnonzero(~both)][:10],
    }


def sentences(run: RunContext, on_batch: OnBatch) -> dict[str, Any]:
    """How often the judge recognises a name within a sentence that no training had: every concept in each of
    HELDOUT_TEMPLATES, one picture each; percent."""
    names, judge = run.vocabulary.names, run.models.judge
    expected, per = [judge.index(name) for name in names], {}
    for template in HELDOUT_TEMPLATES:
        odds = judge(one_each(run, [fill(template, name) for name in names], on_batch)).numpy()
        per[template] = 100 * float((odds.argmax(1) == expected).mean())
    return {"mean": float(np.mean([*per.values()])), "per_sentence": per, "n_per_sentence": len(names)}


def cosines(run: RunContext) -> dict[str, Any]:
    """Mean cosine of prompts' token states (what the denoiser attends to) within families, across them, and
    across them between names that share a word ("red heart", "red apple")."""
    names, family = run.vocabulary.names, _families(run)
    states = run.models.base.encode(prompts(run.params.sampler.prompt, names)).flatten()
    states = torch.nn.functional.normalize(states, dim=-1)
    matrix = (states @ states.T).cpu().numpy()
    words = [set(name.split()) for name in names]
    same = family[:, None] == family[None, :]
    shared = np.array([[bool(a & b) for b in words] for a in words]) & ~same
    off = ~np.eye(len(family), dtype=bool)
    kinds = {"across": ~same, "across_with_a_shared_word": shared, "within": same & off}
    member = {name: same & off & (family == name)[:, None] for name in dict.fromkeys(family.tolist())}
    return {
        "states": {key: float(matrix[rows].mean()) if rows.any() else None for key, rows in kinds.items()},
        "families": {name: float(matrix[rows].mean()) for name, rows in member.items()},
    }
