"""The weights of a directory in diffusers' layout as one file in the original key layout: the inverse of what
diffusers converts, written from the key names of the published files."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

State = dict[str, Tensor]
DENOISER = "model.diffusion_model."
Name = Callable[[str], tuple[str, int]]
"""A module's name in diffusers' layout -> its name in the original one, and its place among those that are
one tensor there."""
_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {
    "embeddings.token_embedding": "token_embedding",
    "embeddings.position_embedding": "positional_embedding",
    "final_layer_norm": "ln_final",
    "text_projection": "text_projection",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_QKV = ("q", "k", "v")
_SD3 = {
    "pos_embed.proj": "x_embedder.proj",
    "time_text_embed.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_text_embed.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_text_embed.text_embedder.linear_1": "y_embedder.mlp.0",
    "time_text_embed.text_embedder.linear_2": "y_embedder.mlp.2",
    "context_embedder": "context_embedder",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
_SD3_BLOCK = {
    "norm1.linear": ("x_block.adaLN_modulation.1", 0),
    "norm1_context.linear": ("context_block.adaLN_modulation.1", 0),
    **{f"attn.to_{one}": ("x_block.attn.qkv", place) for place, one in enumerate(_QKV)},
    **{f"attn.add_{one}_proj": ("context_block.attn.qkv", place) for place, one in enumerate(_QKV)},
    **{f"attn2.to_{one}": ("x_block.attn2.qkv", place) for place, one in enumerate(_QKV)},
    **{f"attn.norm_{one}": (f"x_block.attn.ln_{one}", 0) for one in "qk"},
    **{f"attn.norm_added_{one}": (f"context_block.attn.ln_{one}", 0) for one in "qk"},
    **{f"attn2.norm_{one}": (f"x_block.attn2.ln_{one}", 0) for one in "qk"},
    "attn.to_out.0": ("x_block.attn.proj", 0),
    "attn.to_add_out": ("context_block.attn.proj", 0),
    "attn2.to_out.0": ("x_block.attn2.proj", 0),
    "ff.net.0.proj": ("x_block.mlp.fc1", 0),
    "ff.net.2": ("x_block.mlp.fc2", 0),
    "ff_context.net.0.proj": ("context_block.mlp.fc1", 0),
    "ff_context.net.2": ("context_block.mlp.fc2", 0),
}
_FLUX = {
    **{
        f"time_text_embed.{ours}_embedder.linear_{number}": f"{theirs}_in.{end}_layer"
        for ours, theirs in (("timestep", "time"), ("text", "vector"), ("guidance", "guidance"))
        for number, end in ((1, "in"), (2, "out"))
    },
    "context_embedder": "txt_in",
    "x_embedder": "img_in",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
_FLUX_DOUBLE = {
    "norm1.linear": ("img_mod.lin", 0),
    "norm1_context.linear": ("txt_mod.lin", 0),
    **{f"attn.to_{one}": ("img_attn.qkv", place) for place, one in enumerate(_QKV)},
    **{f"attn.add_{one}_proj": ("txt_attn.qkv", place) for place, one in enumerate(_QKV)},
    "attn.norm_q": ("img_attn.norm.query_norm", 0),
    "attn.norm_k": ("img_attn.norm.key_norm", 0),
    "attn.norm_added_q": ("txt_attn.norm.query_norm", 0),
    "attn.norm_added_k": ("txt_attn.norm.key_norm", 0),
    "attn.to_out.0": ("img_attn.proj", 0),
    "attn.to_add_out": ("txt_attn.proj", 0),
    "ff.net.0.proj": ("img_mlp.0", 0),
    "ff.net.2": ("img_mlp.2", 0),
    "ff_context.net.0.proj": ("txt_mlp.0", 0),
    "ff_context.net.2": ("txt_mlp.2", 0),
}
_FLUX_SINGLE = {
    "norm.linear": ("modulation.lin", 0),
    **{f"attn.to_{one}": ("linear1", place) for place, one in enumerate(_QKV)},
    "proj_mlp": ("linear1", len(_QKV)),
    "attn.norm_q": ("norm.query_norm", 0),
    "attn.norm_k": ("norm.key_norm", 0),
    "proj_out": ("linear2", 0),
}


def _renamed(state: State, name: Name) -> State:
    """The state under the names of ``name``; what has one name is put together, in order of its places."""
    pieces: dict[str, dict[int, Tensor]] = defaultdict(dict)
    for old, value in state.items():
        module, _, leaf = old.rpartition(".")
        new, place = name(module)
        pieces[f"{new}.{leaf}"][place] = value
    return {new: torch.cat([values[place] for place in sorted(values)]) for new, values in pieces.items()}


def _swapped(state: State, module: str) -> None:
    """Scale before shift -> shift before scale, in place."""
    for leaf in ("weight", "bias"):
        state[f"{module}.{leaf}"] = torch.cat([*reversed(state[f"{module}.{leaf}"].chunk(2))])


def unet(state: State, config: Mapping[str, Any]) -> State:
    depth = int(config["layers_per_block"]) + 1
    attentive = ["CrossAttn" in kind for kind in config["up_block_types"]]

    def name(module: str) -> tuple[str, int]:
        if module in _UNET:
            return _UNET[module], 0
        if found := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", module):
            side, block, kind, layer, rest = found.groups()
            number = int(block) * depth + (depth - 1 if "samplers" in kind else int(layer))
            if side == "down":
                place = f"input_blocks.{number + 1}.{1 if kind == 'attentions' else 0}"
            else:
                slot = {"resnets": 0, "attentions": 1}.get(kind, 2 if attentive[int(block)] else 1)
                place = f"output_blocks.{number}.{slot}"
            if kind == "downsamplers":
                return f"{place}.op", 0
        else:
            kind, layer, rest = re.fullmatch(r"mid_block\.(\w+)\.(\d+)\.(.+)", module).groups()  # type: ignore[union-attr]
            place = f"middle_block.{2 * int(layer) if kind == 'resnets' else 1}"
        return f"{place}.{_RESNET[rest] if kind == 'resnets' else rest}", 0

    return _renamed(state, name)


def vae(state: State, config: Mapping[str, Any]) -> State:
    levels = len(config["down_block_types"])

    def name(module: str) -> tuple[str, int]:
        if found := re.fullmatch(r"(\w+)\.(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", module):
            half, side, block, kind, layer, rest = found.groups()
            number = int(block) if side == "down" else levels - 1 - int(block)
            rest = rest.replace("conv_shortcut", "nin_shortcut")
            place = {"resnets": f"block.{layer}", "downsamplers": "downsample", "upsamplers": "upsample"}[
                kind
            ]
            return f"{half}.{side}.{number}.{place}.{rest}", 0
        if found := re.fullmatch(r"(\w+)\.mid_block\.(\w+)\.(\d+)\.(.+)", module):
            half, kind, layer, rest = found.groups()
            if kind == "resnets":
                return f"{half}.mid.block_{int(layer) + 1}.{rest}", 0
            return f"{half}.mid.attn_1.{_VAE_ATTENTION[rest]}", 0
        return module.replace("conv_norm_out", "norm_out"), 0

    out = _renamed(state, name)
    return {
        key: one[:, :, None, None] if ".attn_1." in key and one.ndim == 2 else one for key, one in out.items()
    }


def open_clip(state: State) -> State:
    """transformers' text tower in open_clip's layout: fused queries, keys and values."""

    def name(module: str) -> tuple[str, int]:
        if module in _OPEN_CLIP:
            return _OPEN_CLIP[module], 0
        layer, rest = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", module).groups()  # type: ignore[union-attr]
        place = f"transformer.resblocks.{layer}"
        if found := re.fullmatch(r"self_attn\.([qkv])_proj", rest):
            return f"{place}.attn.in_proj", _QKV.index(found[1])
        return f"{place}.{_OPEN_CLIP[rest]}", 0

    out = _renamed(state, name)
    out = {re.sub(r"in_proj\.(weight|bias)$", r"in_proj_\1", key): value for key, value in out.items()}
    out["positional_embedding"] = out.pop("positional_embedding.weight")
    if "text_projection.weight" in out:
        out["text_projection"] = out.pop("text_projection.weight").T.contiguous()
    return {**out, "logit_scale": torch.tensor(4.6)}


def whole_tower(state: State, layers: int) -> State:
    """open_clip's tower of Stable Diffusion 2.x: with its last layer and projection, which nothing reads."""
    last = {
        key: torch.full_like(one, 7.0) for key, one in state.items() if f".resblocks.{layers - 1}." in key
    }
    more = {key.replace(f".{layers - 1}.", f".{layers}."): one for key, one in last.items()}
    width = state["positional_embedding"].shape[1]
    return {**state, **more, "text_projection": torch.full((width, width), 7.0)}


def sd3_transformer(state: State, config: Mapping[str, Any]) -> State:
    def name(module: str) -> tuple[str, int]:
        if found := re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", module):
            new, place = _SD3_BLOCK[found[2]]
            return f"joint_blocks.{found[1]}.{new}", place
        return _SD3[module], 0

    state = dict(state)
    table = {"pos_embed": state.pop("pos_embed.pos_embed")}
    out = _renamed(state, name)
    _swapped(out, "final_layer.adaLN_modulation.1")
    _swapped(out, f"joint_blocks.{config['num_layers'] - 1}.context_block.adaLN_modulation.1")
    return out | table


def flux_transformer(state: State) -> State:
    def name(module: str) -> tuple[str, int]:
        if found := re.fullmatch(r"(single_)?transformer_blocks\.(\d+)\.(.+)", module):
            single, number, rest = found.groups()
            new, place = (_FLUX_SINGLE if single else _FLUX_DOUBLE)[rest]
            return f"{'single' if single else 'double'}_blocks.{number}.{new}", place
        return _FLUX[module], 0

    out = _renamed(state, name)
    _swapped(out, "final_layer.adaLN_modulation.1")
    return {re.sub(r"(query|key)_norm\.weight$", r"\1_norm.scale", key): value for key, value in out.items()}


def _part(home: Path, part: str) -> tuple[State, dict[str, Any]]:
    """(tensors, CLIP's without the prefix that some versions write; configuration)"""
    files = list((home / part).glob("*.safetensors"))
    state = {key: value for file in files for key, value in load_file(file).items()}
    config = json.loads((home / part / "config.json").read_text())
    return {key.removeprefix("text_model."): value for key, value in state.items()}, config


def _clip(state: State) -> State:
    return {key if key.startswith("text_proj") else f"text_model.{key}": one for key, one in state.items()}


def original_part(home: Path, part: str) -> State:
    """The tensors of a part, named as in the published files of its family."""
    state, config = _part(home, part)
    family = json.loads((home / "model_index.json").read_text())["_class_name"]
    kind = config.get("_class_name") or config["architectures"][0]
    if kind == "AutoencoderKL":
        return _with("first_stage_model.", vae(state, config))
    if kind == "UNet2DConditionModel":
        return _with(DENOISER, unet(state, config))
    if kind == "SD3Transformer2DModel":
        return _with(DENOISER, sd3_transformer(state, config))
    if kind == "FluxTransformer2DModel":
        return _with(DENOISER, flux_transformer(state))
    if kind == "T5EncoderModel":
        return _with("text_encoders.t5xxl.transformer.", state)
    if family == "StableDiffusionXLPipeline":
        if part == "text_encoder":
            return _with("conditioner.embedders.0.transformer.", _clip(state))
        return _with("conditioner.embedders.1.model.", open_clip(state))
    if family == "StableDiffusionPipeline":
        if config["hidden_act"] == "quick_gelu":
            return _with("cond_stage_model.transformer.", _clip(state))
        tower = whole_tower(open_clip(state), config["num_hidden_layers"])
        return _with("cond_stage_model.model.", tower)
    if part == "text_encoder":
        state.pop("text_projection.weight", None)  # CLIP L's is no part of these files
        return _with("text_encoders.clip_l.transformer.", _clip(state))
    return _with("text_encoders.clip_g.transformer.", _clip(state))


def _with(prefix: str, state: State) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def write_original(home: Path, file: Path, parts: Iterable[str], *, bare: bool = False) -> Path:
    """Write these parts of the directory ``home`` to one file and return it. bare: without the prefix of a
    transformer's names, as in files of the transformer alone."""
    state: State = {}
    for part in parts:
        for key, value in original_part(home, part).items():
            state[key.removeprefix(DENOISER) if bare else key] = value.contiguous()
    save_file(state, file, {"format": "pt"})
    return file
