"""Somebody else's LoRA or model: every layout gives the weights of its own rule, and what is no such thing is
refused by the name of its key."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fade.adapters.change import SwappedWeights, check_effect
from fade.adapters.export import kohya_file
from fade.adapters.foreign import read_foreign_lora
from fade.adapters.foreign_model import read_foreign_model
from fade.adapters.kohya import kohya_layers
from fade.adapters.lora import LoraAdapter
from fade.errors import AdapterError
from fade.models.loading import load_model
from tests.support import DEEP, make_tiny_base
from tests.unit.fade.adapters.foreign import foreign_layers, kohya, merged, peft, saved


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(str(make_tiny_base(tmp_path_factory.mktemp("base"), **DEEP)), device="cpu")


def original(base: Any, layer: str) -> str:
    """A layer's kohya name in the original layout, from sd-scripts' table, written out for the tiny UNet."""
    table = {
        "down_blocks.0.attentions.0": "input_blocks_1_1",
        "mid_block.attentions.0": "middle_block_1",
        "up_blocks.1.attentions.0": "output_blocks_2_1",
        "up_blocks.1.attentions.1": "output_blocks_3_1",
    }
    block = next(name for name in table if layer.startswith(f"{name}."))
    return f"{table[block]}_{layer.removeprefix(f'{block}.').replace('.', '_')}"


def diffusers(layers: dict[str, Any], path: Path) -> Path:
    """A file of diffusers', alphas by layer in its header."""
    state = {}
    for layer, (down, up, _) in layers.items():
        state |= {f"unet.{layer}.lora_A.weight": down, f"unet.{layer}.lora_B.weight": up}
    alphas = {layer: alpha for layer, (_, _, alpha) in layers.items()}
    settings = {"unet.r": 2, "unet.lora_alpha": 7, "unet.alpha_pattern": alphas}
    save_file(state, path, {"lora_adapter_metadata": json.dumps(settings)})
    return path


def processors(layers: dict[str, Any], path: Path) -> Path:
    """A file of diffusers' of 2023, which has no alpha."""
    state = {}
    for layer, (down, up, _) in layers.items():
        head, _, name = layer.replace("to_out.0", "to_out").rpartition(".")
        key = f"unet.{head}.processor.{name}_lora" if "attn" in head else f"unet.{layer}.lora"
        state |= {f"{key}.down.weight": down, f"{key}.up.weight": up}
    save_file(state, path)
    return path


FILE = "a.safetensors"
LAYOUTS: dict[str, tuple[Callable[..., Path], bool]] = {
    "diffusers": (lambda base, layers, tmp: diffusers(layers, tmp / FILE), True),
    "diffusers, 2023": (lambda base, layers, tmp: processors(layers, tmp / FILE), False),
    "kohya": (lambda base, layers, tmp: kohya(layers, tmp / FILE), True),
    "kohya without alpha": (
        lambda base, layers, tmp: kohya(layers, tmp / FILE, alpha=False),
        False,
    ),
    "kohya, original names": (
        lambda base, layers, tmp: kohya(layers, tmp / FILE, name=lambda one: original(base, one)),
        True,
    ),
    "peft": (lambda base, layers, tmp: peft(layers, tmp / "peft"), True),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_gives_the_weights_of_its_rule_with_another_rank_in_each_layer(
    base: Any, tmp_path: Path, layout: str
) -> None:
    write, alpha_written = LAYOUTS[layout]
    layers = foreign_layers(base, ranks=(2, 3, 5))
    read = read_foreign_lora(base, write(base, layers, tmp_path))
    assert len(read.weights) == len(layers) == 48 and read.facts["ranks"] == "2, 3, 5"
    assert read.facts["layout"] == layout.partition(",")[0].partition(" ")[0]
    for layer, (down, up, alpha) in layers.items():
        own = base.denoiser.get_submodule(layer).weight
        scale = alpha / len(down) if alpha_written else 1.0
        wanted = own + scale * (up.flatten(1) @ down.flatten(1)).view(own.shape)
        assert torch.allclose(read.weights[f"{layer}.weight"], wanted, atol=1e-6), layer
    assert (read.facts["alpha"] == "as written") is alpha_written


def test_our_own_adapter_and_its_kohya_export_are_read_as_we_merge_it(base: Any, tmp_path: Path) -> None:
    ours = saved(base, tmp_path / "ours.safetensors")
    lora = LoraAdapter.load(base, ours)
    (tmp_path / "kohya.safetensors").write_bytes(kohya_file(lora, {}))
    lora.remove()
    wanted = merged(base, ours)
    for name in ("ours", "kohya"):
        read = read_foreign_lora(base, tmp_path / f"{name}.safetensors")
        assert len(read.weights) == 48
        assert all(torch.allclose(value, wanted[key], atol=1e-6) for key, value in read.weights.items()), name


def test_a_layer_of_a_convolution_is_read_too(base: Any, tmp_path: Path) -> None:
    down, up = torch.randn(2, 8, 3, 3), torch.randn(8, 2, 1, 1)
    layer = "down_blocks.0.resnets.0.conv1"
    read = read_foreign_lora(base, kohya({layer: (down, up, 3.0)}, tmp_path / "conv.safetensors"))
    own = base.denoiser.get_submodule(layer).weight
    change = read.weights[f"{layer}.weight"] - own
    wanted = torch.nn.functional.conv2d(torch.nn.functional.conv2d(torch.ones(1, 8, 5, 5), down), up) * 1.5
    assert torch.allclose(torch.nn.functional.conv2d(torch.ones(1, 8, 5, 5), change), wanted, atol=1e-3)


def test_swapped_weights_are_there_and_gone_bit_for_bit(base: Any, tmp_path: Path) -> None:
    probe = base.example(torch.Generator().manual_seed(1))
    before = {name: value.clone() for name, value in base.denoiser.state_dict().items()}
    with torch.no_grad():
        plain = base.predict(*probe)
        read = read_foreign_lora(base, kohya(foreign_layers(base), tmp_path / FILE))
        assert torch.equal(base.predict(*probe), plain)  # reading changes nothing
        swapped = SwappedWeights(base, read.weights)
        check_effect(base, swapped, "it", "")
        changed = base.predict(*probe)
        with swapped.off():
            assert torch.equal(base.predict(*probe), plain)
        assert torch.equal(base.predict(*probe), changed) and not torch.equal(changed, plain)
        swapped.remove()
        assert torch.equal(base.predict(*probe), plain)
        zeros = {name: base.denoiser.get_parameter(name) + 0.0 for name in read.weights}
        nothing = SwappedWeights(base, zeros)
        assert torch.equal(base.predict(*probe), plain) and nothing.sha256() != swapped.sha256()
        with pytest.raises(AdapterError, match="does not change the base's output"):
            check_effect(base, nothing, "it", "")
        nothing.remove()
    assert all(torch.equal(value, before[name]) for name, value in base.denoiser.state_dict().items())


def edited(base: Any, tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A kohya file whose tensors were changed."""
    path = kohya(foreign_layers(base), tmp_path / FILE)
    state = load_file(path)
    change(state)
    save_file(state, path)
    return path


def other_network(base: Any, tmp_path: Path) -> Path:
    state = {
        f"transformer.transformer_blocks.0.attn.to_q.lora_{one}.weight": torch.ones(2, 2) for one in "AB"
    }
    save_file(state, tmp_path / FILE)
    return tmp_path / FILE


KEY = "lora_unet_down_blocks_0_attentions_0_proj_in"
BAD: dict[str, tuple[Callable[[Any, Path], Path], str]] = {
    "keys that match nothing": (
        lambda b, t: kohya(foreign_layers(b), t / FILE, name=lambda one: "x" + one.replace(".", "_")),
        "none of its 144 keys names a layer of Stable Diffusion's unet, the first is 'lora_unet_x",
    ),
    "another family": (
        other_network,
        "none of its 2 keys names a layer .* 'transformer.transformer",
    ),
    "a key that is not known": (
        lambda b, t: edited(b, t, lambda s: s.update({"lora_unet_foo.alpha": torch.ones(())})),
        "'lora_unet_foo.alpha' is no weight of a LoRA on Stable Diffusion's unet",
    ),
    "LoHa": (
        lambda b, t: edited(b, t, lambda s: s.update({f"{KEY}.hada_w1_a": torch.ones(2, 2)})),
        "hada_w1_a' is no weight of a LoRA",
    ),
    "the text encoder": (
        lambda b, t: edited(b, t, lambda s: s.update({"lora_te_x.lora_up.weight": torch.ones(2, 2)})),
        "'lora_te_x.lora_up.weight' changes the text encoder",
    ),
    "another base's shape": (
        lambda b, t: edited(b, t, lambda s: s.update({f"{KEY}.lora_down.weight": torch.ones(2, 9, 1, 1)})),
        r"proj_in has down \[2, 9, 1, 1\] and up \[8, 2, 1, 1\], which are no update of a weight \[8, 8",
    ),
    "ranks that differ": (
        lambda b, t: edited(b, t, lambda s: s.update({f"{KEY}.lora_down.weight": torch.ones(3, 8, 1, 1)})),
        "proj_in has down",
    ),
    "half a layer": (
        lambda b, t: edited(b, t, lambda s: s.pop(f"{KEY}.lora_up.weight")),
        "proj_in has no up matrix",
    ),
    "not finite": (
        lambda b, t: edited(b, t, lambda s: s[f"{KEY}.lora_up.weight"].fill_(float("nan"))),
        "the update of .*proj_in is not finite",
    ),
    "an alpha of two numbers": (
        lambda b, t: edited(b, t, lambda s: s.update({f"{KEY}.alpha": torch.ones(2)})),
        "the update of .*proj_in is not finite",
    ),
    "zeros": (
        lambda b, t: kohya(foreign_layers(b, size=0.0), t / FILE),
        "changes nothing: the updates of all its layers are zero",
    ),
    "integers": (
        lambda b, t: edited(b, t, lambda s: s.update({f"{KEY}.alpha": torch.ones((), dtype=torch.int64)})),
        "alpha' has the type I64",
    ),
    "a pickle": (
        lambda b, t: t / "a.bin",
        r"a.bin is refused: weights are read from .safetensors",
    ),
    "a pickle, .pt": (lambda b, t: t / "a.pt", r"a.pt is refused"),
    "no safetensors": (
        lambda b, t: Path((t / FILE).write_bytes(b"PK" * 99) and t / FILE),
        "a.safetensors cannot be read",
    ),
    "peft without its config": (
        lambda b, t: (p := peft(foreign_layers(b), t / "p"), (p.parent / "adapter_config.json").unlink())[0],
        "adapter_config.json is missing: the strength of its updates is not known",
    ),
    "another method of peft": (
        lambda b, t: peft(foreign_layers(b), t / "p", peft_type="LOHA"),
        "adapter_config.json: LOHA is not read here",
    ),
    "DoRA": (lambda b, t: peft(foreign_layers(b), t / "p", use_dora=True), "DoRA is not read here"),
    "an alpha that is no number": (
        lambda b, t: peft(foreign_layers(b), t / "p", lora_alpha="7"),
        "its lora_alpha or alpha_pattern is damaged",
    ),
    "a pattern that is no name": (
        lambda b, t: peft(foreign_layers(b), t / "p", alpha_pattern={"(a+)+$": 1.0}),
        "its lora_alpha or alpha_pattern is damaged",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_cannot_be_judged_is_refused_by_name(base: Any, tmp_path: Path, what: str) -> None:
    make, sentence = BAD[what]
    path = make(base, tmp_path)
    with pytest.raises(AdapterError, match=sentence) as caught:
        read_foreign_lora(base, path)
    assert caught.value.action and caught.value.exit_code == 1


def test_control_every_layer_has_one_kohya_name_in_each_spelling(base: Any) -> None:
    names = kohya_layers(base)
    attention = [layer for layer in names.values() if "attentions" in layer]
    assert len(attention) == 2 * len(set(attention)) == 2 * 48
    assert names["lora_unet_conv_in"] == "conv_in"


# A whole model.


def copied(base: Any, folder: Path, **changes: Callable[[Path], object]) -> Path:
    """The base's directory with its parts changed."""
    import shutil

    shutil.copytree(base.path, folder)
    for part, change in changes.items():
        change(folder / part)
    return folder


def tuned(part: Path, name: str = "diffusion_pytorch_model.safetensors", dtype: Any = torch.float32) -> None:
    state = load_file(part / name)
    state["conv_in.weight"] = state["conv_in.weight"] * 1.5
    save_file({key: value.to(dtype) for key, value in state.items()}, part / name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_whole_denoiser_gives_the_weights_that_differ(base: Any, tmp_path: Path, dtype: Any) -> None:
    home = copied(base, tmp_path / "theirs", unet=lambda part: tuned(part, dtype=dtype))
    for where in (home, home / "unet"):
        read = read_foreign_model(base, where)
        assert list(read.weights) == ["conv_in.weight"] and read.facts["other parts"] == "those of the base"
        wanted = (base.denoiser.conv_in.weight * 1.5).to(dtype).float()
        assert torch.equal(read.weights["conv_in.weight"], wanted)


def rewritten(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def change_file(part: Path) -> None:
        if name.endswith(".json"):
            content = json.loads((part / name).read_text())
            change(content)
            (part / name).write_text(json.dumps(content))
        else:
            state = load_file(part / name)
            change(state)
            save_file(state, part / name)

    return change_file


def test_other_parts_that_differ_are_named(base: Any, tmp_path: Path) -> None:
    home = copied(
        base,
        tmp_path / "theirs",
        unet=tuned,
        vae=rewritten("diffusion_pytorch_model.safetensors", lambda s: s["decoder.conv_in.bias"].add_(1)),
        scheduler=rewritten("scheduler_config.json", lambda c: c.update(prediction_type="v_prediction")),
    )
    assert (
        read_foreign_model(base, home).facts["other parts"]
        == "scheduler, vae (not used: the base's own were)"
    )


WEIGHTS = "diffusion_pytorch_model.safetensors"
BAD_MODELS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no safetensors": (
        lambda part: (part / WEIGHTS).rename(part / "x.bin"),
        r"holds no safetensors weights .*only x.bin, and no pickle is loaded\. Next: .*UNet2DCondition",
    ),
    "weights under another name": (
        lambda part: (part / WEIGHTS).rename(part / "unet.safetensors"),
        "holds no safetensors weights",
    ),
    "whole and in shards": (
        lambda part: (part / f"{WEIGHTS}.index.json").write_text('{"weight_map": {}}'),
        f"{re.escape(WEIGHTS)} and the shards of .* are both there",
    ),
    "no config": (lambda part: (part / "config.json").unlink(), "config.json is missing"),
    "another network": (
        rewritten("config.json", lambda c: c.update(cross_attention_dim=64)),
        "its cross_attention_dim is not that of the base's unet",
    ),
    "a tensor less": (
        rewritten(WEIGHTS, lambda s: s.pop("conv_in.bias")),
        "conv_in.bias is missing, one of 1",
    ),
    "a tensor more": (
        rewritten(WEIGHTS, lambda s: s.update(foo=torch.ones(1))),
        "foo is no tensor of the base's unet",
    ),
    "another shape": (
        rewritten(WEIGHTS, lambda s: s.update({"conv_in.bias": torch.ones(3)})),
        "conv_in.bias is no tensor of the base's unet, or of another shape",
    ),
    "not finite": (
        rewritten(WEIGHTS, lambda s: s["conv_in.bias"].fill_(float("inf"))),
        "conv_in.bias is not finite",
    ),
    "the base itself": (lambda part: None, "changes nothing: its unet is the base's"),
    "cut off": (
        lambda part: (part / WEIGHTS).write_bytes((part / WEIGHTS).read_bytes()[:-9]),
        re.escape(WEIGHTS),
    ),
}


@pytest.mark.parametrize("what", BAD_MODELS)
def test_a_model_that_cannot_be_judged_is_refused_by_name(base: Any, tmp_path: Path, what: str) -> None:
    change, sentence = BAD_MODELS[what]
    with pytest.raises(AdapterError, match=sentence) as caught:
        read_foreign_model(base, copied(base, tmp_path / "theirs", unet=change))
    assert caught.value.action


def test_a_twin_that_no_base_is_read_from_is_not_judged(base: Any, tmp_path: Path) -> None:
    """The files are chosen as a base's are: these beside them change nothing."""

    def add_twins(part: Path) -> None:
        tuned(part)
        weights = (part / WEIGHTS).read_bytes()
        for name in ("diffusion_pytorch_model.non_ema", "diffusion_pytorch_model.fp16", "unet", "model"):
            (part / f"{name}.safetensors").write_bytes(weights)
            rewritten(f"{name}.safetensors", lambda s: s["conv_in.bias"].add_(1))(part)

    read = read_foreign_model(base, copied(base, tmp_path / "theirs", unet=add_twins))
    assert list(read.weights) == ["conv_in.weight"]
