"""Load one part of a model from a file in the original key layout. diffusers' own converters give its tensors
their names; what `fade.models.complete` holds of a part in diffusers' layout holds here, too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
from safetensors import safe_open
from torch import Tensor

from fade.errors import BaseModelError
from fade.models.complete import check_finite, check_loaded, check_prefixes
from fade.models.layout import LOCAL, read_config
from fade.models.part_files import PartFiles

_ACTION = "compare it with the file that its author published, and data.base_config with the file's family."
FLUX_WIDTH = 3072
"""Of the one transformer whose fused layers diffusers' converter divides: FLUX.1's."""
_UNREAD = ("first_stage_model.loss.", "first_stage_model.model_ema.")
"""Of an autoencoder's training."""
_TOWER = (
    *("token_embedding.weight", "positional_embedding", "ln_final.weight", "ln_final.bias"),
    *("text_projection", "logit_scale", "attn_mask"),
)
"""open_clip's names beside its layers."""


def load_original(owner: Any, part: PartFiles, dtype: torch.dtype, stage: str) -> Any:
    """As `fade.models.complete.load_complete`. Raises BaseModelError that names the file, the part and the
    tensor by its name in diffusers' layout."""
    where = f"{part.weights[0]}: its {part.name}"
    load = _load_network if owner.__module__.startswith("diffusers") else _load_text_encoder
    try:
        model, info = load(owner, part, dtype, stage)
    except BaseModelError:
        raise
    except KeyError as error:  # a converter's
        raise BaseModelError(f"{where} lacks {error.args[0]}.", stage=stage, action=_ACTION) from error
    except Exception as error:  # the libraries raise a dozen kinds
        why = " ".join(str(error).split())[:300]
        what = f"{where} is no {part.kind} with the configuration {part.configs[0]}: {why}."
        raise BaseModelError(what, stage=stage, action=_ACTION) from error
    check_loaded(where, part.kind, info, stage, _ACTION)
    if load is _load_text_encoder:  # transformers drops prefixes by itself
        check_prefixes(part, model.state_dict(), stage)
    check_finite(where, model, stage)
    return model.eval().requires_grad_(False)


def _read(part: PartFiles) -> dict[str, Tensor]:
    """The part's tensors by their names in the file; mapped, not read."""
    with safe_open(part.weights[0], "pt") as file:
        names = [name for name in file.keys() if name.startswith(part.prefix or "")]  # noqa: SIM118
        return {name: file.get_tensor(name) for name in names if not name.startswith(_UNREAD)}


def _load_network(owner: Any, part: PartFiles, dtype: torch.dtype, stage: str) -> tuple[Any, dict[str, Any]]:
    """(the denoiser or the autoencoder, what `check_loaded` takes)."""
    with init_empty_weights():
        model = owner.from_config(read_config(part.configs[0], stage))
    if part.kind == "FluxTransformer2DModel" and model.inner_dim != FLUX_WIDTH:
        what = (
            f"{part.configs[0]} is of a transformer {model.inner_dim} wide; of a single file that of FLUX.1"
        )
        action = "name a directory in diffusers' layout in data.base."
        raise BaseModelError(f"{what}, {FLUX_WIDTH} wide, is supported alone.", stage=stage, action=action)
    tensors = _read(part)
    convert = SINGLE_FILE_LOADABLE_CLASSES[part.kind]["checkpoint_mapping_fn"]
    state: dict[str, Tensor] = convert(config=model.config, checkpoint=tensors)  # removes what it copies
    renamed = {value.data_ptr() for value in state.values()}
    left = [name for name, value in tensors.items() if value.data_ptr() not in renamed]
    own: dict[str, Tensor] = model.state_dict()
    shapes = {(name, state[name].shape, own[name].shape) for name in own.keys() & state.keys()}
    info = {
        "missing_keys": own.keys() - state.keys(),
        "unexpected_keys": [*left, *(state.keys() - own.keys())],
        "mismatched_keys": [one for one in shapes if one[1] != one[2]],
    }
    if not any(info.values()):
        model.load_state_dict({name: state[name].to(dtype) for name in own}, assign=True)
    return model, info


def _load_text_encoder(
    owner: Any, part: PartFiles, dtype: torch.dtype, stage: str
) -> tuple[Any, dict[str, Any]]:
    """(the text encoder, what `check_loaded` takes)."""
    config = owner.config_class.from_pretrained(part.folder, **LOCAL)
    tensors, prefix = _read(part), part.prefix or ""
    if prefix.endswith(".model."):  # open_clip's own names
        state = convert_open_clip_checkpoint(SimpleNamespace(config=config), tensors, prefix=prefix)
        if part.kind == "CLIPTextModel":  # 2.x reads the states before the last layer, which the file has
            last = f"text_model.encoder.layers.{config.num_hidden_layers}."
            state = {name: value for name, value in state.items() if not name.startswith(last)}
        known = (f"{prefix}transformer.", *(prefix + name for name in _TOWER))
        state |= {name: value for name, value in tensors.items() if not name.startswith(known)}
    else:
        state = {name.removeprefix(prefix): value for name, value in tensors.items()}
    if part.kind == "CLIPTextModel":
        state.pop("text_projection.weight", None)
    elif ".clip_l." in prefix:  # SD3 reads its pooled state as it is, whatever projection the file has
        state["text_projection.weight"] = torch.eye(config.hidden_size)
    options = {"output_loading_info": True, "ignore_mismatched_sizes": True, "dtype": dtype}
    model, info = owner.from_pretrained(None, config=config, state_dict=state, **options, **LOCAL)
    return model, info
