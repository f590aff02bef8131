"""Mesh Modules: a LoRA on the denoiser's transformer blocks that can be switched off, merged, taken out and
saved.

Adapters off is the teacher, bit for bit: one denoiser in memory serves as both. The file format is diffusers'
own, so that ``pipe.load_lora_weights(folder, weight_name=...)`` loads it at the right scale, alpha != rank
included."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import fade
from fade.adapters.adapter_file import PROVENANCE, read_adapter
from fade.adapters.adapter_header import AdapterHeader
from fade.adapters.change import check_effect
from fade.adapters.layers import check_shapes, lora_shapes
from fade.config import MeshConfig
from fade.errors import AdapterError
from fade.models.safetensors_file import canonical_safetensors
from fade.utils.files import write_whole
from fade.utils.seeds import named_seed

if TYPE_CHECKING:
    from fade.models.base import DiffusionModel

ADAPTER = "fade"
"""The adapter's name inside the denoiser."""


def _fault(what: str, action: str) -> AdapterError:
    return AdapterError(what, stage="mesh", action=action)


class LoraAdapter:
    """The trainable adapter of one model. Make it with ``insert`` or ``load``; the denoiser's own weights are
    frozen meanwhile."""

    def __init__(
        self, model: DiffusionModel, config: MeshConfig, layers: dict[str, Any], trainable: set[str]
    ) -> None:
        self.model, self.config = model, config
        self._layers = layers  # module name in the plain denoiser -> peft's LoRA layer, in its order
        self._trainable = trainable  # parameters that required a gradient before the mesh froze them
        self._originals: dict[str, Tensor] = {}  # base weights while merged

    @classmethod
    def insert(cls, model: DiffusionModel, config: MeshConfig, *, seed: int) -> LoraAdapter:
        """Put a fresh adapter into ``model`` (in place): up = 0, down = kaiming-uniform by ``seed`` and the
        module's name; the global random state is neither read nor changed.

        ``a=sqrt(5)``, as torch's Linear; the authors' code says only "kaiming-uniform". Raises AdapterError
        when the model carries an adapter already, or nothing matches."""
        from peft import LoraConfig

        network = model.denoiser
        if getattr(network, "peft_config", {}):
            action = "call remove() on the mesh that it has, or load the base anew."
            raise _fault("this model already carries an adapter.", action)
        config = config.model_copy(update={"targets": model.layer_ends(config.targets)})
        names = model.layers(config.targets)
        trainable = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        lora = LoraConfig(
            r=config.rank, lora_alpha=config.alpha, target_modules=names, lora_dropout=0.0, bias="none"
        )
        with torch.random.fork_rng(devices=[]):  # peft draws an initialisation that is overwritten below
            network.add_adapter(lora, adapter_name=ADAPTER)
        for name, parameter in network.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.float()  # the base may be in half precision
        modules = dict(network.named_modules())
        lora = cls(model, config, {name: modules[name] for name in names}, trainable)
        lora._initialise(seed)
        return lora

    def _initialise(self, seed: int) -> None:
        for name, layer in self._layers.items():
            generator = torch.Generator().manual_seed(named_seed(seed, name))
            down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
            initial = nn.init.kaiming_uniform_(torch.empty(down.shape), a=5**0.5, generator=generator)
            with torch.no_grad():
                down.copy_(initial)
                up.zero_()

    def named_parameters(self) -> dict[str, nn.Parameter]:
        """The adapter's weights by their name in the file: down ``lora_A`` (rank, in[, 1, 1]), up ``lora_B``
        (out, rank[, 1, 1])."""
        out: dict[str, nn.Parameter] = {}
        for name, layer in self._layers.items():
            out[f"{self._prefix}{name}.lora_A.weight"] = layer.lora_A[ADAPTER].weight
            out[f"{self._prefix}{name}.lora_B.weight"] = layer.lora_B[ADAPTER].weight
        return out

    @property
    def _prefix(self) -> str:
        return f"{self.model.DENOISER}."

    def parameters(self) -> list[nn.Parameter]:
        """The only weights that are trained, in a fixed order."""
        return [parameter for parameter in self.named_parameters().values() if parameter.requires_grad]

    @torch.no_grad()
    def fix_down(self, rows: Tensor) -> None:
        """Set every down projection to ``rows`` (rank, in) and train it no more.

        Raises AdapterError when a layer takes another width: only the cross-attention's keys and values read
        the text."""
        for name, layer in self._layers.items():
            down = layer.lora_A[ADAPTER].weight
            if down.shape != rows.shape:
                (rank, width), (r, w) = down.shape[:2], rows.shape
                what = f"{name} takes {width} numbers at rank {rank}, not {w} at {r}."
                raise _fault(what, "set mesh.targets to [text].")
            down.copy_(rows)
            down.requires_grad_(False)

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the adapter's weights on the CPU, float32, under their names in the file."""
        named = self.named_parameters().items()
        return {name: p.detach().to("cpu", torch.float32, copy=True) for name, p in named}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Set the adapter's weights. Raises AdapterError for missing, unknown, misshapen or non-finite
        tensors."""
        own = self.named_parameters()
        check_shapes({name: tuple(parameter.shape) for name, parameter in own.items()}, state)
        for name, parameter in own.items():
            with torch.no_grad():
                parameter.copy_(state[name])

    def base_weights(self) -> dict[str, Tensor]:
        """The original weight of every layer that has an adapter, by the layer's name; not to be changed."""
        return {name: layer.get_base_layer().weight.detach() for name, layer in self._layers.items()}

    @torch.no_grad()
    def write(self, changes: Mapping[str, Tensor]) -> float:
        """Set the adapter so that it adds ``changes`` (out, in) to its layers, as well as its rank allows.

        Returns the largest share of a change that the rank could not hold (Frobenius norm; about 1e-7 when it
        suffices)."""
        lost, scale = 0.0, self.config.alpha / self.config.rank
        for name, change in changes.items():
            layer, r = self._layers[name], self.config.rank
            u, s, v = torch.linalg.svd(change.double(), full_matrices=False)
            n, root = min(r, len(s)), s.sqrt()
            down, up = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight
            down.zero_()
            up.zero_()
            down[:n] = (root[:n, None] * v[:n]).to(down.dtype)
            up[:, :n] = (u[:, :n] * root[:n] / scale).to(up.dtype)
            left = torch.linalg.matrix_norm(change.double() - scale * up.double() @ down.double())
            lost = max(lost, float(left / torch.linalg.matrix_norm(change.double()).clamp_min(1e-30)))
        return lost

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Within it the denoiser is the original model, bit for bit, merged or not."""
        was_merged = self.merged
        self.unmerge()
        # peft's enable_adapters() also flips requires_grad, which must not happen between a forward and its
        # backward.
        before = [layer._disable_adapters for layer in self._layers.values()]
        for layer in self._layers.values():
            layer._disable_adapters = True
        try:
            yield
        finally:
            for layer, flag in zip(self._layers.values(), before, strict=True):
                layer._disable_adapters = flag
            if was_merged:
                self.merge()

    @property
    def merged(self) -> bool:
        """Whether the adapter is in the denoiser's weights."""
        return bool(self._originals)

    def merge(self) -> None:
        """Add the adapter to the denoiser's weights. All or nothing; raises AdapterError when a merged
        weight is not finite.

        A denoiser in half precision keeps the adapter beside its weights: the change would be lost in their
        rounding."""
        if self.merged:
            raise _fault("the adapter is merged already.", "call unmerge() first.")
        if self.model.dtype != torch.float32:
            return
        for name, layer in self._layers.items():
            # no copy: peft's safe merge puts another tensor in its place
            self._originals[name] = layer.get_base_layer().weight.data
            try:
                layer.merge(safe_merge=True, adapter_names=[ADAPTER])
            except ValueError as error:
                self.unmerge()
                what = f"merging {name} gives weights that are not finite."
                raise _fault(what, "the adapter is broken: train it again.") from error

    def unmerge(self) -> None:
        """Take the adapter out of the denoiser's weights again: the base's bytes, not its values up to
        rounding."""
        for name, original in self._originals.items():
            layer = self._layers[name]
            if layer.merged:
                layer.unmerge()  # subtracts, hence rounds; the original itself makes it exact
            layer.get_base_layer().weight.data = original
        self._originals = {}

    def remove(self) -> None:
        """Leave the denoiser as it was before ``insert``: same modules, same bytes, same gradients."""
        self.unmerge()
        self.model.denoiser.unload_lora()
        for name, parameter in self.model.denoiser.named_parameters():
            parameter.requires_grad_(name in self._trainable)
        self._layers = {}

    def save(self, path: Path, provenance: Mapping[str, str]) -> str:
        """Write one safetensors file in diffusers' layout, provenance in its header. Returns its sha256.

        The same weights and provenance give the same bytes. Raises AdapterError when a weight is not finite,
        StorageError."""
        state = self.state_dict()
        for name, value in state.items():
            if not bool(torch.isfinite(value).all()):
                raise _fault(f"{name} is not finite; nothing was written.", "lower train.lr.")
        rank, alpha, targets = self.config.rank, self.config.alpha, json.dumps(self.config.targets)
        own = {"rank": str(rank), "alpha": repr(alpha), "targets": targets, "fade_version": fade.__version__}
        own["family"] = self.model.FAMILY
        facts = {f"{PROVENANCE}{key}": value for key, value in {**provenance, **own}.items()}
        # What diffusers reads to build the LoraConfig: without it, alpha would be taken to be the rank.
        lora = {"r": rank, "lora_alpha": alpha, "target_modules": list(self._layers), "bias": "none"}
        layout = json.dumps({f"{self._prefix}{key}": value for key, value in lora.items()}, sort_keys=True)
        body = canonical_safetensors(state, {"format": "pt", "lora_adapter_metadata": layout, **facts})
        write_whole(path, body, stage="train", sync=True)
        return hashlib.sha256(body).hexdigest()

    @classmethod
    def load(cls, base: DiffusionModel, path: Path) -> LoraAdapter:
        """Insert a saved adapter into ``base`` and prove that it is active and changes the output.

        Raises AdapterError when the file is unreadable, has no provenance, was trained for another family or
        base, does not fit, or has no effect; the base is then as it was."""
        facts, state = read_adapter(path)
        header = AdapterHeader.parse(facts, path)
        if header.family not in ("", base.FAMILY):
            what = f"{path} is an adapter of {header.family[:80]}, and {base.path} is {base.FAMILY}."
            raise _fault(what, "set data.base to the directory that the adapter was trained for.")
        if not base.is_base(header.base_sha256):
            made_for = header.base_sha256[:12]
            what = f"{path} was trained for the base {made_for}, this base is {base.sha256[:12]}."
            raise _fault(what, "set data.base to the directory that the adapter was trained for.")
        # before a layer is made: the header alone must not decide how much is allocated
        check_shapes(lora_shapes(base, header.mesh.targets, header.mesh.rank), state)
        lora = cls.insert(base, header.mesh, seed=0)
        try:
            lora.load_state_dict(state)
            lora.check_effect(str(path))
        except BaseException:
            lora.remove()
            raise
        return lora

    def check_effect(self, name: str = "the adapter") -> None:
        """Raises AdapterError unless every layer is active and the denoiser's output is finite and differs
        from the base's on a fixed probe."""
        for layer_name, layer in self._layers.items():
            if layer.disable_adapters or ADAPTER not in layer.active_adapters:
                action = "report this: peft ignored the adapter."
                raise _fault(f"{name} is not active in {layer_name}.", action)
        check_effect(self.model, self, name, "train it for more steps; an adapter of step 0 is empty.")
