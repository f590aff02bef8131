"""The denoisers of the miniatures: a UNet or a transformer, trained by one loop for every family.

The loop knows a family by `fade.models.base.DiffusionModel` alone: its encoders, its times, its noise and its
network's own target."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from fade.config import DenoisingConfig
from fade.errors import DataError
from fade.judges.supervised_loop import Logs, Training, fit
from fade.models.base import DiffusionModel
from fade.pretrain.captions import Scene, Thing, caption

STRATA = 16
"""Times sampled for each that is used, see `stratified_times`."""
PART = 64
"""Pictures encoded at once."""


@dataclass(frozen=True)
class Bank:
    """Encoded scenes: captions are made anew each time one is used."""

    latents: Tensor
    """(N, C, h, w), scaled as the model reads them."""
    scenes: Sequence[Scene]

    def save(self, folder: Path) -> None:
        save_file({"latents": self.latents.half().contiguous()}, folder / "latents.safetensors")
        (folder / "scenes.json").write_text(json.dumps([asdict(one) for one in self.scenes]), "utf-8")

    @classmethod
    def load(cls, folder: Path) -> Bank:
        latents = load_file(folder / "latents.safetensors")["latents"].float()
        rows = json.loads((folder / "scenes.json").read_text(encoding="utf-8"))
        scenes = [Scene(tuple(Thing(**one) for one in row["things"]), row["relation"]) for row in rows]
        return cls(latents, scenes)


@torch.no_grad()
def encode_bank(
    vae: Any,
    pictures: Any,
    size: int,
    seed: int,
    on_step: Callable[[int, int], None] = lambda done, all: None,
) -> Bank:
    """``size`` scenes of ``pictures`` (`fade.pretrain.scenes.SceneSampler`) through the autoencoder."""
    latents: list[Tensor] = []
    scenes: list[Scene] = []
    for start in range(0, size, PART):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + start)
        batch = pictures.batch(min(PART, size - start), generator)
        encoded = vae.encode(batch.x).latent_dist.mode() * float(vae.config.scaling_factor)
        latents.append(encoded.half())
        scenes += batch.scenes
        on_step(start + len(batch.scenes), size)
    return Bank(torch.cat(latents).float(), scenes)


def stratified_times(model: DiffusionModel, n: int, generator: torch.Generator, power: float = 0.0) -> Tensor:
    """(n,) times of the family's distribution, one from each n-th of it: less noise in a step's gradient.

    power: a time's probability is multiplied by SNR^-power (ours; Min-SNR, arXiv 2303.09556, does so above a
    threshold alone). In clean latents an error of the noise counts SNR times, so that without it a model
    learns what a picture shows, which much noise decides, last."""
    times = model.sample_times(n * STRATA, generator).sort().values
    edges = signal_to_noise(model, times).pow(-power).cumsum(0)
    places = (torch.arange(n) + torch.rand(n, generator=generator)) / n * edges[-1]
    return times[torch.searchsorted(edges, places).clamp_max(len(times) - 1)]


def signal_to_noise(model: DiffusionModel, t: Tensor) -> Tensor:
    """(n,) SNR at times (n,): the squared ratio of the clean latents' share to the noise's."""
    one, zero = torch.ones(len(t), 1, 1, 1), torch.zeros(len(t), 1, 1, 1)
    return (model.add_noise(one, zero, t) / model.add_noise(zero, one, t)).square().flatten()


def training_noise(clean: Tensor, offset: float, generator: torch.Generator) -> Tensor:
    """Standard normal noise (n, C, h, w), and on it a normal number of deviation ``offset`` for each channel.

    At the last time of Stable Diffusion's schedule a latent's mean still stands out of the noise; a model
    that reads it there draws things of the size that the mean of a sampler's first noise suggests."""
    noise = torch.randn(clean.shape, generator=generator)
    return noise + offset * torch.randn(*clean.shape[:2], 1, 1, generator=generator)


def train(
    model: DiffusionModel,
    bank: Bank,
    config: DenoisingConfig,
    training: Training,
    without_t5: DiffusionModel | None = None,
) -> None:
    """Train the model's denoiser in place: mean squared error against the network's own target; a share of
    the captions is dropped to the empty prompt.

    without_t5: a model of the same denoiser that lacks the third text encoder; it encodes a share of the
    batches, so that the base can be used without that encoder, too. Raises DataError for ``extra_pairs`` of a
    bank that has none, and as `fit`."""
    model.denoiser.requires_grad_(True).train()
    pairs = torch.tensor([i for i, scene in enumerate(bank.scenes) if len(scene.things) == 2])
    if config.extra_pairs and not len(pairs):
        what = "extra_pairs is set, and the bank has no scene of two things."
        raise DataError(what, stage=training.folder.name, action="raise pretrain.scenes.pair above 0.")

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        n = config.batch_size
        pick = torch.randint(len(bank.scenes), (n,), generator=generator)
        if config.extra_pairs:
            extra = torch.rand(n, generator=generator) < config.extra_pairs
            pick[extra] = pairs[torch.randint(len(pairs), (int(extra.sum()),), generator=generator)]
        dropped = torch.rand(n, generator=generator) < config.dropped_captions
        captions = [
            "" if drop else caption(bank.scenes[i], generator, config.plain_captions)
            for i, drop in zip(pick.tolist(), dropped.tolist(), strict=True)
        ]
        lacks_t5 = without_t5 and torch.rand(1, generator=generator).item() < config.dropped_t5
        encoder = without_t5 if without_t5 and lacks_t5 else model
        with torch.no_grad():
            cond = encoder.encode_batch(captions)
        clean = bank.latents[pick]
        noise = training_noise(clean, config.noise_offset, generator)
        first, last = config.snr_power  # layouts first, details last
        t = stratified_times(model, n, generator, first + (last - first) * step / config.steps)
        out = model.predict(model.add_noise(clean, noise, t), t, cond)
        return F.mse_loss(out, model.target(clean, noise, t)), {}

    fit(model.denoiser, loss_at, config, training)
