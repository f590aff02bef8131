"""The world's touchstone: a literal ESD-x, trained until its target is gone, must hurt the neighbours of
tight families.

ESD-x (Gandikota et al. 2023, arXiv 2303.07345): only cross-attention is trained, on MSE(eps(x_t, e), eps0("")
- eta [eps0(e) - eps0("")]) with eta = 1, one sample a step; x_t comes from sampling the target with the model
under training, guidance 3, to a random step. Nothing here is tuned on what it reports. The rate is carried
over by one rule: ESD's 2025 setting (5e-5) is half the rate that its base was trained with (1e-4); half of
ours (UNets 2e-3, transformer 1e-3) is 1e-3 and 5e-4. ESD's 2023 setting (1e-5) gives a fifth of these by the
same rule (--lr 2e-4 for a UNet). Training goes on in rounds of a few steps, so that it does not overshoot,
until the judge sees the target in at most 5 % of its pictures.

Of every family: eps is the network's own output (noise, v, or a flow's velocity), in which the target is
linear; x_t comes from DDIM on the base's schedule where the family has it, else from the family's own solver.
A transformer (Stable Diffusion 3, Flux) has no cross-attention: text and picture meet in one joint attention.
ESD-x means there its linear layers, those of the text's stream and of the picture's, as in ESD's own
configuration for Flux; picture-to-picture attention is trained with it, so it is more than cross-attention.

    python bench/esd.py --out bench/results/esd.json
    python bench/esd.py --world sd3 --out bench/results/esd-sd3.json
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fade.data.vocabulary import fill
from fade.evaluation.accuracy import top1
from fade.mining.neighborhood import mine
from fade.models.base import DiffusionModel
from fade.models.conditioning import Conditioning
from fade.models.sampling import sample
from fade.run.context import RunContext
from fade.run.resolve_params import load_params
from fade.run.worlds import world_overrides
from fade.training.shared_latents import sampler_of
from fade.utils.seeds import consecutive_seeds

TARGETS = (
    "grinning face",
    "face with tears of joy",
    "crying cat",
    "grinning cat",
    "green heart",
    "waxing gibbous moon",
)
ETA, GUIDANCE, ROUND, MOST = 1.0, 3.0, 5, 1000
RATES = {"unet": 1e-3, "transformer": 5e-4}
"""Adam's rate by the denoiser's part: half of its own training's."""
PARAMS = Path("params.yaml")


def open_world(name: str, overrides: Sequence[str], target: str, runs: Path = Path("runs")) -> RunContext:
    """A run in a world of params.yaml, or for "" in the default one."""
    return RunContext(load_params(PARAMS, world_items(name, overrides)), target, runs)


def world_items(name: str, overrides: Sequence[str]) -> Sequence[str]:
    """``overrides`` after those of the world; "" is the default one, which has none."""
    return world_overrides(PARAMS, name, overrides) if name else overrides


def erase(run: RunContext, target: str, lr: float, seed: int) -> dict[str, Any]:
    """Train ESD-x on the base's own denoiser, judge it, and put the denoiser back."""
    base, judge = run.models.base, run.models.judge
    original = copy.deepcopy(base.denoiser.state_dict())
    teacher = copy.deepcopy(base.denoiser).eval().requires_grad_(False)
    trained = attention_parameters(base)
    for p in trained:
        p.requires_grad_(True)
    optimizer = torch.optim.Adam(trained, lr=lr)
    neighborhood = mine(target, run.vocabulary, run.generator, run.models.encoder, run.params.neighborhood)
    cond, null = base.encode([fill(run.params.sampler.prompt, target)]), base.encode([""])
    generator = torch.Generator().manual_seed(seed)
    steps, erased, start = 0, 0.0, time.time()
    while steps < MOST and erased < 95:
        for _ in range(ROUND):
            step(base, teacher, optimizer, cond, null, generator)
        steps += ROUND
        erased = 100 - accuracy(run, [target])[0]
    seconds = time.time() - start
    after = accuracy(run, neighborhood.neighbours)
    base.denoiser.load_state_dict(original)
    base.denoiser.requires_grad_(False)
    before = accuracy(run, neighborhood.neighbours)
    judge.require(neighborhood.neighbours)
    return {
        "target": target,
        "family": run.vocabulary.family(target),
        "steps": steps,
        "seconds": round(seconds, 1),
        "A_er": erased,
        "A_adj_base": float(np.mean(before)),
        "A_adj": float(np.mean(after)),
        "lost": float(np.mean(before) - np.mean(after)),
        "neighbours": {n: [b, k] for n, b, k in zip(neighborhood.neighbours, before, after, strict=True)},
    }


def attention_parameters(base: DiffusionModel) -> list[torch.nn.Parameter]:
    """Weights and biases of the layers in which text and picture meet, in the denoiser's order."""
    names = set(base.layers(["cross"]))
    return [p for name, p in base.denoiser.named_parameters() if name.rpartition(".")[0] in names]


def step(
    base: DiffusionModel,
    teacher: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    cond: Conditioning,
    null: Conditioning,
    generator: torch.Generator,
) -> None:
    """One sample, one update."""
    x, t = partial_sample(base, cond, null, generator)
    with torch.no_grad():
        at_null, at_e = base.predict(torch.cat([x, x]), t.expand(2), null.join(cond), teacher).chunk(2)
    loss = (base.predict(x, t, cond) - (at_null - ETA * (at_e - at_null))).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def partial_sample(
    base: DiffusionModel,
    cond: Conditioning,
    null: Conditioning,
    generator: torch.Generator,
    steps: int = 10,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One latent of the target, denoised by the model under training to a random step of its sampler, and the
    timestep there (1,)."""
    solver = base.solver(sampler_of(base, steps))
    stop = int(torch.randint(0, steps, (1,), generator=generator))
    x = torch.randn((1, *base.latent_shape), generator=generator).to(base.device)
    for t in solver.timesteps[:stop]:
        output = base.predict_guided(x, t.expand(1), cond, null, GUIDANCE)
        x = solver.step(output, t, x, return_dict=False)[0]
    return x, solver.timesteps[stop].expand(1)


def accuracy(run: RunContext, names: list[str]) -> list[float]:
    """The judge's top-1 (percent) of each concept by the denoiser as it is now, on the evaluation's seeds."""
    seeds = consecutive_seeds(run.params.evaluate.seed, run.params.evaluate.images_per_concept)
    prompts = [fill(run.params.sampler.prompt, n) for n in names for _ in seeds]
    pixels = run.models.base.decode(sample(run.models.base, prompts, seeds * len(names), run.params.sampler))
    odds = run.models.judge(pixels).numpy().reshape(len(names), len(seeds), -1)
    return [100 * float(top1(odds[i], run.models.judge.index(n)).mean()) for i, n in enumerate(names)]


def main() -> None:
    """Erase each target in turn and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--world", default="", help="of params.yaml; without it the default one")
    parser.add_argument("--targets", nargs="*", default=list(TARGETS))
    parser.add_argument("--lr", type=float, default=None, help="Adam's rate, see above")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    run = open_world(args.world, [], args.targets[0])
    lr = args.lr or RATES[run.models.base.DENOISER]
    rows = []
    for target in args.targets:
        rows.append(erase(run, target, lr, args.seed))
        row = rows[-1]
        print(
            f"{target:28} A_er {row['A_er']:5.1f}  A_adj {row['A_adj_base']:5.1f} -> {row['A_adj']:5.1f}  "
            f"steps {row['steps']}",
            flush=True,
        )
    lost = [row["lost"] for row in rows]
    summary = {
        "mean_lost": float(np.mean(lost)),
        "spread": float(np.std(lost, ddof=1)) if len(lost) > 1 else 0.0,
        "n": len(lost),
    }
    print(
        f"mean A_adj lost: {summary['mean_lost']:.1f} points (standard deviation {summary['spread']:.1f}, n "
        f"{summary['n']})"
    )
    if args.out:
        from tasks.data.pull import pictures_md5

        args.out.parent.mkdir(parents=True, exist_ok=True)
        settings = {"world": args.world, "base_family": run.models.base.FAMILY, "lr": lr, "seed": args.seed}
        settings["data_md5"] = pictures_md5(run.params.data, run.root)
        args.out.write_text(json.dumps({**settings, "summary": summary, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
