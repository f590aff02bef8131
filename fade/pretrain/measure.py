"""The numbers that say whether the world is worth standing on: codec, judge, base, text geometry, styles."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fade.data.images import read_pictures
from fade.data.manifest import MANIFEST, read_manifest
from fade.data.vocabulary import fill
from fade.run.context import RunContext

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from fade.judges.classifier import Classifier

SEED = 9000  # of the base's own pictures here; no other stage draws from it
EACH = 24


def measure(
    run: RunContext, on_batch: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Everything, as one JSON object; percentages in 0..100, PSNR in dB."""
    from fade.judges.train import accuracy
    from fade.pretrain.autoencoder import psnr

    frame = read_manifest(run.root / run.params.data.images / MANIFEST)
    pixels = torch.from_numpy(read_pictures([run.root / run.params.data.images / p for p in frame["path"]]))
    held = (frame["split"] == "heldout").to_numpy(copy=True)
    names = list(frame["concept"])
    trained_concepts, heldout_concepts = (
        [n for n, h in zip(names, held, strict=True) if not h],
        [n for n, h in zip(names, held, strict=True) if h],
    )
    model = run.judge.model
    distances = psnr(run.base.vae, pixels[held])
    own = own_pictures(run, on_batch)
    return {
        "pictures": len(frame),
        "concepts": len(run.vocabulary),
        "weights_mb": sum(
            f.stat().st_size for f in (run.root / run.params.data.images).parent.rglob("*.safetensors")
        )
        / 1e6,
        "psnr_heldout": {"mean": float(distances.mean()), "min": float(distances.min()), "n": len(distances)},
        "judge": {
            "augmented_real": 100
            * float(accuracy(model, pixels[~held], trained_concepts, views=5, seed=SEED).mean()),
            "heldout_artist": 100 * float(accuracy(model, pixels[held], heldout_concepts).mean()),
        },
        "base": own,
        "styles": styles(run, frame, pixels, on_batch),
        "text_cosines": cosines(run),
        "neighbours": neighbours(run),
    }


def neighbours(run: RunContext) -> dict[str, Any]:
    """Are the mined neighbours those that a person would name? The share of the K nearest that are of the
    concept's own family.

    A family with fewer than K others counts against as many as it has; percent, over the vocabulary and by
    family."""
    from fade.mining.neighborhood import mine

    config, names = run.params.neighborhood, run.vocabulary.names
    matrix = mine(names[0], run.vocabulary, run.generator, run.encoder, config).matrix
    family = np.array([run.vocabulary.family(n) for n in names])
    return {"k": config.k, **family_share(matrix, family, config.k)}


def family_share(matrix: np.ndarray, family: np.ndarray, k: int) -> dict[str, Any]:
    """``mean`` and ``families`` of cosines (N, N) between concepts whose families are given (N,)."""
    matrix = matrix.copy()
    np.fill_diagonal(matrix, -np.inf)
    nearest = np.argsort(-matrix, axis=1, kind="stable")[:, :k]
    kin = (family[nearest] == family[:, None]).sum(1)
    others = np.array([(family == f).sum() - 1 for f in family])
    share = 100 * kin / np.minimum(others, k)
    return {
        "mean": float(share.mean()),
        "families": {str(f): float(share[family == f].mean()) for f in dict.fromkeys(family)},
    }


def own_pictures(run: RunContext, on_batch: Callable[[int, int], None]) -> dict[str, Any]:
    """How often the judge recognises what the base draws of each concept, with the default sampler."""
    prompts = {n: fill(run.params.sampler.prompt, n) for n in run.vocabulary.names}
    seeds = [SEED + i for i in range(EACH)]
    drawn = run.generator.generate(list(prompts.values()), seeds, on_batch=on_batch)
    odds = run.judge(np.concatenate([drawn[p].pixels for p in prompts.values()])).numpy()
    tops = odds.argmax(1).reshape(len(prompts), EACH)
    per = {n: 100 * float((tops[i] == run.judge.index(n)).mean()) for i, n in enumerate(prompts)}
    values = np.array(list(per.values()))
    return {
        "mean_top1": float(values.mean()),
        "share_of_concepts_at_85": 100 * float((values >= 85).mean()),
        "n_per_concept": EACH,
        "seed": SEED,
        "weakest": dict(sorted(per.items(), key=lambda item: item[1])[:10]),
        "per_concept": per,
    }


def styles(
    run: RunContext, frame: pd.DataFrame, pixels: Tensor, on_batch: Callable[[int, int], None]
) -> dict[str, Any]:
    """Does a style in the caption change the picture? The judge of styles on every concept in every style,
    one picture each.

    Its own top-1 comes from the real drawings of concepts that it never saw.
    """
    from fade.judges.classifier import Classifier
    from fade.judges.train import accuracy, heldout_concepts

    judge = Classifier(str(Path(run.local(run.params.data.judge)) / "styles"), run.base.device)
    new = (
        frame["concept"].isin(heldout_concepts(run.vocabulary.names)) & (frame["split"] == "train")
    ).to_numpy(copy=True)
    names, per = run.vocabulary.names, {}
    prompts = {s: [fill(run.params.sampler.prompt, n, s) for n in names] for s in judge.labels}
    drawn = run.generator.generate([p for some in prompts.values() for p in some], [SEED], on_batch=on_batch)
    odds = {
        style: judge(np.concatenate([drawn[p].pixels for p in some])).numpy()
        for style, some in prompts.items()
    }
    for style in odds:
        per[style] = 100 * float((odds[style].argmax(1) == judge.index(style)).mean())
    return {
        "best_pair": max(
            (_of_two(odds, judge, a, b) for a, b in itertools.combinations(odds, 2)),
            key=lambda pair: min(pair.values()),
        ),
        "judge_on_unseen_concepts": 100
        * float(accuracy(judge.model, pixels[torch.from_numpy(new)], list(frame["style"][new])).mean()),
        "unseen_drawings": int(new.sum()),
        "base_top1": per,
        "n_per_style": len(names),
        "chance": 100 / len(judge.labels),
    }


def _of_two(odds: dict[str, np.ndarray], judge: Classifier, a: str, b: str) -> dict[str, float]:
    """How often the judge prefers the style that the caption named to the other of the two, percent; chance
    is 50."""
    return {
        named: 100 * float((odds[named][:, judge.index(named)] > odds[named][:, judge.index(other)]).mean())
        for named, other in ((a, b), (b, a))
    }


def cosines(run: RunContext) -> dict[str, dict[str, float]]:
    """Mean cosine between prompts within and across families: of the token states that the UNet attends
    to."""
    names = run.vocabulary.names
    states = torch.nn.functional.normalize(
        run.base.encode([fill(run.params.sampler.prompt, n) for n in names]).flatten(1), dim=-1
    )
    matrix = (states @ states.T).cpu()
    family = np.array([run.vocabulary.family(n) for n in names])
    same = torch.from_numpy(family[:, None] == family[None, :])
    off = ~torch.eye(len(names), dtype=torch.bool)
    out = {
        f: float(matrix[torch.from_numpy((family == f)[:, None] & (family == f)[None, :]) & off].mean())
        for f in dict.fromkeys(family)
    }
    return {
        "states": {"within": float(matrix[same & off].mean()), "across": float(matrix[~same].mean())},
        "families": out,
    }
