"""Miniature models built offline: the classes of the real thing, a few thousand weights, random but
seeded."""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

CONCEPTS = (
    "panda",
    "koala",
    "bear",
    "tiger",
    "lion",
    "cat",
    "dog",
    "wolf",
    "tulip",
    "rose",
)
WORDS = ("a", "in", "the", "style", *CONCEPTS)


EMPTY_WEIGHTS = (2).to_bytes(8, "little") + b"{}"
"""A safetensors file without a tensor."""
DEEP: dict[str, Any] = {
    "block_out_channels": (8, 16),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
"""A `tiny_unet` with all kinds of blocks of a real one, at twice the time."""


def bench_module(name: str) -> Any:
    """A script of bench/ as a module; what it imports from there is found."""
    folder = str(Path(__file__).resolve().parents[1] / "bench")
    sys.path.insert(0, folder)
    try:
        return import_module(name)
    finally:
        sys.path.remove(folder)


def tiny_unet(seed: int = 0, **changes: Any) -> Any:
    """A UNet2DConditionModel of about 14,000 weights: 4 latent channels, 8x8, cross-attention 32 wide, one
    level, no middle; see DEEP."""
    import torch
    from diffusers import UNet2DConditionModel

    config: dict[str, Any] = {
        "sample_size": 8,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8,),
        "layers_per_block": 1,
        "down_block_types": ("CrossAttnDownBlock2D",),
        "mid_block_type": None,
        "up_block_types": ("CrossAttnUpBlock2D",),
        "cross_attention_dim": 32,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return UNet2DConditionModel(**{**config, **changes}).eval()


def tiny_model(unet: Any, sha256: str = "b" * 64) -> Any:
    """A StableDiffusion around ``unet`` that predicts; it has no autoencoder and no text encoder."""
    import torch
    from diffusers import DDPMScheduler

    from fade.models.stable_diffusion import StableDiffusion

    parts = {"unet": unet, "vae": None, "tokenizer": None, "scheduler": DDPMScheduler()}
    return StableDiffusion("tiny", parts, sha256, torch.device("cpu"))


def tiny_tokenizer(words: tuple[str, ...] = WORDS, max_tokens: int = 16, pad: str = "") -> Any:
    """A CLIPTokenizer that knows ``words`` as whole tokens and every other word by its letters; ``pad``: its
    padding token, with the id 0."""
    from transformers import CLIPTokenizer

    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)] + list("0123456789,.-'")
    pieces: dict[str, None] = dict.fromkeys([*pad, *letters, *(f"{c}</w>" for c in letters)])
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            merges[(parts[0], parts[1])] = None
            parts[:2] = [parts[0] + parts[1]]
            pieces[parts[0]] = None
    vocab = {piece: i for i, piece in enumerate([*pieces, "<|startoftext|>", "<|endoftext|>"])}
    options = {"pad_token": pad} if pad else {}
    return CLIPTokenizer(vocab=vocab, merges=list(merges), model_max_length=max_tokens, **options)


def make_tiny_base(folder: Path, *, seed: int = 0, max_tokens: int = 16, **unet: Any) -> Path:
    """Write a miniature StableDiffusionPipeline (safetensors only) to ``folder`` and return it. About a
    second, offline.

    Latents are 4x8x8 (64x64 pictures, factor 8), prompts at most ``max_tokens`` tokens, everything seeded.
    ``unet``: see `tiny_unet`."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = tiny_tokenizer(max_tokens=max_tokens)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=max_tokens,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                projection_dim=32,
            )
        ).eval()
        vae = AutoencoderKL(
            block_out_channels=(4, 4, 8, 8),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=2,
            sample_size=64,
            scaling_factor=0.5,
        ).eval()
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=tiny_unet(seed, **unet),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder, safe_serialization=True)
    return folder


def make_bare_base(folder: Path) -> Path:
    """Write a StableDiffusionPipeline's directory that passes every check before a weight is read, and loads
    as nothing: a tokenizer without words, weights without tensors. No torch."""
    configs: dict[str, tuple[str, dict[str, object]]] = {
        "unet": ("config.json", {"sample_size": 8, "block_out_channels": [8]}),
        "vae": ("config.json", {}),
        "text_encoder": ("config.json", {}),
        "tokenizer": ("tokenizer_config.json", {"model_max_length": 16}),
        "scheduler": ("scheduler_config.json", {}),
    }
    for part, (name, content) in configs.items():
        (folder / part).mkdir(parents=True)
        (folder / part / name).write_text(json.dumps(content))
    (folder / "tokenizer/tokenizer.json").write_text("{}")
    for file in ("unet/diffusion_pytorch_model", "vae/diffusion_pytorch_model", "text_encoder/model"):
        (folder / f"{file}.safetensors").write_bytes(EMPTY_WEIGHTS)
    (folder / "model_index.json").write_text(json.dumps({part: ["diffusers", "X"] for part in configs}))
    return folder


def make_bare_model(folder: Path) -> Path:
    """As `make_bare_base`, a CLIP's or a judge's directory."""
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(EMPTY_WEIGHTS)
    return folder


def make_tiny_clip(folder: Path) -> Path:
    """Write a CLIPModel of 16 x 16 pictures and 16 tokens, seeded, with its tokenizer."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    tokenizer = tiny_tokenizer()
    tower = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    special = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    text = {**tower, **special, "vocab_size": len(tokenizer), "max_position_embeddings": 16}
    vision = {**tower, "image_size": 16, "patch_size": 8}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_tiny_judge(folder: Path, labels: Sequence[str] = ("a", "b", "c")) -> Path:
    """Write a ResNet of 16 x 16 pictures and these labels, seeded."""
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    sizes: dict[str, Any] = {"embedding_size": 4, "hidden_sizes": [4, 6], "depths": [1, 1]}
    names = dict(enumerate(map(str, labels)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ResNetConfig(**sizes, layer_type="basic", id2label=names)
        model = ResNetForImageClassification(config)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 16, "width": 16}}')
    return folder


def bare_job(out: Path) -> Any:
    """A `fade.jobs.train.TrainJob` of tiny fields for ``out``, not written; what it names is missing."""
    from fade.jobs.train import TrainJob
    from fade.training.settings import ErasureTarget

    return TrainJob(
        base="base",
        base_sha256="b" * 64,
        subjects=(ErasureTarget(target="panda", neighbours=("koala", "bear")),),
        prompt="a {concept}",
        latents=out.parent / "latents.safetensors",
        latents_sha256="0" * 64,
        out=out,
    )


def run_training(job: Any, base: Any = None, device: str = "cpu", watch: Any = None) -> Any:
    """Run a training as a flow does; its `tasks.stages.train.Trained`. watch: called with the progress."""
    from fade.jobs.base import no_progress
    from tasks.launch.run_job import run_job
    from tasks.stages.train import read_result

    options = {"deadline": job.train.deadline_seconds, "device": device, "base": base}
    return read_result(job, reused=run_job(job, watch or no_progress, **options))


@cache
def command_line() -> Any:
    """All of `fade` as click's group. Made once: typer reads the signatures of all commands."""
    import typer

    from flows.cli import app

    return typer.main.get_command(app)


def forked(work: Callable[[], object]) -> int:
    """Do ``work`` in a copy of this process, which has all imports behind it, and return how that ended (a
    signal: negative)."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # later Pythons warn of threads, which the copy does not need
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)  # nothing of pytest's must run twice


def make_latents(
    path: Path, *, k: int = 5, m: int = 8, shape: tuple[int, int, int] = (4, 8, 8), seed: int = 0
) -> Path:
    """Write random clean latents of one target as the mining step does: its own (m, C, h, w), its neighbours'
    (K, m, C, h, w)."""
    import torch
    from safetensors.torch import save_file

    from fade.training.batches import latent_names

    generator = torch.Generator().manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    target = torch.randn(m, *shape, generator=generator)
    neighbours = torch.randn(k, m, *shape, generator=generator)
    save_file(dict(zip(latent_names(0), (target, neighbours), strict=True)), str(path))
    return path


def ends(process: Any, patience: float = 10) -> bool:
    """Whether a psutil.Process of another parent ends before long; one that nobody has waited for yet has
    ended."""
    import psutil

    until = time.monotonic() + patience
    while time.monotonic() < until:
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False
