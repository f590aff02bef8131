"""The sections that decide what a run mines and trains. What it judges and attacks: `evaluation`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from fade.config.section import (
    Affects,
    Count,
    Fraction,
    Positive,
    Rate,
    Section,
    Seed,
    Steps,
    Weight,
    check_slots,
)

MAX_RANK, MAX_ALPHA = 1 << 14, 1e6
"""Of an adapter: a rank beyond a layer's width adds nothing, and an update beyond this is no number soon."""
DvcFiles = tuple[Path, ...]


class DataConfig(Section):
    """Where the data set, the base and the judge lie, and how they get there."""

    dvc_file: Annotated[Path | DvcFiles, Affects("nothing")] = Path("data.dvc")
    """What is pulled: one .dvc file, several, or none ([]) of parts that DVC does not track. None of their
    outputs is trusted before it was rehashed. A run records the pictures that it used, tracked or not."""
    remote: Annotated[str, Affects("nothing")] = "embedded"
    """Name of the DVC remote; teams add their own S3 remote beside the embedded folder."""
    private_remotes: Annotated[tuple[str, ...], Affects("nothing")] = ()
    """Remotes that nobody outside of the team reads: the only ones to which a set that may not be passed on
    (licence LicenseRef-...) is pushed."""
    images: Path = Path("data/emoji")
    """Folder of pictures with its manifest.csv."""
    base: str = "data/base"
    """Local directory in diffusers' layout; a hub id, pinned: owner/name@REVISION (then the network is used,
    unless the hub's cache has it); or one .safetensors file in the original layout, see base_config."""
    base_config: Annotated[str, Affects("nothing")] = ""
    """Of a base that is one file: local directory with the configurations, tokenizers and scheduler of its
    family, in diffusers' layout, and with the weights of the parts that the file does not hold. The base's
    hash, which is in every key, counts what is read of it."""
    clip: str = "data/base/clip"
    """CLIPModel (both towers) whose image features mine the neighbourhood; directory or hub id."""
    judge: Annotated[str, Affects("evaluation")] = "data/judge"
    """Image classifier that transformers loads; directory or hub id."""
    second_judge: Annotated[str, Affects("evaluation")] = ""
    """A second classifier of the same concepts whose features are not the judge's, as `judge`: its verdicts
    stand beside the judge's, and what the two differ on is shown. Empty: none."""
    erase: Literal["concepts", "styles"] = "concepts"
    """What a target names: a concept of the manifest, or one of its styles (artists)."""

    @property
    def dvc_files(self) -> tuple[Path, ...]:
        """``dvc_file``, also where it is one alone."""
        return (self.dvc_file,) if isinstance(self.dvc_file, Path) else self.dvc_file


class ModelConfig(Section):
    """How the base is held in memory."""

    dtype: Literal["fp32", "bf16"] = "fp32"
    """Of the weights of its denoiser and text encoders. Its autoencoder, the adapters and what the optimiser
    keeps are float32 always. Named, not guessed from the device: it decides every picture and adapter."""
    memory_gb: Annotated[Weight, Affects("nothing")] = 0.0
    """GB (10^9 bytes) of the device that may be used; 0: all that it has, not what is free at the moment, so
    that the batches are the same in every run. They shrink to fit, which moves a result's last bits alone."""
    gradient_checkpointing: Annotated[Literal["auto", "always", "never"], Affects("nothing")] = "auto"
    """Recompute activations in the backward pass: less memory, one more forward pass a step, the same
    gradients. auto: only where a training step would not fit without it."""


class ChecksConfig(Section):
    """Thresholds of the data checks (Great Expectations)."""

    min_per_concept: Positive = 5
    """Training pictures that each concept must have."""
    kind: Literal["drawings", "photographs"] = "drawings"
    """Of the pictures: drawings have one size, photographs any of at least ``min_side`` pixels."""
    size: Positive = 64
    """Width and height of every drawing, pixels."""
    min_side: Positive = 64
    """Shorter side of every photograph, pixels."""
    max_aspect: Weight = 6.0
    """Longer side of every photograph over its shorter one, at most."""
    licences: tuple[str, ...] = ("Apache-2.0", "MIT", "CC-BY-4.0")
    """SPDX ids that may be in the data set."""
    min_std: Weight = 4.0
    """A picture whose grey levels (0-255) spread less than this is blank."""
    min_judge_confidence: Fraction = 0.5
    """Mean probability that the judge gives a mined concept's own name; below it: a warning."""


class SelfTestConfig(Section):
    """What each model puts out for a fixed input, compared with the same weights before and elsewhere."""

    tolerance: Fraction = 0.04
    """Greatest difference of a number, most of them in units of a root mean square; four times as much in
    half precision. See `fade.provenance.self_tests` for what moves them by how much."""
    difference: Literal["refuse", "warn"] = "refuse"
    """What follows from a greater one."""


class SamplerConfig(Section):
    """How pictures are made: for mining, evaluation and `fade generate`."""

    scheduler: Literal["ddim", "euler", "euler_ancestral", "dpmpp_2m", "unipc"] = "dpmpp_2m"
    """Solver; all but euler_ancestral are deterministic given the initial latents."""
    steps: Steps = 10
    """Solver steps."""
    spacing: Literal["leading", "trailing", "linspace"] = "trailing"
    """Which timesteps a few-step solver visits; trailing starts at pure noise."""
    guidance_scale: Annotated[float, Field(ge=1)] = 4.0
    """Classifier-free guidance; 1 = off (no null-prompt pass)."""
    guidance_interval: tuple[Fraction, Fraction] = (0.0, 1.0)
    """Shares of the noise schedule (0: the clean picture, 1: pure noise) from and to which guidance acts;
    outside it is off, and a step costs half (after arXiv 2404.07724)."""
    batch_size: Positive = 32
    """Pictures a UNet call, across concepts."""
    prompt: str = "a {concept}"
    """Template of mining and evaluation prompts."""
    negative_prompt: str = ""
    """Prompt of the unconditional branch."""

    @model_validator(mode="after")
    def _has_slot(self) -> SamplerConfig:
        check_slots("prompt", self.prompt, "concept")
        return self

    @field_validator("guidance_interval")
    @classmethod
    def _in_order(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if interval[0] >= interval[1]:
            raise ValueError("guidance_interval begins where it ends, or beyond; write [0, 1] for all times")
        return interval


class NeighborhoodConfig(Section):
    """Concept Neighborhood (FADE, arXiv 2503.19783)."""

    k: Positive = 5
    """Neighbours that are trained on (paper: 5)."""
    k_heldout: Count = 5
    """The next neighbours: never trained on, only measured (ours)."""
    images_per_concept: Positive = 8
    """m: pictures a candidate, made by the original model. Not published; ours."""
    seed: Seed = 1000
    """Seed of the mined pictures' initial latents."""


LAYER_ROLES = ("all", "self", "cross", "text", "text_kv", "text_in")
"""What mesh.targets may name beside the ends of layers' names; a family has some of them."""


class MeshConfig(Section):
    """Mesh Modules: a LoRA on the denoiser's transformer blocks."""

    rank: Annotated[int, Field(ge=1, le=MAX_RANK)] = 1
    """LoRA rank (the authors': 1). A higher one erases sooner and takes more with it that was not mined."""
    alpha: Annotated[float, Field(gt=0, le=MAX_ALPHA)] = 1.0
    """LoRA alpha; the update is scaled by alpha / rank."""
    targets: tuple[str, ...] = ("all",)
    """Layers of the denoiser's transformer blocks that get an adapter: roles of the model's family (``all``,
    ``self``, ``cross``, ``text``: what reads the text) or ends of module names (``attn2.to_k``)."""


class TrainConfig(Section):
    """The one training loop."""

    steps: Positive = 250
    """Optimiser steps, for each target."""
    batch_target: Positive = 2
    """Target latents a step and process."""
    batch_neighbours: Positive = 10
    """Neighbour latents a step and process."""
    lr: Rate = 2e-3
    """Peak learning rate of AdamW, reached after warm-up, then linear decay to 0."""
    warmup: Count = 20
    """Warm-up steps."""
    weight_decay: Weight = 1.0
    """AdamW weight decay (a step shrinks the adapter by lr * weight_decay): components that no loss term
    sustains decay, which limits the damage to concepts outside the loss."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient clipping (global L2 norm)."""
    loss_in: Literal["own", "noise"] = "own"
    """What a loss compares: the network's own outputs (noise, v or a velocity), or the noise in x_t according
    to them, which weighs a difference of v by sqrt(abar_t) and one of velocities by 1 - s. Ours to choose. A
    base that predicts noise trains the same adapter either way; a closed form has no loss and, as with lr and
    steps, no use for it."""
    gradient_accumulation: Positive = 1
    """Micro-batches an optimiser step."""
    seed: Seed = 0
    """Names every draw of the training: LoRA init, noise, timesteps, batch order."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 on a GPU that has it, else fp32."""
    processes: Positive = 1
    """Processes that accelerate starts on this machine; asserted by the trainer."""
    checkpoint_every: Annotated[Positive, Affects("nothing")] = 50
    """Steps between checkpoints; the last two are kept."""
    deadline_seconds: Annotated[float, Field(gt=0), Affects("nothing")] = 7200.0
    """The whole process group is stopped after this."""
