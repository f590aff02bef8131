"""What a text-to-image model of any family does: encode prompts, predict, solve, decode.

One file of this folder a family; nothing outside of the folder knows which one a model is of."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fade.config.run import LAYER_ROLES
from fade.errors import AdapterError, UsageError
from fade.models.batches import Batches, on_device, text_encoders
from fade.models.capabilities import refusal
from fade.models.conditioning import Conditioning, TextPath
from fade.models.hashed import HashedModel
from fade.models.layers import adaptable_layers
from fade.models.placement import place

if TYPE_CHECKING:
    from fade.config import SamplerConfig


class DiffusionModel(HashedModel, ABC):
    """The original model, held open: one denoiser in memory, frozen. Adapters are inserted into ``denoiser``
    by ``fade.adapters.lora`` and switched off to get the teacher back."""

    FAMILY: ClassVar[str]
    """Its name in records and sentences."""
    DENOISER: ClassVar[str]
    """The denoiser's part; its name stands before the layers' in an adapter file, as in diffusers'."""
    KOHYA: ClassVar[str] = ""
    """What stands before a layer's name in kohya's files, "" for a family that diffusers reads none of."""
    ROLES: ClassVar[Mapping[str, tuple[str, ...]]]
    """Role of layers -> ends of their modules' names."""
    BLOCKS: ClassVar[tuple[str, ...]]
    """Where adapters may sit: classes of modules."""
    OUTSIDE: ClassVar[tuple[str, ...]] = ()
    """And names of layers outside of those."""
    SOLVERS: ClassVar[tuple[str, ...]]
    """Values of sampler.scheduler that it has."""

    def __init__(
        self,
        path: str,
        parts: Mapping[str, Any],
        sha256: str,
        device: torch.device,
        index: Mapping[str, Any] | None = None,
    ) -> None:
        """index: what the directory's ``model_index.json`` holds."""
        self.path, self.sha256, self.device, self.parts = path, sha256, device, dict(parts)
        self.index = index or {}
        self.denoiser: Any = parts[self.DENOISER]
        self.vae, self.tokenizer, self.scheduler = (parts[key] for key in ("vae", "tokenizer", "scheduler"))
        self._encoded: dict[str, Conditioning] = {}
        self.batches = Batches()
        self.text_device: torch.device | None = None  # where the text encoders wait, if not with the rest

    # What a family defines.

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of one latent."""

    @property
    @abstractmethod
    def capabilities(self) -> frozenset[str]:
        """See `fade.models.capabilities`."""

    @abstractmethod
    def encode_batch(self, prompts: Sequence[str]) -> Conditioning:
        """The prompts through the text encoders, on the device."""

    @abstractmethod
    def call(self, network: Any, x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The network's own output (B, C, h, w); everything has its dtype."""

    @abstractmethod
    def sample_times(self, n: int, generator: torch.Generator) -> Tensor:
        """(n,) times of the family's own training distribution, on the CPU."""

    @abstractmethod
    def times_at(self, shares: Tensor) -> Tensor:
        """Times (n,) at shares (n,) in [0, 1) of the schedule, 0 being the clean picture."""

    @abstractmethod
    def add_noise(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t (B, C, h, w) of clean latents and noise (B, C, h, w) at times (B,)."""

    @abstractmethod
    def target(self, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """What the network was trained to put out for `add_noise` of the same: in `predict`'s own terms."""

    @abstractmethod
    def to_noise(self, prediction: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The noise in x_t (B, C, h, w) according to a prediction of `predict`."""

    @abstractmethod
    def example(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Conditioning]:
        """A small random input of `predict`, on the device: x (1, C, s, s), t (1,), one prompt. It shows what
        a loaded model and an adapter put out."""

    @abstractmethod
    def solver(self, sampler: SamplerConfig) -> Any:
        """diffusers' scheduler for ``sampler``, its timesteps set. Raises UsageError for a sampler that the
        family does not have."""

    @property
    def text_paths(self) -> Mapping[str, TextPath]:
        """Name -> where it stands in a `Conditioning`: the ways by which a text reaches the denoiser. They do
        not overlap, and what is outside of all is the same for every prompt."""
        return {"clip": TextPath()}

    @property
    def token_blocks(self) -> Mapping[str, slice]:
        """Tokenizer (a part) -> where its prompts' tokens stand in `Conditioning.tokens`."""
        return {"tokenizer": slice(0, None)}

    # What all families share.

    @classmethod
    def require_sampler(cls, sampler: SamplerConfig, path: str, denoiser: Mapping[str, Any]) -> None:
        """Raises UsageError, which names the setting, for a sampler that the family does not have.

        path: of the model, for the sentence; denoiser: its denoiser's configuration. No weight is read."""
        if sampler.scheduler not in cls.SOLVERS:
            why = f"{cls.FAMILY} has the solver {' or '.join(cls.SOLVERS)} alone."
            setting, instead = f"sampler.scheduler {sampler.scheduler}", " or ".join(cls.SOLVERS)
            raise cls._refusal(setting, path, why, f"sampler.scheduler={instead}")

    @classmethod
    def require_roles(cls, targets: Sequence[str], path: str) -> None:
        """Raises UsageError for a role of layers in mesh.targets that the family does not have. path: of the
        model, for the sentence."""
        for role in targets:
            if role in LAYER_ROLES and role not in cls.ROLES:
                why, known = f"no layers of {cls.FAMILY} have this role.", ", ".join(cls.ROLES)
                raise cls._refusal(f"mesh.targets {role}", path, why, f"mesh.targets to some of {known}")

    @staticmethod
    def _refusal(setting: str, path: str, why: str, instead: str) -> UsageError:
        what = f"{setting} cannot be used with {path}: {why}"
        return UsageError(what, stage="models", action=f"set {instead}.")

    def predict(self, x: Tensor, t: Tensor, cond: Conditioning, network: Any = None) -> Tensor:
        """The network's own output (B, C, h, w), in x's dtype, for noisy latents (B, C, h, w) at times (B,):
        noise, v, or a velocity. network: the denoiser as accelerate wrapped it; else ``denoiser``."""
        pooled = None if cond.pooled is None else cond.pooled.to(self.dtype)
        cond = replace(cond, tokens=cond.tokens.to(self.dtype), pooled=pooled)
        return self.call(network or self.denoiser, x.to(self.dtype), t, cond).to(x.dtype)

    @property
    def dtype(self) -> torch.dtype:
        """Of the denoiser's weights."""
        return next(self.denoiser.parameters()).dtype  # type: ignore[no-any-return]

    @property
    def image_size(self) -> int:
        """Width and height of one picture, pixels."""
        return self.latent_shape[-1] * self.vae_factor

    @property
    def vae_factor(self) -> int:
        """Pixels a latent's element is wide and high."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def move(self, device: torch.device) -> None:
        """Put every part on the device, the text encoders too."""
        for part in self.parts.values():
            if isinstance(part, torch.nn.Module):
                place(part, device)
        self.device = device

    def token_limit(self, tokenizer: str) -> int:
        """Tokens of a prompt, begin and end included, that the encoder of a tokenizer (a part) reads."""
        return int(self.parts[tokenizer].model_max_length)

    def require(self, capability: str, what: str) -> None:
        """Raises UsageError, which names the family, when ``what`` needs a capability that it lacks."""
        if capability not in self.capabilities:
            raise refusal(capability, what, self.path, self.FAMILY)

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """The prompts' conditioning on the device; each prompt is encoded once in the life of the model."""
        new = [p for p in dict.fromkeys(prompts) if p not in self._encoded]
        n, encoders = self.batches.prompts, text_encoders(self.parts) if new else []
        with on_device(encoders, self.device, self.text_device):
            for part in (new[start : start + n] for start in range(0, len(new), n)):
                with torch.no_grad():
                    rows = self.encode_batch(part)
                self._encoded.update({prompt: rows[i : i + 1] for i, prompt in enumerate(part)})
        first, *others = (self._encoded[p] for p in prompts)
        return first.join(*others)

    def name_to_end(self, template: str, name: str) -> list[slice]:
        """Of each of `token_blocks`: from the last token of ``name`` in the prompt ``template`` (with the
        slot {concept}) to the block's end. Every tokenizer ends a text by one token."""
        begin = template.rpartition("{concept}")[0].format(concept=name) + name
        return [
            slice(block.start + max(0, len(self.parts[part](begin)["input_ids"]) - 2), block.stop)
            for part, block in self.token_blocks.items()
        ]

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

    def predict_guided(
        self, x: Tensor, t: Tensor, cond: Conditioning, null: Conditioning, scale: float
    ) -> Tensor:
        """As `predict`, at a guidance scale: classifier-free, against ``null``; 1 = off."""
        if scale <= 1:
            return self.predict(x, t, cond)
        u, c = self.predict(torch.cat([x, x]), torch.cat([t, t]), null.join(cond)).chunk(2)
        return u + scale * (c - u)

    def noised(self, solver: Any, clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Clean latents as the solver has them at times (B,): some scale what they work on."""
        noisy: Tensor = solver.add_noise(clean, noise, t)
        return noisy

    def layers(self, targets: Sequence[str]) -> list[str]:
        """Full names of the denoiser's Linear and 1x1 Conv layers that ``targets`` name: a role of `ROLES`,
        or the end of a module's name. Raises AdapterError for one that names nothing."""
        inside = adaptable_layers(self.denoiser, self.BLOCKS, self.OUTSIDE)
        ends = self.layer_ends(targets)
        hits = {name: [end for end in ends if f".{name}".endswith(f".{end}")] for name in inside}
        used = {end for found in hits.values() for end in found}
        if missing := [end for end in ends if end not in used]:
            roles = ", ".join(self.ROLES)
            what = f"mesh.targets: {missing[0]!r} names no layer of {self.FAMILY}'s {self.DENOISER}"
            raise AdapterError(
                f"{what}, which has {len(inside)} layers that can be adapted.",
                stage="mesh",
                action=f"correct mesh.targets: a part of a layer's name, or one of {roles}.",
            )
        return [name for name, found in hits.items() if found]

    def layer_ends(self, targets: Sequence[str]) -> tuple[str, ...]:
        """``targets`` with each role as the ends of names that it stands for, none twice."""
        return tuple(dict.fromkeys(end for one in targets for end in self.ROLES.get(one, (one,))))

    @property
    def _scale_and_shift(self) -> tuple[float, float]:
        config = self.vae.config
        return config.scaling_factor, getattr(config, "shift_factor", None) or 0.0

    @torch.no_grad()
    def encode_pictures(self, pixels: np.ndarray) -> Tensor:
        """The inverse of ``decode``: pictures (B, H, W, 3), uint8, to scaled latents (B, C, h, w), float32 on
        the CPU: the mean of the autoencoder's posterior, hence without a draw.

        A picture of another size is resized to the model's own."""
        scale, shift = self._scale_and_shift
        size = (self.image_size, self.image_size)
        out = []
        for part in torch.from_numpy(pixels).split(self.batches.encode):
            x = part.permute(0, 3, 1, 2).float() / 127.5 - 1
            if x.shape[-2:] != size:
                how: dict[str, Any] = {"mode": "bicubic", "antialias": True, "align_corners": False}
                x = F.interpolate(x, size=size, **how).clamp(-1, 1)
            mean = self.vae.encode(x.to(self.device)).latent_dist.mode()
            out.append(((mean - shift) * scale).float().cpu())
        return torch.cat(out)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> np.ndarray:
        """Pictures (B, H, W, 3), uint8, of scaled latents (B, C, h, w)."""
        scale, shift = self._scale_and_shift
        out = []
        for part in latents.split(self.batches.decode):
            picture = self.vae.decode(part.to(self.device) / scale + shift).sample
            levels = ((picture.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            out.append(levels.permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(out)
