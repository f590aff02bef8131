"""How much memory a base needs, from its configurations alone, and the batches that fit a device. Ours.

Nothing is allocated: the parts are built on torch's meta device, one prompt, latent and picture go through
them, and every tensor's bytes are counted while it lives. All but the weights grows linearly with the batch,
so one row is enough. Attention is counted in its fused form, which all devices here have."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fade.config import ModelConfig
from fade.errors import ConfigError
from fade.models.base import Batches, DiffusionModel
from fade.models.families import known_families
from fade.models.layout import LOCAL, parts_of, pipeline_class
from fade.models.loading import load_model, pick_device

GB = 1e9
META = torch.device("meta")
PROCESS = int(0.75 * GB)
"""Bytes of a process without a model: its libraries, or a GPU's context. Measured on the CPU (bench/memory.py)."""
HEADROOM = 0.1
"""Share of a device that no plan uses: what an allocator loses between tensors of different sizes."""
SMALL = int(1 * GB)
"""Bytes of weights below which nothing is estimated: such a base's batches are a fraction of any device."""
TEXT_SHARE = 0.05
"""A GPU's text encoders that are a larger share of it than this wait on the CPU."""
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is open: ``live`` now, ``peak`` at most. Tensors
    of before, and views of them, count nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: set[int] = set()
        self._before: dict[int, Any] = {}  # storages are held, so that none of them gives its place away

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        for storage in _storages((args, kwargs)):
            if storage._cdata not in self._known:
                self._before[storage._cdata] = storage
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            key, size = storage._cdata, storage.nbytes()
            if key not in self._known and key not in self._before:
                self._known.add(key)
                self.live += size
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._release, key, size)
        return out

    def _release(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size


def _storages(tree: Any) -> Iterator[Any]:
    return (one.untyped_storage() for one in tree_leaves(tree) if isinstance(one, Tensor))


@contextlib.contextmanager
def fused_attention() -> Iterator[None]:
    """Inside, attention on the meta device is the fused kernel, as on the CPU and a GPU; torch itself would
    take the form that keeps every product. A backward pass that recomputes must be inside, too."""
    usual = F.scaled_dot_product_attention
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def attention(q: Tensor, k: Tensor, v: Tensor, *args: Any, **options: Any) -> Tensor:
        if q.device != META:
            return usual(q, k, v, *args, **options)
        mask = options.get("attn_mask", args[0] if args else None)
        return fused(q, k, v, attn_mask=mask)[0]  # type: ignore[no-any-return]

    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = usual


def empty_model(home: Path, dtype: torch.dtype) -> DiffusionModel:
    """The model of a directory without its weights, on the meta device. Raises as `fade.models.layout`, and
    whatever the libraries raise for a configuration that they cannot read."""
    import diffusers
    import transformers

    parts: dict[str, Any] = {}
    for name, kind in parts_of(home).items():
        owner = getattr(diffusers, kind, None) or getattr(transformers, kind)
        if not issubclass(owner, nn.Module):
            parts[name] = owner.from_pretrained(home / name, **LOCAL)
            continue
        if owner.__module__.startswith("diffusers"):
            config: Any = owner.load_config(home / name, local_files_only=True)
        else:
            config = owner.config_class.from_pretrained(home / name, **LOCAL)
        parts[name] = empty_part(owner, config, torch.float32 if kind == "AutoencoderKL" else dtype)
    return known_families()[pipeline_class(home)](str(home), parts, "", META)


def empty_part(owner: Any, config: Any, dtype: torch.dtype) -> nn.Module:
    """A part of the class ``owner``, frozen, on the meta device."""
    with META:
        part: nn.Module = owner.from_config(config) if hasattr(owner, "from_config") else owner(config)
    return part.to(META, dtype).eval().requires_grad_(False)


def empty_twin(model: DiffusionModel) -> DiffusionModel:
    """A loaded model without its weights, on the meta device."""
    twin = copy.copy(model)
    twin.parts = {name: _emptied(part) for name, part in model.parts.items()}
    twin.denoiser, twin.vae = twin.parts[model.DENOISER], twin.parts["vae"]
    twin.device, twin.text_device = META, None
    return twin


def _emptied(part: Any) -> Any:
    if not isinstance(part, nn.Module):
        return part
    return empty_part(type(part), part.config, next(part.parameters()).dtype)


def weight_bytes(*parts: Any) -> int:
    """Of the parts that are networks."""
    networks = [part for part in parts if isinstance(part, nn.Module)]
    return sum(one.nbytes for part in networks for one in (*part.parameters(), *part.buffers()))


def is_small(model: DiffusionModel) -> bool:
    """Whether the model's weights are below `SMALL`."""
    return weight_bytes(*model.parts.values()) < SMALL


@dataclass(frozen=True)
class Footprint:
    """Bytes that a base needs."""

    weights: int
    """Of all parts but the text encoders."""
    text: int
    """Of the text encoders' weights."""
    prompt: int
    """To encode one prompt."""
    forward: int
    """To predict one latent, without gradients."""
    decode: int
    """To decode one latent into a picture."""
    encode: int
    """To encode one picture."""

    @classmethod
    def of(cls, model: DiffusionModel) -> Footprint:
        """Of a model on the meta device."""
        text = {name: part for name, part in model.parts.items() if name.startswith("text_encoder")}
        rest = [part for name, part in model.parts.items() if name not in text]
        with torch.no_grad(), fused_attention():
            prompt, _ = peak_of(lambda: model.encode_batch(["a"]))
            x, t, cond = example(model)
            side = model.image_size
            picture = torch.empty(1, 3, side, side, device=META)
            forward, _ = peak_of(lambda: model.predict(x, t, cond))
            decode, _ = peak_of(lambda: model.vae.decode(x).sample)
            encode, _ = peak_of(lambda: model.vae.encode(picture).latent_dist.mode())
        weights = (weight_bytes(*rest), weight_bytes(*text.values()))
        return cls(*weights, prompt, forward, decode, encode)


def example(model: DiffusionModel) -> tuple[Tensor, Tensor, Any]:
    """An input of ``predict`` of full size, on the meta device: x (1, C, h, w), t (1,), one prompt."""
    _, t, _ = model.example(torch.Generator().manual_seed(0))
    return torch.empty(1, *model.latent_shape, device=META), t, model.encode_batch(["a"])


def peak_of(work: Callable[[], Any]) -> tuple[int, Any]:
    """The most bytes that ``work`` has alive at once on the meta device, and its result."""
    with LiveBytes() as bytes_:
        result = work()
    return bytes_.peak, result


@cache
def device_bytes(device: str) -> int:
    """Memory of a device: of a GPU all that it has, of the CPU what this machine, or its container, has."""
    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(torch.device(device)).total_memory)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return total


@dataclass(frozen=True)
class Plan:
    """What of a base's work fits a device, and how."""

    budget: int
    """Bytes that the plan may use."""
    resident: int
    """Bytes that are in use between two calls: the process and the weights."""
    text_aside: bool
    """Whether the text encoders wait on the CPU while they encode nothing."""
    footprint: Footprint
    batches: Batches

    @property
    def room(self) -> int:
        """Bytes for a call's activations."""
        return self.budget - self.resident

    @property
    def sampling(self) -> int:
        """Bytes at the peak of sampling and decoding."""
        need = self.footprint
        return self.resident + max(2 * self.batches.sample * need.forward, self.batches.decode * need.decode)


def budget_of(config: ModelConfig, device: str) -> int:
    """Bytes of the device that a run may plan with."""
    return int((config.memory_gb * GB or device_bytes(device)) * (1 - HEADROOM))


def plan(
    need: Footprint,
    config: ModelConfig,
    device: str,
    *,
    wanted: Batches = Batches(),
    beside: int = 0,
    name: str = "the base",
) -> Plan:
    """The largest batches, at most those ``wanted``, halved until each fits.

    beside: bytes of other models on the device. Raises ConfigError, with the numbers, when not even one
    latent or picture at once fits."""
    budget = budget_of(config, device)
    aside = device.startswith("cuda") and need.text > TEXT_SHARE * budget
    resident = PROCESS + need.weights + beside + (0 if aside else need.text)
    room = budget - resident
    least = max(need.forward * 2, need.decode, need.encode, need.prompt + (need.text if aside else 0))
    if room < least:
        what = (
            f"{name} needs about {gb(resident + least)} GB ({gb(resident)} of them between two calls) for one "
            f"picture at once, and {gb(budget)} GB of the device may be used."
        )
        raise ConfigError(what, stage="memory", action=_less_weight(config))
    batches = replace(
        wanted,
        sample=halved(wanted.sample, 2 * need.forward, room),
        predict=halved(wanted.predict, need.forward, room),
        decode=halved(wanted.decode, need.decode, room),
        encode=halved(wanted.encode, need.encode, room),
    )
    return Plan(budget, resident, aside, need, batches)


def _less_weight(config: ModelConfig) -> str:
    smaller = "set model.dtype=bf16, or " if config.dtype == "fp32" else ""
    return f"{smaller}use a device with more memory (model.memory_gb says how much of it may be used)."


def halved(n: int, each: int, room: int) -> int:
    """The first of n, n/2, n/4, ... whose rows of ``each`` bytes fit the room; 1 at least. Halves, so that
    devices of about the same size get the same batches."""
    if n * each <= room:
        return n
    return max(1, n >> max(0, math.ceil(math.log2(n * each / max(room, 1)))))


def gb(size: float) -> str:
    """Bytes as GB with one digit after the point."""
    return f"{size / GB:.1f}"


def require_dtype(config: ModelConfig, device: str) -> torch.dtype:
    """The torch dtype of ``model.dtype``. Raises ConfigError when the device lacks it."""
    lacks = config.dtype == "bf16" and device.startswith("cuda") and not _has_bf16()
    if lacks:
        what = f"model.dtype = bf16, and {torch.cuda.get_device_name()} has no bfloat16."
        raise ConfigError(what, stage="memory", action="set model.dtype=fp32, or use another GPU.")
    return DTYPES[config.dtype]


def _has_bf16() -> bool:
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def load_fitting(path: str, config: ModelConfig, *, device: str = "auto", beside: int = 0) -> DiffusionModel:
    """`fade.models.loading.load_model` in the configured dtype, its batches lowered to what fits the device.

    beside: see `plan`. Raises what both raise."""
    device = pick_device(device)
    model = load_model(path, device=device, dtype=require_dtype(config, device))
    if not is_small(model):
        fit(model, plan(Footprint.of(empty_twin(model)), config, device, beside=beside, name=path))
    return model


def fit(model: DiffusionModel, fitting: Plan) -> None:
    """Have a loaded model work as the plan says."""
    model.batches = fitting.batches
    if fitting.text_aside:
        model.put_text_aside(torch.device("cpu"))
