"""Speed and memory of the embedded default on the CPU, each beside what one would do otherwise, as ratios.

    python bench/speed.py --out bench/results/speed.json
    python bench/speed.py --only training --full --out bench/results/speed-full.json

training  our default training against FADE's released loop, which makes its latents anew in every iteration
(as FADE's authors released it) mining    the whole vocabulary in batches, from an empty cache, against one
call of diffusers' pipeline a concept memory    peak resident memory of a training against that of plain
generation flops     the UNet's rate as a share of what a plain matrix product reaches here run       ``fade
run`` as a user starts it: the first target in a new runs folder, then the next; what of it is not computing

Each part runs in a process of its own. Nothing else should run on the machine: the loads before and after are
in the result."""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
import torch

from fade.adapters.lora import LoraAdapter
from fade.config import SamplerConfig
from fade.data.vocabulary import Vocabulary, fill, prompts
from fade.erasers.base import ErasureBatch, get_eraser
from fade.erasers.fade import TEMPLATES
from fade.errors import FadeError
from fade.generation.cache import Cache
from fade.jobs.train import TrainJob
from fade.mining.neighborhood import Neighborhood, mine
from fade.models.base import DiffusionModel
from fade.models.conditioning import Conditioning
from fade.models.loading import load_model, suppress_library_output
from fade.models.sampling import sample
from fade.run.context import RunContext
from fade.run.resolve_params import resolve
from fade.training.batches import rate
from fade.training.denoiser import Denoiser
from fade.training.loop import train
from fade.training.settings import ADAPTER
from fade.utils.files import write_json
from fade.utils.seeds import consecutive_seeds, named_seed
from tasks.launch.environment import configure_environment

COMPARED = {
    "training": ("ours", "released", "seconds", "10 or more"),
    "mining": ("ours", "pipeline", "seconds", "4 or more"),
    "memory": ("training", "generation", "peak_mb", "1.3 or less"),
}
"""Part -> what is compared with what, in which unit, and the goal of the ratio."""
SOLVER = SamplerConfig(scheduler="ddim", steps=30, guidance_scale=3.0)  # of the released loop
SIDES = (
    256 / 512,
    448 / 512,
)  # its smallest and largest picture, as shares of the size that the base was trained for
MEMORY_STEPS, FLOPS_BATCH, MATMUL = 20, 32, 2048


def workshop(args: argparse.Namespace, folder: Path, overrides: tuple[str, ...] = ()) -> RunContext:
    """Files go to ``folder``, pictures come from the runs folder's cache."""
    context = RunContext(resolve(overrides=[*args.set, *overrides]), args.target, folder)
    context.cache = Cache(args.runs_dir / "cache")
    return context


def training(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds and ERB of our default, of the released loop, and of the released loss on our stored
    latents."""
    import_trainer()
    torch.use_deterministic_algorithms(True, warn_only=True)  # as `train` does for itself
    recipe = ("method.name=fade", "method.variant=official", *get_eraser("fade", "official").recipe)
    context, other = workshop(args, folder), workshop(args, folder, recipe)
    other.models = context.models
    neighborhood = mine(
        args.target,
        context.vocabulary,
        context.generator,
        context.models.encoder,
        context.params.neighborhood,
    )
    ours, stored = timed(context, neighborhood), timed(other, neighborhood)
    steps = other.params.train.steps
    released = literal(other, neighborhood, steps if args.full else min(args.iterations, steps))
    erb: dict[str, Any] = {
        "ours": ours["metrics"]["ERB"],
        "released": released.get("metrics", stored["metrics"])["ERB"],
    }
    erb["ours_same_or_better"] = erb["ours"] >= erb["released"]
    erb["released_from"] = (
        "the released loop"
        if "metrics" in released
        else "the released loss and settings on our stored latents"
    )
    out = {
        "target": args.target,
        "neighbours": neighborhood.neighbours,
        "ours": ours,
        "released": released,
        "release_on_stored_latents": stored,
    }
    return {**out, "recipe": recipe, "ratio": released["seconds"] / ours["seconds"], "ERB": erb}


def import_trainer() -> None:
    """What the trainer imports only when it begins: neither its speed nor its memory is that of an import."""
    for name in ("accelerate", "peft"):
        importlib.import_module(name)


def timed(context: RunContext, neighborhood: Neighborhood) -> dict[str, Any]:
    """Train in this process (insertion, checkpoints and saving included, imports and loading not), then
    judge."""
    from tasks.stages.train import write_job

    job, marks = write_job(context, neighborhood, {}), [time.perf_counter()]
    adapter = train(job, context.models.base, lambda row: marks.append(time.perf_counter()))
    seconds = time.perf_counter() - marks[0]
    steps = [b - a for a, b in itertools.pairwise(marks)]
    return {
        "seconds": seconds,
        "median_step_seconds": median(steps),
        "n": len(steps),
        **judged(context, neighborhood, adapter),
    }


def judged(context: RunContext, neighborhood: Neighborhood, adapter: Path) -> dict[str, Any]:
    """The project's own evaluation."""
    from tasks.stages.evaluate import evaluate

    numbers = evaluate(context, neighborhood, adapter).numbers
    return {key: numbers[key] for key in ("metrics", "base_metrics", "intervals")}


def literal(context: RunContext, neighborhood: Neighborhood, iterations: int) -> dict[str, Any]:
    """Iterations of the released loop: latents by the pipeline's loop with the adapter on, the released loss,
    a step of AdamW."""
    from tasks.stages.train import write_job

    job, method, base = (
        write_job(context, neighborhood, {}),
        get_eraser("fade", "release"),
        context.models.base,
    )
    assert method.loss is not None  # what mypy cannot know: the official form has no closed form
    k = len(job.subjects[0].neighbours)
    config, whole = job.train, iterations == job.train.steps
    lora = LoraAdapter.insert(base, job.mesh, seed=config.seed)
    optimizer = torch.optim.AdamW(lora.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    predictor = Denoiser(base.denoiser, lora)
    seconds: list[float] = []
    regenerate(base, job, -1)  # not counted
    rows, hook = watch_calls(base)
    try:
        for step in range(iterations):
            start = time.perf_counter()
            batch = regenerate(base, job, step)
            for group in optimizer.param_groups:
                group["lr"] = rate(step, config, method.schedule)
            loss, _ = method.loss(predictor, batch, job.method)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds.append(time.perf_counter() - start)
        if whole:
            lora.save(job.out / ADAPTER, job.provenance)
    finally:
        hook.remove()
        lora.remove()
    return {
        "seconds": sum(seconds) / iterations * config.steps,
        "extrapolated": not whole,
        "steps": config.steps,
        "n": iterations,
        "median_iteration_seconds": median(seconds),
        "mean_iteration_seconds": mean(seconds),
        "unet_calls_an_iteration": len(rows) / iterations,
        # stops average 15; 2: the loss
        "unet_calls_expected": (1 + len(TEMPLATES) + k) * SOLVER.steps / 2 + 2,
        "note": "stops and sizes are random, so the mean is multiplied. Cheaper than the release (about 151 "
        "calls): prompts are encoded once.",
        **(judged(context, neighborhood, job.out / ADAPTER) if whole else {}),
    }


def regenerate(base: DiffusionModel, job: TrainJob, step: int) -> ErasureBatch:
    """New latents, from one noise to one random step: the target's, those of its three templates, its
    neighbours'."""
    generator = torch.Generator().manual_seed(named_seed(job.train.seed, "released", step))
    subject, n, (channels, full, _) = job.subjects[0], job.train.batch_target, base.latent_shape
    low, high = (round(share * full) for share in SIDES)
    side, seed = int(torch.randint(low, high + 1, (1,), generator=generator)), generator.initial_seed()
    words = [fill(template, subject.target) for template in TEMPLATES]
    null = base.encode([job.negative_prompt])
    made = [
        trajectory(
            base,
            base.encode([prompt] * n),
            null,
            (n, channels, side, side),
            torch.Generator().manual_seed(seed),
        )
        for prompt in (subject.target, *words, *subject.neighbours)
    ]
    x, t = (torch.cat(some) for some in zip(*made, strict=True))
    which = torch.arange(len(subject.neighbours)).repeat_interleave(n)
    own = n * (1 + len(words))
    prompts_of = [base.encode([subject.target]), null, base.encode(subject.neighbours)]
    return ErasureBatch(x, t, x[own:], t[own:], *prompts_of, which, null, {"templates": base.encode(words)})


@torch.no_grad()
def trajectory(
    base: DiffusionModel,
    cond: Conditioning,
    null: Conditioning,
    shape: tuple[int, ...],
    generator: torch.Generator,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents (n, C, h, w) after 1 to 29 of 30 DDIM steps by the model as it is now, and their timesteps
    (n,)."""
    scheduler = base.solver(SOLVER)
    stop = int(torch.randint(1, SOLVER.steps, (1,), generator=generator))
    x, null = torch.randn(shape, generator=generator), null.expand(len(cond))
    for t in scheduler.timesteps[:stop]:
        output = base.predict_guided(x, t.expand(len(x)), cond, null, SOLVER.guidance_scale)
        x = scheduler.step(output, t, x, return_dict=False)[0]
    return x, scheduler.timesteps[stop].expand(len(x))


def watch_calls(base: DiffusionModel) -> tuple[list[int], Any]:
    """A list that grows by the batch of each UNet call, and the hook to remove."""
    rows: list[int] = []
    return rows, base.denoiser.register_forward_pre_hook(lambda module, args: rows.append(len(args[0])))


def mining(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds to mine the vocabulary from an empty cache, and to make the same pictures with a pipeline call
    a concept."""
    from diffusers import StableDiffusionPipeline

    context = RunContext(
        resolve(overrides=args.set), "", folder
    )  # the folder is new, hence its cache is empty
    vocabulary = Vocabulary(context.vocabulary.concepts[: args.concepts], context.vocabulary.styles)
    base, sampler, config, encoder = (
        context.models.base,
        context.params.sampler,
        context.params.neighborhood,
        context.models.encoder,
    )
    seeds = consecutive_seeds(config.seed, config.images_per_concept)
    texts = prompts(sampler.prompt, vocabulary.names)
    parts = {name: base.parts[name] for name in ("vae", "text_encoder", "tokenizer", "unet")}
    absent = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = StableDiffusionPipeline(scheduler=base.solver(sampler), **parts, **absent)
    pipe.set_progress_bar_config(disable=True)

    def plain(prompt: str) -> np.ndarray:
        how = {
            "num_inference_steps": sampler.steps,
            "guidance_scale": sampler.guidance_scale,
            "negative_prompt": sampler.negative_prompt,
        }
        noise = [torch.Generator().manual_seed(seed) for seed in seeds]
        pictures: np.ndarray = pipe(
            prompt, num_images_per_prompt=len(seeds), generator=noise, output_type="np", **how
        ).images
        return pictures

    encoder(base.decode(sample(base, texts[:1] * len(seeds), seeds, sampler)))  # both sides warm
    plain(texts[0])
    start = time.perf_counter()
    mine(vocabulary.names[0], vocabulary, context.generator, encoder, config)
    ours, made = time.perf_counter() - start, context.generator.generated
    if made != len(texts) * len(seeds):
        raise FadeError(
            f"{made} pictures were made where {len(texts) * len(seeds)} were wanted.",
            stage="mining",
            action="report this.",
        )
    each, differences, generated = [], [], context.generator.generate(texts, seeds)
    for prompt in texts:
        start = time.perf_counter()
        pictures = plain(prompt)
        each.append(time.perf_counter() - start)
        differences.append(float(np.abs((255 * pictures).round() - generated[prompt].pixels).mean()))
    return {
        "concepts": len(texts),
        "images_per_concept": len(seeds),
        "batch_size": sampler.batch_size,
        "ours": {"seconds": ours, "n": 1, "includes": "pictures, cache, CLIP features, similarities"},
        "pipeline": {
            "seconds": sum(each),
            "median_concept_seconds": median(each),
            "n": len(each),
            "includes": "pictures",
        },
        # of 255: both sides made the same pictures
        "ratio": sum(each) / ours,
        "mean_difference_of_a_pixel": mean(differences),
        "as_shipped": (shipped := as_shipped(base, texts, len(seeds))),
        "ratio_as_shipped": shipped["seconds"] / ours,
    }


def as_shipped(base: DiffusionModel, texts: list[str], n: int, timed: int = 6) -> dict[str, Any]:
    """The pipeline as diffusers loads and calls it: the directory's own scheduler, 50 steps, guidance 7.5. A
    few calls are timed."""
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(base.path, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    each = []
    for prompt in texts[: timed + 1]:
        start = time.perf_counter()
        pipe(prompt, num_images_per_prompt=n, generator=torch.Generator().manual_seed(0), output_type="np")
        each.append(time.perf_counter() - start)
    seconds = median(each[1:])  # the first warms up
    what = "StableDiffusionPipeline.from_pretrained(base)(prompt, num_images_per_prompt=n)"
    return {
        "seconds": seconds * len(texts),
        "median_concept_seconds": seconds,
        "n": timed,
        "extrapolated": True,
        "call": what,
    }


def memory(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Peak resident memory, MiB: medians over fresh processes. The job is mined in another, so that theirs
    make no pictures."""
    job = child(args, "job", folder)["job"]

    def peaks(latents: int) -> dict[str, Any]:
        results = [
            child(args, "resident", folder, "--job", job, "--latents", str(latents))
            for _ in range(args.repeats)
        ]
        return {key: median(one[key] for one in results) for key in results[0]} | {"n": len(results)}

    trained = peaks(0)
    rows = int(trained["largest_unet_call"])
    same, strict = peaks(rows), peaks((rows + 1) // 2)
    return {
        "same_batch": f"{rows} pictures at once, as many as training's largest UNet call has latents; "
        "guidance makes calls of "
        f"{same['largest_unet_call']} rows of them. strict: half as many pictures, calls of "
        f"{strict['largest_unet_call']} rows",
        "training_steps": MEMORY_STEPS,
        "training": trained,
        "generation": same,
        "generation_strict": strict,
        "ratio": trained["peak_mb"] / same["peak_mb"],
        "ratio_strict": trained["peak_mb"] / strict["peak_mb"],
    }


def write_short_job(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The job whose training is weighed."""
    from tasks.stages.train import write_job

    context = workshop(args, folder, (f"train.steps={MEMORY_STEPS}", f"train.warmup={MEMORY_STEPS}"))
    neighborhood = mine(
        args.target,
        context.vocabulary,
        context.generator,
        context.models.encoder,
        context.params.neighborhood,
    )
    return {"job": str(write_job(context, neighborhood, {}).write())}


def resident(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Memory of this process before and after making ``asked.latents`` pictures at once; 0: before and after
    a training."""
    suppress_library_output()
    if not args.latents:
        import_trainer()
    job, sampler = TrainJob.read(args.job), resolve(overrides=args.set).sampler
    base = load_model(job.base)
    loaded, (rows, _) = peak_mb(), watch_calls(base)
    if args.latents:
        n = args.latents
        base.decode(
            sample(
                base,
                [fill(job.prompt, job.subjects[0].target)] * n,
                range(n),
                sampler.model_copy(update={"batch_size": n}),
            )
        )
    else:
        train(job.model_copy(update={"out": Path(tempfile.mkdtemp(dir=folder))}), base)
    return {"loaded_mb": loaded, "peak_mb": peak_mb(), "largest_unet_call": max(rows)}


def peak_mb() -> float:
    """Linux hands the peak of the process that started this one on to it; that one has the same imports and
    no model."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10  # Linux counts KiB


def flops(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """GFLOP/s of the UNet's forward pass and of two kinds of training step, as shares of a matrix
    product's."""
    context = workshop(args, folder)
    base, names, generator = context.models.base, context.vocabulary.names, torch.Generator().manual_seed(0)
    x = torch.randn((FLOPS_BATCH, *base.latent_shape), generator=generator)
    t = torch.randint(int(base.scheduler.config.num_train_timesteps), (FLOPS_BATCH,), generator=generator)
    emb = base.encode(
        [fill(context.params.sampler.prompt, names[i % len(names)]) for i in range(FLOPS_BATCH)]
    )

    @torch.no_grad()
    def forward() -> None:
        base.predict(x, t, emb)

    def step() -> None:
        base.predict(x, t, emb).square().mean().backward()
        base.denoiser.zero_grad(set_to_none=True)

    a, b = torch.randn((2, MATMUL, MATMUL), generator=generator)
    best = 2 * MATMUL**3 / min(seconds_of(lambda: torch.mm(a, b), 20)) / 1e9
    results = {"forward": gauge(forward, best)}
    lora = LoraAdapter.insert(base, context.params.mesh, seed=0)
    results["adapter_step"] = gauge(step, best)
    lora.remove()
    base.denoiser.requires_grad_(True)
    results["full_step"] = gauge(step, best)
    return {
        "batch": FLOPS_BATCH,
        "matmul": {"size": MATMUL, "gflop_per_s": best, "what": "torch.mm, float32, best of 20"},
        **results,
        "counts": "matrix products and convolutions, forward and, in a step, backward; attention's products "
        "are counted on the math "
        "kernel, the counter having no formula for the CPU's fused one. Missed: elementwise work, norms, "
        "softmax, resizing, AdamW's step.",
    }


def gauge(work: Callable[[], None], best: float) -> dict[str, Any]:
    """FLOPs of ``work`` and its speed, also as a share of ``best`` (GFLOP/s)."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    gflop, seconds = counter.get_total_flops() / 1e9, seconds_of(work, 15)
    speed = gflop / median(seconds)
    return {
        "gflop": gflop,
        "median_seconds": median(seconds),
        "n": len(seconds),
        "gflop_per_s": speed,
        "share_of_matmul": speed / best,
    }


def seconds_of(work: Callable[[], Any], n: int) -> list[float]:
    """Seconds of ``n`` calls after two that are not counted."""
    marks = []
    for _ in range(n + 3):
        marks.append(time.perf_counter())
        work()
    return [b - a for a, b in itertools.pairwise(marks)][2:]


def whole_run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of whole runs, each a process of its own, from its start to its answer; the set-up was made
    before."""
    runs = folder / "runs"
    clean = {
        key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_", "OMP_"))
    }
    subprocess.run(
        [sys.executable, "-m", "flows.service.setup", str(runs)], env=clean, check=True, stdout=sys.stderr
    )
    extra = [part for item in args.set for part in ("--set", item)]

    def one(target: str) -> dict[str, Any]:
        line = [
            sys.executable,
            "-m",
            "flows.cli",
            "run",
            "--target",
            target,
            "--json",
            "--runs-dir",
            str(runs),
            *extra,
        ]
        report = json.loads(
            subprocess.run(line, env=clean, check=True, capture_output=True, text=True).stdout
        )
        computing = sum(report["computing_seconds"].values())
        total = report["seconds"]["total"]
        return {
            "target": target,
            **{k: report[k] for k in ("seconds", "computing_seconds")},
            "total": total,
            "other": total - computing,
        }

    computing = "pictures, their features for the mining, training steps, judging; all else is `other`"
    return {"first": one(args.target), "next": one(args.then), "computing": computing}


PARTS = {"training": training, "mining": mining, "memory": memory, "flops": flops, "run": whole_run}
INNER = {"job": write_short_job, "resident": resident}


def child(args: argparse.Namespace, part: str, folder: Path, *extra: str) -> dict[str, Any]:
    """A part in a process of its own, this file again. What it complains of stands on stderr."""
    command = [
        sys.executable,
        str(Path(__file__).resolve()),
        *sys.argv[1:],
        "--part",
        part,
        "--folder",
        str(folder),
        *extra,
    ]
    status = subprocess.run(command, stdout=sys.stderr).returncode
    if status:
        raise SystemExit(f"{part} ended with status {status}; its reason stands above.")
    results: dict[str, Any] = json.loads((folder / f"{part}.json").read_text(encoding="utf-8"))
    return results


def show(name: str, results: dict[str, Any]) -> None:
    """A part as a line or a few of the table."""
    if name == "run":
        for key, most in (("first", 240), ("next", 120)):
            run = results[key]
            print(
                f"run       {key}: {run['total']:.1f} s (goal: {most}), not computing {run['other']:.1f} s "
                "(goal: 25)",
                flush=True,
            )
        return
    if name == "flops":
        for key in ("forward", "adapter_step", "full_step"):
            print(
                f"flops     {key:14}{results[key]['gflop_per_s']:8.1f} GFLOP/s, "
                f"{100 * results[key]['share_of_matmul']:.0f} % of torch.mm"
            )
        return
    *sides, unit, goal = COMPARED[name]
    pair = [
        f"{side} {results[side][unit]:.1f}{' (extrapolated)' * results[side].get('extrapolated', False)}"
        for side in sides
    ]
    print(f"{name:10}{'  '.join(pair)} {unit}, ratio {results['ratio']:.2f} (goal: {goal})", flush=True)
    for side, part in results.items():
        if isinstance(part, dict) and "metrics" in part:
            print(
                f"  {side:27}" + "  ".join(f"{key} {value:5.1f}" for key, value in part["metrics"].items()),
                flush=True,
            )


def main() -> None:
    """Measure the parts that were asked for, print a table, and write JSON if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--target", default="panda", help="concept to erase in training and memory")
    parser.add_argument("--then", default="tulip", help="the next concept to erase in run")
    parser.add_argument("--iterations", type=int, default=5, help="released iterations that are timed")
    parser.add_argument(
        "--full", action="store_true", help="run all released iterations, and judge what they give"
    )
    parser.add_argument("--concepts", type=int, default=None, help="mine only the first so many concepts")
    parser.add_argument("--repeats", type=int, default=3, help="processes behind each number of memory")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--out", type=Path, default=None)
    for inner, kind in (("--part", str), ("--folder", Path), ("--job", Path), ("--latents", int)):
        parser.add_argument(inner, type=kind, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(args.iterations, args.repeats, 1 if args.concepts is None else args.concepts) < 1:
        parser.error("--iterations, --repeats and --concepts must be at least 1")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # these are the CPU's numbers
    os.environ.setdefault("PREFECT_HOME", str((args.runs_dir / "prefect").absolute()))  # not the user's home
    try:
        configure_environment(args.runs_dir)
        resolve(overrides=args.set)  # a wrong override fails before anything is measured
        if args.part:
            write_json(args.folder / f"{args.part}.json", (PARTS | INNER)[args.part](args, args.folder))
            return
    except FadeError as error:
        raise SystemExit(str(error)) from None
    before, results = os.getloadavg()[0], {}
    for name in args.only:
        with tempfile.TemporaryDirectory(prefix="fade-speed-") as folder:
            results[name] = child(args, name, Path(folder))
        show(name, results[name])
    machine = {
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }
    goals = {name: row[-1] for name, row in COMPARED.items()}
    facts = {
        **machine,
        "torch": torch.__version__,
        "load": (before, os.getloadavg()[0]),
        "ratio_goals": goals,
    }
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        write_json(
            args.out, {"command": shlex.join(["python", "bench/speed.py", *sys.argv[1:]]), **facts, **results}
        )


if __name__ == "__main__":
    main()
