"""Peak memory with models of the true sizes, against the estimate of `fade.models.memory`.

    python bench/memory.py --model sd15-fp32 --model sd15-bf16 --out bench/results/memory.json
    python bench/memory.py --table

The weights are random, the configurations those of the published models. For each model three things, each
in a process of its own whose highest anonymous memory counts (not the pages of mapped files, which the system
drops when it needs the room): loading, one step of FADE (paper) with one
target latent, one neighbour latent and one neighbour, and one picture of 512 or 1,024 pixels in 2 steps.
A model's directory is written once into --folder and removed afterwards. Everything runs on the CPU.

--table prints what fits a GPU of 16, 24, 48 and 80 GB by the estimate alone, as docs/installation.md has
it."""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support import tiny_tokenizer

WORKS = ("load", "step", "picture")
BLOCK = 1 << 22
"""Random numbers that all weights share: the memory does not depend on them."""
TOLERANCE = 0.15
SAMPLED_EVERY = 0.005  # seconds
_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
}
_CLIP_L = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
_CLIP_G = {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
_L = ("CLIPTextModel", {**_CLIP_L, "projection_dim": 768})
_L_PROJECTED = ("CLIPTextModelWithProjection", {**_CLIP_L, "projection_dim": 768})
_G = ("CLIPTextModelWithProjection", {**_CLIP_G, "projection_dim": 1280, "hidden_act": "gelu"})
_DDIM = ("DDIMScheduler", {"beta_schedule": "scaled_linear", "clip_sample": False})
_T5 = (
    "T5EncoderModel",
    {
        "vocab_size": 32128,
        "d_model": 4096,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "d_kv": 64,
        "feed_forward_proj": "gated-gelu",
    },
)
_SIXTEEN = {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False}
MODELS: dict[str, tuple[str, dict[str, tuple[str, dict[str, Any]]]]] = {
    "sd15": (
        "StableDiffusionPipeline",
        {
            "unet": (
                "UNet2DConditionModel",
                {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
            ),
            "vae": ("AutoencoderKL", {**_VAE, "sample_size": 512}),
            "text_encoder": _L,
            "scheduler": _DDIM,
        },
    ),
    "sd21": (
        "StableDiffusionPipeline",
        {
            "unet": (
                "UNet2DConditionModel",
                {
                    "sample_size": 96,
                    "cross_attention_dim": 1024,
                    "attention_head_dim": (5, 10, 20, 20),
                    "use_linear_projection": True,
                },
            ),
            "vae": ("AutoencoderKL", {**_VAE, "sample_size": 768}),
            "text_encoder": (
                "CLIPTextModel",
                {
                    "hidden_size": 1024,
                    "intermediate_size": 4096,
                    "num_hidden_layers": 23,
                    "num_attention_heads": 16,
                    "hidden_act": "gelu",
                },
            ),
            "scheduler": _DDIM,
        },
    ),
    "sdxl": (
        "StableDiffusionXLPipeline",
        {
            "unet": (
                "UNet2DConditionModel",
                {
                    "sample_size": 128,
                    "cross_attention_dim": 2048,
                    "attention_head_dim": (5, 10, 20),
                    "block_out_channels": (320, 640, 1280),
                    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                    "transformer_layers_per_block": (1, 2, 10),
                    "use_linear_projection": True,
                    "addition_embed_type": "text_time",
                    "addition_time_embed_dim": 256,
                    "projection_class_embeddings_input_dim": 2816,
                },
            ),
            "vae": ("AutoencoderKL", {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025}),
            "text_encoder": _L,
            "text_encoder_2": _G,
            "scheduler": _DDIM,
        },
    ),
    "sd35-medium": (
        "StableDiffusion3Pipeline",
        {
            "transformer": (
                "SD3Transformer2DModel",
                {
                    "sample_size": 128,
                    "num_layers": 24,
                    "num_attention_heads": 24,
                    "joint_attention_dim": 4096,
                    "caption_projection_dim": 1536,
                    "pooled_projection_dim": 2048,
                    "pos_embed_max_size": 384,
                    "dual_attention_layers": tuple(range(13)),
                    "qk_norm": "rms_norm",
                },
            ),
            "vae": (
                "AutoencoderKL",
                {
                    **_VAE,
                    **_SIXTEEN,
                    "sample_size": 1024,
                    "scaling_factor": 1.5305,
                    "shift_factor": 0.0609,
                },
            ),
            "text_encoder": _L_PROJECTED,
            "text_encoder_2": _G,
            "scheduler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        },
    ),
    "flux-dev": (
        "FluxPipeline",
        {
            "transformer": ("FluxTransformer2DModel", {"guidance_embeds": True}),
            "vae": (
                "AutoencoderKL",
                {
                    **_VAE,
                    **_SIXTEEN,
                    "sample_size": 1024,
                    "scaling_factor": 0.3611,
                    "shift_factor": 0.1159,
                },
            ),
            "text_encoder": _L,
            "text_encoder_2": _T5,
            "scheduler": ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0, "use_dynamic_shifting": True}),
        },
    ),
}
"""Name -> pipeline and its parts, each with the configuration in which it differs from its class's default.
Stable Diffusion 3.5 is measured without T5, which its pipeline may lack; with it: sd35-medium-t5."""
_PIPELINE, _PARTS = MODELS["sd35-medium"]
MODELS["sd35-medium-t5"] = (_PIPELINE, {**_PARTS, "text_encoder_3": _T5})
_LARGE = {
    "sample_size": 128,
    "num_layers": 38,
    "num_attention_heads": 38,
    "joint_attention_dim": 4096,
    "caption_projection_dim": 2432,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 192,
    "qk_norm": "rms_norm",
}
MODELS["sd35-large-t5"] = (
    _PIPELINE,
    {**_PARTS, "transformer": ("SD3Transformer2DModel", _LARGE), "text_encoder_3": _T5},
)
MODELS["flux-schnell"] = (
    "FluxPipeline",
    {
        **MODELS["flux-dev"][1],
        "transformer": ("FluxTransformer2DModel", {"guidance_embeds": False}),
        "scheduler": ("FlowMatchEulerDiscreteScheduler", {"shift": 1.0}),
    },
)
TABLE = (
    *("sd15-fp32", "sd15-bf16", "sd21-bf16", "sdxl-fp32", "sdxl-bf16"),
    *("sd35-medium-bf16", "sd35-medium-t5-bf16", "sd35-large-t5-bf16", "flux-dev-bf16", "flux-schnell-bf16"),
)
GPUS = (16, 24, 48, 80)
LENGTHS = {"text_encoder_3": 256, "FluxPipeline.text_encoder_2": 512}
"""Tokens of a prompt where they are not CLIP's 77."""


def owner_of(kind: str) -> Any:
    """The class of that name in diffusers or transformers."""
    import diffusers
    import transformers

    return getattr(diffusers, kind, None) or getattr(transformers, kind)


def empty(name: str, dtype: str) -> Any:
    """The model without weights; its tokenizers know few words, which no shape depends on."""
    from fade.models.families import known_families
    from fade.models.footprint import META, empty_part
    from fade.models.memory import DTYPES

    pipeline, configs = MODELS[name]
    parts: dict[str, Any] = {}
    for part, (kind, config) in configs.items():
        owner = owner_of(kind)
        if part == "scheduler":
            parts[part] = owner(**config)
            continue
        settings = config if part in ("unet", "transformer", "vae") else owner.config_class(**config)
        parts[part] = empty_part(owner, settings, torch.float32 if part == "vae" else DTYPES[dtype])
        if part.startswith("text_encoder"):
            length = LENGTHS.get(part, LENGTHS.get(f"{pipeline}.{part}", 77))
            parts[part.replace("text_encoder", "tokenizer")] = tiny_tokenizer(max_tokens=length)
    return known_families()[pipeline](name, parts, "", META)


def write_model(name: str, dtype: str, folder: Path) -> Path:
    """A directory in diffusers' layout with random weights in ``dtype`` (fp32 or bf16; the VAE in fp32)."""
    from safetensors.torch import save_file

    index: dict[str, Any] = {"_class_name": MODELS[name][0]}
    block = torch.randn(BLOCK, generator=torch.Generator().manual_seed(0))
    for part, made in empty(name, dtype).parts.items():
        home = folder / part
        home.mkdir(parents=True)
        index[part] = [type(made).__module__.partition(".")[0], type(made).__name__]
        if not isinstance(made, torch.nn.Module):
            made.save_pretrained(home)
            continue
        if index[part][0] == "transformers":
            made.config.save_pretrained(home)
            file = home / "model.safetensors"
        else:
            made.save_config(home)
            file = home / "diffusion_pytorch_model.safetensors"
        weights = {key: _random(one, block) for key, one in made.state_dict().items()}
        save_file(weights, str(file), {"format": "pt"})
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def _random(like: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
    """Normal values of a weight's shape, scaled by its inputs; ones for what has one dimension."""
    if like.ndim < 2:
        return torch.ones(like.shape, dtype=like.dtype)
    n, inputs = like.numel(), math.prod(like.shape[1:])
    values = (block / math.sqrt(inputs)).to(like.dtype).repeat(-(-n // BLOCK))[:n]
    return values.reshape(like.shape).contiguous()


def settings(dtype: str) -> dict[str, Any]:
    """The sections of a run that the three works share."""
    import fade.erasers  # noqa: F401 (they register their knobs)
    from fade.config import MeshConfig, MethodConfig, ModelConfig, SamplerConfig, TrainConfig

    return {
        "model": ModelConfig(dtype=dtype),
        "mesh": MeshConfig(),
        "method": MethodConfig(name="fade", variant="paper"),
        "train": TrainConfig(steps=1, warmup=0, batch_target=1, batch_neighbours=1, precision="fp32"),
        "sampler": SamplerConfig(scheduler="euler", steps=2, batch_size=1),
    }


def estimate(name: str, dtype: str) -> dict[str, int]:
    """Bytes of each work, and those of the weights."""
    from fade.training.memory import plan_training

    shared = settings(dtype)
    trained = (shared["mesh"], shared["method"], shared["train"], 1)
    base, step = plan_training(empty(name, dtype), shared["model"], "cpu", *trained)
    weights = base.footprint.weights + base.footprint.text
    return {"load": base.resident, "step": step.bytes, "picture": base.sampling(1), "weights": weights}


def table(models: Sequence[str]) -> str:
    """Markdown: of each model and GPU, pictures and latents of a step of FADE (paper) at once."""
    from fade.config import MeshConfig, MethodConfig, ModelConfig, TrainConfig
    from fade.models import memory
    from fade.models.footprint import Footprint
    from fade.training.memory import StepFootprint
    from fade.utils.text import markdown_table

    head, rows = ["base", "weights (text encoders), GB", *(f"{size} GB" for size in GPUS)], []
    method, train = (
        MethodConfig(name="fade", variant="paper"),
        TrainConfig(batch_target=2, batch_neighbours=10),
    )
    for model in models:
        name, _, dtype = model.rpartition("-")
        made = empty(name, dtype)
        need = Footprint.of(made)
        step = StepFootprint.of(made, MeshConfig(), method, train, 5)  # gives the model an adapter
        configs = [ModelConfig(dtype=dtype, memory_gb=size) for size in GPUS]
        cells = [_cell(need, step, config) for config in configs]
        weights = f"{memory.gb(need.weights + need.text)} ({memory.gb(need.text)})"
        rows.append([f"{name}, {dtype}", weights, *cells])
        print(" | ".join(rows[-1]), file=sys.stderr, flush=True)
    return "\n".join(markdown_table(head, rows, {*range(len(head))} - {1}))


def _cell(need: Any, step: Any, config: Any) -> str:
    from fade.errors import ConfigError
    from fade.models.memory import plan
    from fade.training.memory import plan_step

    try:
        base = plan(need, config, "cuda")
    except ConfigError:
        return "no"
    pictures = f"{min(32, base.batches.sample)} pictures"
    try:
        made = plan_step(step, base, config)
    except ConfigError:
        return f"{pictures}, no training"
    latents = f"{made.student} latent{'s' if made.student != 1 else ''}" if made.student else "whole step"
    return f"{pictures}, {latents}{' (checkpointing)' if made.checkpointing else ''}"


def work(name: str, folder: Path, dtype: str) -> dict[str, float]:
    """Do one thing in this process: its peak of resident memory in bytes, and its seconds."""
    from fade.models.memory import load_fitting

    start, peak = time.perf_counter(), AnonymousPeak()
    peak.start()
    shared = settings(dtype)
    base = load_fitting(str(folder), shared["model"], device="cpu")
    if name == "step":
        _train(base, folder, shared)
    elif name == "picture":
        from fade.models.sampling import sample

        pixels = base.decode(sample(base, ["a panda"], [0], shared["sampler"]))
        assert pixels.shape[1] == base.image_size
    return {"peak": peak.bytes, "seconds": round(time.perf_counter() - start, 1)}


class AnonymousPeak(threading.Thread):
    """Samples this process's anonymous memory; ``bytes``: the most so far."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.bytes = 0

    def run(self) -> None:
        while True:
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            now = 1024 * int(next(line for line in lines if line.startswith("RssAnon")).split()[1])
            self.bytes = max(self.bytes, now)
            time.sleep(SAMPLED_EVERY)


def _train(base: Any, folder: Path, shared: Mapping[str, Any]) -> None:
    from safetensors.torch import save_file

    from fade.jobs.train import TrainJob
    from fade.training.batches import latent_names
    from fade.training.loop import train
    from fade.training.settings import ErasureTarget
    from fade.utils.hashing import sha256_of

    with tempfile.TemporaryDirectory() as out:
        latents = Path(out) / "latents.safetensors"
        shapes = ((1, *base.latent_shape), (1, 1, *base.latent_shape))
        tensors = {key: torch.randn(shape) for key, shape in zip(latent_names(0), shapes, strict=True)}
        save_file(tensors, str(latents))
        job = TrainJob(
            base=str(folder),
            base_sha256=base.sha256,
            subjects=(ErasureTarget(target="panda", neighbours=("koala",)),),
            prompt="a {concept}",
            latents=latents,
            latents_sha256=sha256_of(latents),
            out=Path(out) / "job",
            **{key: value for key, value in shared.items() if key != "sampler"},
        )
        job.write()
        train(job, base)


def measure(model: str, folder: Path, works: Sequence[str], keep: bool) -> dict[str, Any]:
    """The rows of one model (NAME-DTYPE)."""
    name, _, dtype = model.rpartition("-")
    home = folder / model
    if not (home / "model_index.json").is_file():
        write_model(name, dtype, home)
    try:
        expected, rows = estimate(name, dtype), {}
        for one in works:
            line = [sys.executable, __file__, "--work", one, "--model", model, "--folder", str(home)]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            if done.returncode:
                rows[one] = {"failed": done.stderr.strip().splitlines()[-1:] or done.returncode}
            else:
                found = json.loads(done.stdout.strip().splitlines()[-1])
                gb = {"estimate_gb": expected[one] / 1e9, "peak_gb": found["peak"] / 1e9}
                gb["off"] = gb["estimate_gb"] / gb["peak_gb"] - 1
                rows[one] = {
                    **{key: round(value, 3) for key, value in gb.items()},
                    "seconds": found["seconds"],
                }
            print(model, one, rows[one], flush=True)
        return {"weights_gb": round(expected["weights"] / 1e9, 3), "works": rows}
    finally:
        if not keep:
            shutil.rmtree(home)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", default=[], help="NAME-fp32 or NAME-bf16")
    parser.add_argument("--only", nargs="+", choices=WORKS, default=WORKS)
    parser.add_argument("--keep", action="store_true", help="leave the directories in --folder")
    parser.add_argument(
        "--table",
        action="store_true",
        help="print what fits which GPU, by the estimate; of --model alone, or of all",
    )
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fade-memory")
    parser.add_argument("--out", type=Path, help="record; what it holds already of others is kept")
    parser.add_argument("--work", choices=WORKS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json.dumps(work(args.work, args.folder, args.model[0].rpartition("-")[2])))
        return
    if args.table:
        print(table(args.model or TABLE))
        return
    record: dict[str, Any] = {"models": {}}
    if args.out and args.out.is_file():
        record = json.loads(args.out.read_text(encoding="utf-8"))
    record |= {
        "command": "python bench/memory.py --model NAME-DTYPE --out bench/results/memory.json",
        "tolerance": TOLERANCE,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "machine_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
    }
    for model in args.model:
        made, before = measure(model, args.folder, args.only, args.keep), record["models"].get(model, {})
        record["models"][model] = {**made, "works": {**before.get("works", {}), **made["works"]}}
        if args.out:
            args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
