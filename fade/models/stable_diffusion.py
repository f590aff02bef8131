"""A Stable Diffusion held open: one UNet in memory, prompts encoded once, noise predicted in batches."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import diffusers
import numpy as np
import torch
import torch.nn.functional as F
import transformers
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from fade.errors import BaseModelError
from fade.models.loading import LOCAL, PIPELINE_PARTS, check_pipeline, directory_sha256, resolve
from fade.models.probe import infinite_part


class Base:
    """The original model. Adapters are inserted into ``unet`` by ``fade.adapters.lora`` and switched off to
    get the teacher back."""

    def __init__(self, path: str, parts: dict[str, Any], sha256: str, device: torch.device) -> None:
        self.path, self.sha256, self.device = path, sha256, device
        self.unet, self.vae, self.text_encoder = parts["unet"], parts["vae"], parts["text_encoder"]
        self.tokenizer, self.scheduler = parts["tokenizer"], parts["scheduler"]
        self._encoded: dict[str, Tensor] = {}

    @classmethod
    def load(cls, path: str, *, device: str = "auto") -> Base:
        """Load a local directory in diffusers' Stable Diffusion layout (or a hub id) in float32, frozen, in
        eval mode.

        Raises BaseModelError when the directory is missing, incomplete, unreadable, or holds anything but
        safetensors, and when its output is not finite."""
        home = resolve(path)
        check_pipeline(home)
        models: dict[str, Any] = {
            "unet": UNet2DConditionModel,
            "vae": AutoencoderKL,
            "text_encoder": CLIPTextModel,
        }
        others: dict[str, Any] = {"tokenizer": CLIPTokenizer, "scheduler": DDPMScheduler}
        parts: dict[str, Any] = {}
        where = torch.device(pick_device(device))
        try:
            for name, kind in models.items():
                model = kind.from_pretrained(home / name, use_safetensors=True, **LOCAL)
                parts[name] = model.eval().requires_grad_(False)
            # on the CPU: the GPU's libraries must not start before `enable_determinism`
            infinite = infinite_part(parts)
            for name in models:
                parts[name] = parts[name].to(where)
            for name, kind in others.items():
                parts[name] = kind.from_pretrained(home / name, **LOCAL)
        except Exception as error:  # the libraries raise a dozen kinds
            action = "compare it with a directory that diffusers saved."
            raise BaseModelError(f"{path} cannot be loaded: {error}.", stage="base", action=action) from error
        if infinite:
            what = f"{path}: the output of its {infinite} is not finite."
            raise BaseModelError(what, stage="base", action="fetch the model anew: its weights are broken.")
        return cls(path, parts, directory_sha256(home, PIPELINE_PARTS), where)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""
        size = self.unet.config.sample_size
        return (self.unet.config.in_channels, size, size)

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Prompt embeddings (B, T, D) on the device; each prompt is encoded once in the life of the model."""
        new = [p for p in dict.fromkeys(prompts) if p not in self._encoded]
        for start in range(0, len(new), 256):
            part = new[start : start + 256]
            size = {"max_length": self.tokenizer.model_max_length, "truncation": True}
            ids = self.tokenizer(part, padding="max_length", return_tensors="pt", **size)
            with torch.no_grad():
                states = self.text_encoder(input_ids=ids["input_ids"].to(self.device)).last_hidden_state
            self._encoded.update(zip(part, states, strict=True))
        return torch.stack([self._encoded[p] for p in prompts])

    @contextlib.contextmanager
    def no_embeddings(self) -> Iterator[None]:
        """Inside, no prompt counts as encoded yet; afterwards the embeddings are those of before.

        The composition of a batch decides an embedding's last bits, so a training that must give the same
        bytes in every process starts from none."""
        before, self._encoded = self._encoded, {}
        try:
            yield
        finally:
            self._encoded = before

    def predict_noise(self, latents: Tensor, timesteps: Tensor, embeds: Tensor) -> Tensor:
        """Predicted noise (B, C, h, w) of noisy latents (B, C, h, w) at timesteps (B,) under embeddings (B,
        T, D)."""
        noise: Tensor = self.unet(latents, timesteps, encoder_hidden_states=embeds).sample
        return noise

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t of clean latents (B, C, h, w): sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise."""
        noisy: Tensor = self.scheduler.add_noise(latents, noise, timesteps)
        return noisy

    @property
    def picture_size(self) -> int:
        """Width and height of one picture, pixels."""
        return int(self.latent_shape[-1] * 2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def _scale_and_shift(self) -> tuple[float, float]:
        config = self.vae.config
        return config.scaling_factor, getattr(config, "shift_factor", None) or 0.0

    @torch.no_grad()
    def encode_pictures(self, pixels: np.ndarray, batch_size: int = 64) -> Tensor:
        """The inverse of ``decode``: pictures (B, H, W, 3), uint8, to scaled latents (B, C, h, w), float32 on
        the CPU.

        The mean of the autoencoder's posterior, hence without a draw; a picture of another size is resized to
        the model's own."""
        scale, shift = self._scale_and_shift
        size = (self.picture_size, self.picture_size)
        out = []
        for part in torch.from_numpy(pixels).split(batch_size):
            x = part.permute(0, 3, 1, 2).float() / 127.5 - 1
            if x.shape[-2:] != size:
                how: dict[str, Any] = {"mode": "bicubic", "antialias": True, "align_corners": False}
                x = F.interpolate(x, size=size, **how).clamp(-1, 1)
            mean = self.vae.encode(x.to(self.device)).latent_dist.mode()
            out.append(((mean - shift) * scale).float().cpu())
        return torch.cat(out)

    @torch.no_grad()
    def decode(self, latents: Tensor, batch_size: int = 64) -> np.ndarray:
        """Pictures (B, H, W, 3), uint8, of scaled latents (B, C, h, w)."""
        scale, shift = self._scale_and_shift
        out = []
        for part in latents.split(batch_size):
            picture = self.vae.decode(part.to(self.device) / scale + shift).sample
            levels = ((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            out.append(levels.permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(out)


def pick_device(device: str = "auto") -> str:
    """``auto``: the process's GPU when there is one, else the CPU."""
    if device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def suppress_library_output() -> None:
    """Model libraries print bars and advice of their own; the command line has one voice."""
    with contextlib.suppress(AttributeError):
        diffusers.utils.logging.set_verbosity_error()
        diffusers.utils.logging.disable_progress_bar()
        transformers.utils.logging.set_verbosity_error()
        transformers.utils.logging.disable_progress_bar()
