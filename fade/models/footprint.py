"""How much memory a base needs, counted from its configurations alone. Ours.

Nothing is allocated: the parts are built on torch's meta device, one prompt, latent and picture go through
them, and every tensor's bytes are counted while it lives. All but the weights grows linearly with the batch,
so one row is enough. Attention is counted in its fused form, which the CPU and every GPU here have."""

from __future__ import annotations

import contextlib
import copy
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fade.errors import BaseModelError
from fade.models.base import DiffusionModel
from fade.models.batches import text_encoders
from fade.models.conditioning import Conditioning
from fade.models.families import known_families
from fade.models.layout import LOCAL, PIPELINES, library_of, pipeline_class, read_config

META = torch.device("meta")


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is open: ``live`` now, ``peak`` at most. Tensors
    of before, and views of them, count nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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

    def attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **options: Any) -> Tensor:
        if query.device != META:
            return usual(query, key, value, *args, **options)
        mask = options.get("attn_mask", args[0] if args else None)
        return fused(query, key, value, attn_mask=mask)[0]  # type: ignore[no-any-return]

    F.scaled_dot_product_attention = attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = usual


def empty_model(home: Path, dtype: torch.dtype) -> DiffusionModel:
    """The model of a directory in diffusers' layout without its weights, on the meta device. Raises
    BaseModelError for a configuration that cannot be read."""
    import diffusers
    import transformers

    pipeline, index = pipeline_class(home), read_config(home / "model_index.json")
    parts: dict[str, Any] = {}
    try:
        for name, kind in PIPELINES[pipeline].items():
            if library_of(index, name) is None:  # a part that the pipeline may lack
                continue
            owner = getattr(diffusers, kind, None) or getattr(transformers, kind)
            if not issubclass(owner, nn.Module):
                parts[name] = owner.from_pretrained(home / name, **LOCAL)
                continue
            if owner.__module__.startswith("diffusers"):
                config: Any = owner.load_config(home / name, local_files_only=True)
            else:
                config = owner.config_class.from_pretrained(home / name, **LOCAL)
            parts[name] = empty_part(owner, config, torch.float32 if kind == "AutoencoderKL" else dtype)
        return known_families()[pipeline](str(home), parts, "", META, index)
    except Exception as error:  # the libraries raise a dozen kinds
        action = "compare it with a directory that diffusers saved."
        raise BaseModelError(f"{home} cannot be read: {error}.", stage="base", action=action) from error


def empty_part(owner: Any, config: Any, dtype: torch.dtype) -> nn.Module:
    """A part of the class ``owner``, frozen, on the meta device."""
    with META:
        part: nn.Module = owner.from_config(config) if hasattr(owner, "from_config") else owner(config)
    # not the part's own `to`, which warns that it knows better which modules stay in float32
    return nn.Module.to(part, META, dtype).eval().requires_grad_(False)


def weightless(model: DiffusionModel) -> DiffusionModel:
    """A loaded model without its weights, on the meta device."""
    empty = copy.copy(model)
    empty.parts = {name: _emptied(part) for name, part in model.parts.items()}
    empty.denoiser, empty.vae = empty.parts[model.DENOISER], empty.parts["vae"]
    empty.device, empty.text_device = META, None
    return empty


def _emptied(part: Any) -> Any:
    if not isinstance(part, nn.Module):
        return part
    return empty_part(type(part), part.config, next(part.parameters()).dtype)


def weight_bytes(*parts: Any) -> int:
    """Of the parts that are networks."""
    networks = [part for part in parts if isinstance(part, nn.Module)]
    return sum(one.nbytes for part in networks for one in (*part.parameters(), *part.buffers()))


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
    sample: int
    """To predict one latent with guidance: where that is classifier-free, two at once."""
    decode: int
    """To decode one latent into a picture."""
    encode: int
    """To encode one picture."""

    def scaled(self, factor: float) -> Footprint:
        """With every call's bytes times ``factor``; the weights stay."""
        calls = ("prompt", "forward", "sample", "decode", "encode")
        return replace(self, **{name: int(factor * getattr(self, name)) for name in calls})

    @classmethod
    def of(cls, model: DiffusionModel) -> Footprint:
        """Of a model on the meta device."""
        text = text_encoders(model.parts)
        rest = [part for part in model.parts.values() if part not in text]
        with torch.no_grad(), fused_attention():
            prompt, _ = peak_of(lambda: model.encode_batch(["a"]))
            x, t, cond = example(model)
            side = model.image_size
            picture = torch.empty(1, 3, side, side, device=META)
            forward, _ = peak_of(lambda: model.predict(x, t, cond))
            sample, _ = peak_of(lambda: model.predict_guided(x, t, cond, cond, 2.0))
            decode, _ = peak_of(lambda: model.vae.decode(x).sample)
            encode, _ = peak_of(lambda: model.vae.encode(picture).latent_dist.mode())
        weights = (weight_bytes(*rest), weight_bytes(*text))
        return cls(*weights, prompt, forward, sample, decode, encode)


def example(model: DiffusionModel) -> tuple[Tensor, Tensor, Conditioning]:
    """An input of ``predict`` of full size, on the meta device: x (1, C, h, w), t (1,), one prompt."""
    _, t, _ = model.example(torch.Generator().manual_seed(0))
    return torch.empty(1, *model.latent_shape, device=META), t, model.encode_batch(["a"])


def peak_of(work: Callable[[], Any]) -> tuple[int, Any]:
    """The most bytes that ``work`` has alive at once on the meta device, and its result."""
    with LiveBytes() as bytes_:
        result = work()
    return bytes_.peak, result
