"""The numbers that say whether the world is worth standing on: codec, judge, base, text geometry, styles."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fade.data.images import read_pictures
from fade.data.manifest import MANIFEST, read_manifest
from fade.data.vocabulary import fill, prompts
from fade.run.context import RunContext

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

OnBatch = Callable[[int, int], None]
SEED = 9000  # of the base's own pictures here; no other stage uses it
EACH = 24


def measure(run: RunContext, on_batch: OnBatch = lambda done, total: None) -> dict[str, Any]:
    """Everything, as one JSON object; percentages in 0..100, PSNR in dB."""
    from fade.judges.train import accuracy
    from fade.pretrain.autoencoder import psnr

    images = run.root / run.params.data.images
    frame = read_manifest(images / MANIFEST)
    pixels = torch.from_numpy(read_pictures([images / path for path in frame["path"]]))
    heldout = (frame["split"] == "heldout").to_numpy(copy=True)
    model, concepts = run.models.judge.model, frame["concept"]
    augmented = accuracy(model, pixels[~heldout], list(concepts[~heldout]), views=5, seed=SEED)
    distances = psnr(run.models.base.vae, pixels[heldout])
    own = own_pictures(run, on_batch)
    return {
        "pictures": len(frame),
        "concepts": len(run.vocabulary),
        "weights_mb": sum(f.stat().st_size for f in images.parent.rglob("*.safetensors")) / 1e6,
        "psnr_heldout": {"mean": float(distances.mean()), "min": float(distances.min()), "n": len(distances)},
        "judge": {
            "augmented_real": 100 * float(augmented.mean()),
            "heldout_artist": 100 * float(accuracy(model, pixels[heldout], list(concepts[heldout])).mean()),
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

    config = run.params.neighborhood
    matrix = mine(run.vocabulary.names[0], run.vocabulary, run.generator, run.models.encoder, config).matrix
    return {"k": config.k, **family_share(matrix, _families(run), config.k)}


def _families(run: RunContext) -> np.ndarray:
    return np.array([run.vocabulary.family(name) for name in run.vocabulary.names])


def family_share(matrix: np.ndarray, family: np.ndarray, k: int) -> dict[str, Any]:
    """``mean`` and ``families`` of cosines (N, N) between concepts whose families are given (N,)."""
    matrix = matrix.copy()
    np.fill_diagonal(matrix, -np.inf)
    nearest = np.argsort(-matrix, axis=1, kind="stable")[:, :k]
    kin = (family[nearest] == family[:, None]).sum(1)
    others = np.array([(family == f).sum() - 1 for f in family])
    share = 100 * kin / np.minimum(others, k)
    by_family = {str(f): float(share[family == f].mean()) for f in dict.fromkeys(family)}
    return {"mean": float(share.mean()), "families": by_family}


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
    texts = {style: [fill(template, n, style) for n in names] for style in judge.labels}
    pictures = run.generator.generate([t for some in texts.values() for t in some], [SEED], on_batch=on_batch)
    odds = {
        style: judge(np.concatenate([pictures[t].pixels for t in some])).numpy()
        for style, some in texts.items()
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


def cosines(run: RunContext) -> dict[str, dict[str, float]]:
    """Mean cosine of prompts' token states (what the UNet attends to) within and across families."""
    states = run.models.base.encode(prompts(run.params.sampler.prompt, run.vocabulary.names)).flatten()
    states = torch.nn.functional.normalize(states, dim=-1)
    matrix = (states @ states.T).cpu()
    family = _families(run)
    same = torch.from_numpy(family[:, None] == family[None, :])
    off = ~torch.eye(len(family), dtype=torch.bool)
    member = {f: torch.from_numpy(family == f) for f in dict.fromkeys(family)}
    return {
        "states": {"within": float(matrix[same & off].mean()), "across": float(matrix[~same].mean())},
        "families": {f: float(matrix[m[:, None] & m[None, :] & off].mean()) for f, m in member.items()},
    }
