"""Directories as people have them load bit-equal to the plain one, under one hash; the rest is refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fade.adapters.compose import compose
from fade.adapters.lora import LoraAdapter
from fade.config import MeshConfig, SamplerConfig
from fade.errors import AdapterError, BaseModelError
from fade.models.layout import check_model, legacy_sha256, model_sha256
from fade.models.loading import load_model
from fade.models.sampling import sample
from fade.utils import notes
from tests.support import DEEP, make_tiny_base, make_tiny_clip

NETWORKS = ("unet", "vae", "text_encoder")


@pytest.fixture
def copied(tiny_base_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base_dir, tmp_path / "base"))


def weights(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


def picture(base: Any) -> torch.Tensor:
    return sample(base, ["a panda"], [1], SamplerConfig(steps=2))


def shard(home: Path) -> None:
    """Two shards a network, as large models are saved."""
    for part in NETWORKS:
        file = weights(home / part)
        state, stem = load_file(file), file.stem
        names, index = sorted(state), {}
        for number, some in enumerate((names[::2], names[1::2]), 1):
            name = f"{stem}-{number:05}-of-00002.safetensors"
            save_file({key: state[key] for key in some}, file.with_name(name), {"format": "pt"})
            index.update(dict.fromkeys(some, name))
        file.unlink()
        content = {"metadata": {"total_size": 1}, "weight_map": index}
        (home / part / f"{stem}.safetensors.index.json").write_text(json.dumps(content))


def twins(home: Path) -> None:
    """A hub clone: the same weights in every other format, none of which can be read."""
    for name in (
        *("v1-5-pruned.ckpt", "unet/diffusion_pytorch_model.bin", "unet/openvino_model.bin"),
        *("unet/model.onnx", "unet/model.onnx_data", "text_encoder/flax_model.msgpack"),
    ):
        (home / name).write_bytes(b"\x80\x04not to be opened")
    (home / "v1-5-pruned.safetensors").write_bytes(b"twin")
    for part in NETWORKS:
        (home / part / f"{weights(home / part).stem}.fp16.safetensors").write_bytes(b"twin")


def strays(home: Path) -> None:
    (home / ".DS_Store").write_bytes(b"x")
    (home / "unet/.DS_Store").write_bytes(b"x")
    (home / "README.md").write_text("---\nlicense: openrail\n---\n# A model\n")
    (home / "unet/.ipynb_checkpoints").mkdir()
    (home / "unet/.ipynb_checkpoints/preview.png").write_bytes(b"x")


def safety_checker(home: Path) -> None:
    for part in ("safety_checker", "feature_extractor"):
        (home / part).mkdir()
    (home / "safety_checker/pytorch_model.bin").write_bytes(b"x")
    (home / "safety_checker/config.json").write_text("{}")
    (home / "feature_extractor/preprocessor_config.json").write_text("{}")
    index = json.loads((home / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPFeatureExtractor"]
    index["requires_safety_checker"] = True
    (home / "model_index.json").write_text(json.dumps(index))


def another_writer(home: Path) -> None:
    for file in (*home.glob("*/*config.json"), home / "model_index.json"):
        content = json.loads(file.read_text())
        writer = {"_diffusers_version": "0.6.0", "_name_or_path": "/elsewhere", "transformers_version": "4"}
        file.write_text(json.dumps({**dict(reversed(content.items())), **writer}, indent=7))


def read_only(home: Path) -> None:
    for path in (home, *home.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def renamed_shards(home: Path) -> None:
    shard(home)
    for index in home.glob("*/*.index.json"):
        index.write_text(index.read_text().replace("00001-of-00002", "first"))
        for file in index.parent.glob("*00001-of-00002*"):
            file.rename(file.with_name(file.name.replace("00001-of-00002", "first")))


LAYOUTS = (shard, renamed_shards, twins, strays, safety_checker, another_writer, read_only)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_same_base(
    tiny_base_dir: Path, copied: Path, layout: Callable[[Path], None]
) -> None:
    layout(copied)
    plain, base = load_model(str(tiny_base_dir)), load_model(str(copied))
    assert torch.equal(picture(base), picture(plain))
    assert base.sha256 == plain.sha256


def test_a_path_with_spaces_and_letters_of_any_kind_and_links_loads(
    tiny_base_dir: Path, tmp_path: Path
) -> None:
    home = tmp_path / "größe ü/ein Modell 模型"
    home.parent.mkdir()
    home.symlink_to(tiny_base_dir)
    assert load_model(str(home)).sha256 == load_model(str(tiny_base_dir)).sha256


@pytest.mark.parametrize("sharded", [False, True])
def test_a_directory_of_fp16_twins_alone_loads_as_float32(
    copied: Path, tmp_path: Path, sharded: bool
) -> None:
    for part in NETWORKS:
        state = {key: value.half() for key, value in load_file(weights(copied / part)).items()}
        save_file(state, weights(copied / part), {"format": "pt"})
    half = Path(shutil.copytree(copied, tmp_path / "half"))
    if sharded:
        shard(copied)
    for file in [*copied.glob("*/*.safetensors"), *copied.glob("*/*.index.json")]:
        head, _, tail = file.name.partition(".safetensors")
        if tail:
            text = file.read_text().replace("model-0", "model.fp16-0")
            file.write_text(text)
            file.rename(file.with_name(f"{head}.safetensors.index.fp16.json"))
        elif sharded:
            file.rename(file.with_name(file.name.replace("model-0", "model.fp16-0")))
        else:
            file.rename(file.with_name(f"{head}.fp16.safetensors"))
    base = load_model(str(copied))
    assert base.dtype == torch.float32 and torch.equal(picture(base), picture(load_model(str(half))))


def test_other_formats_are_named_once_and_never_opened(
    copied: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notes, "_written", set())
    twins(copied)
    load_model(str(copied))
    load_model(str(copied))
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "ignored" in line]
    assert (
        "text_encoder/flax_model.msgpack, unet/diffusion_pytorch_model.bin" in line and "and 3 more" in line
    )


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "diffusion_pytorch_model.ckpt"])
def test_a_part_of_pickles_alone_is_refused_with_the_command_that_converts(copied: Path, name: str) -> None:
    weights(copied / "unet").rename(copied / "unet" / name)
    with pytest.raises(BaseModelError, match=f"only {name}, and no pickle is loaded") as caught:
        load_model(str(copied))
    assert "from diffusers import UNet2DConditionModel as M; M.from_pretrained(" in caught.value.action


def test_the_command_that_converts_does(copied: Path, tiny_base_dir: Path) -> None:
    from diffusers import UNet2DConditionModel

    file = weights(copied / "unet")
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    with pytest.raises(BaseModelError) as caught:
        load_model(str(copied))
    command = caught.value.action.split('python -c "')[1].split('"')[0].split("; ", 1)[1]
    exec(command, {"M": UNet2DConditionModel})  # noqa: S102 - the command of our own sentence
    assert load_model(str(copied)).sha256 == load_model(str(tiny_base_dir)).sha256


REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "a shard is missing": (
        lambda home: next((home / "unet").glob("*00002-of*")).unlink(),
        r"unet/\S+00002-of-00002.safetensors is missing",
    ),
    "a shard elsewhere": (
        lambda home: (home / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(
            '{"weight_map": {"a": "../vae/x.safetensors"}}'
        ),
        "no safetensors file beside it",
    ),
    "an index without a map": (
        lambda home: (home / "unet/diffusion_pytorch_model.safetensors.index.json").write_text("{}"),
        "index.json cannot be read",
    ),
    "both whole and sharded": (
        lambda home: shutil.copy(
            next((home / "unet").glob("*00002-of*")), home / "unet/diffusion_pytorch_model.safetensors"
        ),
        "are both there",
    ),
    "a tensor in two shards": (
        lambda home: shutil.copy(
            next((home / "unet").glob("*00002-of*")), next((home / "unet").glob("*00001-of*"))
        ),
        r"holds the tensor \S+ in two files",
    ),
    "a cut shard": (
        lambda home: os.truncate(next((home / "unet").glob("*00002-of*")), 20_000),
        "is no whole safetensors file",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_shards_that_are_not_whole_are_refused_by_name(copied: Path, what: str) -> None:
    shard(copied)
    change, says = REFUSED[what]
    change(copied)
    with pytest.raises(BaseModelError, match=says):
        check_model(copied, "base")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a weight": lambda home: _change(home / "vae", lambda value: value + 1e-6),
    "a dtype": lambda home: _change(home / "vae", lambda value: value.half()),
    "a name": lambda home: _rename(home / "vae"),
    "a setting": lambda home: _edit(home / "scheduler/scheduler_config.json", steps_offset=0),
    "the pipeline's setting": lambda home: _edit(home / "model_index.json", force_zeros=True),
    "the tokenizer": lambda home: _edit(home / "tokenizer/tokenizer_config.json", model_max_length=15),
}


def _change(folder: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    state = load_file(weights(folder))
    name = sorted(state)[0]
    save_file({**state, name: change(state[name])}, weights(folder), {"format": "pt"})


def _rename(folder: Path) -> None:
    state = load_file(weights(folder))
    state["other"] = state.pop(sorted(state)[0])
    save_file(state, weights(folder), {"format": "pt"})


def _edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_loaded_decides_the_hash(tiny_base_dir: Path, copied: Path, what: str) -> None:
    CHANGES[what](copied)
    assert model_sha256(copied, "base") != model_sha256(tiny_base_dir, "base")


def test_the_hash_of_a_clip_is_of_what_is_loaded(tmp_path: Path) -> None:
    home = make_tiny_clip(tmp_path / "clip")
    before = model_sha256(home, "clip"), legacy_sha256(home, "clip")
    (home / ".DS_Store").write_bytes(b"x")
    (home / "model.fp16.safetensors").write_bytes(b"twin")
    assert model_sha256(home, "clip") == before[0] and legacy_sha256(home, "clip") != before[1]
    _edit(home / "config.json", projection_dim=9)
    assert model_sha256(home, "clip") != before[0]


def test_a_file_is_read_once_a_process_until_it_changes(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fade.models import identity

    first, opened = model_sha256(copied, "base"), []
    real = identity.sha256_of
    monkeypatch.setattr(identity, "sha256_of", lambda path: opened.append(path) or real(path))
    monkeypatch.setattr(identity, "tensor_entries", lambda *_: pytest.fail("a file was read twice"))
    assert model_sha256(copied, "base") == first and opened == []
    monkeypatch.undo()
    _change(copied / "unet", lambda value: value + 1)
    assert model_sha256(copied, "base") != first


def test_the_hash_of_earlier_versions_still_names_the_base(copied: Path) -> None:
    base = load_model(str(copied))
    legacy = legacy_sha256(copied, "base")
    assert legacy != base.sha256 and base.is_base(legacy) and base.is_base(base.sha256)
    assert not base.is_base("b" * 64)


def test_adapters_of_either_hash_load_and_add_up(copied: Path, tmp_path: Path) -> None:
    base = load_model(str(copied))
    names = {"new": base.sha256, "old": base.legacy_sha256, "other": "b" * 64}
    paths = {}
    for concept, sha256 in names.items():
        lora = LoraAdapter.insert(base, MeshConfig(targets=("text",)), seed=0)
        for value in lora.parameters():
            value.data += 0.1
        paths[concept] = tmp_path / f"{concept}.safetensors"
        lora.save(paths[concept], {"base_sha256": sha256, "concept": concept, "neighbours": "[]"})
        lora.remove()
    for concept in ("new", "old"):
        LoraAdapter.load(base, paths[concept]).remove()
    with pytest.raises(AdapterError, match="was trained for the base bbbbbbbbbbbb"):
        LoraAdapter.load(base, paths["other"])
    compose(base, [paths["old"], paths["new"]], tmp_path / "sum.safetensors")
    LoraAdapter.load(base, tmp_path / "sum.safetensors").remove()
    with pytest.raises(AdapterError, match="different bases"):
        compose(base, [paths["old"], paths["other"]], tmp_path / "none.safetensors")


def original(home: Path, file: Path) -> None:
    """The weights of a tiny Stable Diffusion 1.x directory in the original key layout: the inverse of what
    diffusers converts."""
    state: dict[str, torch.Tensor] = {}
    for name, value in load_file(weights(home / "text_encoder")).items():
        state[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = value
    for name, value in load_file(weights(home / "unet")).items():
        state[f"model.diffusion_model.{_unet_name(name)}"] = value
    for name, value in load_file(weights(home / "vae")).items():
        new = _vae_name(name)
        state[f"first_stage_model.{new}"] = (
            value[:, :, None, None] if ".attn_1." in new and value.ndim == 2 else value
        )
    save_file(state, file, {"format": "pt"})


_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def _unet_name(name: str) -> str:
    """Of a UNet with one layer a block: down blocks of one layer and a downsampler, up blocks of two."""
    for ours, theirs in _ENDS.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs)
    at = name.split(".")
    if at[0] == "mid_block":
        place = f"middle_block.{2 * int(at[2]) if at[1] == 'resnets' else 1}"
    elif at[0] == "down_blocks":
        number = 1 + 2 * int(at[1]) + (int(at[3]) if at[2] != "downsamplers" else 1)
        place = f"input_blocks.{number}.{1 if at[2] == 'attentions' else 0}"
    else:
        number, last = 2 * int(at[1]) + (int(at[3]) if at[2] != "upsamplers" else 1), at[2] == "upsamplers"
        attentive = (int(at[1])) > 0  # only the second up block of DEEP has attention
        place = (
            f"output_blocks.{number}.{(2 if attentive else 1) if last else 1 if at[2] == 'attentions' else 0}"
        )
    if at[2] == "downsamplers" or at[2] == "upsamplers":
        return f"{place}.{'op' if at[2] == 'downsamplers' else 'conv'}.{at[-1]}"
    rest = at[3:] if at[0] == "mid_block" else at[4:]
    if at[1 if at[0] == "mid_block" else 2] == "resnets":
        rest = [_RESNET.get(one, one) for one in rest]
    return ".".join([place, *rest])


def _vae_name(name: str) -> str:
    at = name.split(".")
    swaps = {"conv_norm_out": "norm_out"}
    if len(at) > 2 and at[1] in ("down_blocks", "up_blocks"):
        up = at[1] == "up_blocks"
        number = 3 - int(at[2]) if up else int(at[2])
        kind = {"resnets": f"block.{at[4]}", "downsamplers": "downsample", "upsamplers": "upsample"}[at[3]]
        rest = ["nin_shortcut" if one == "conv_shortcut" else one for one in at[5:]]
        return ".".join([at[0], "up" if up else "down", str(number), kind, *rest])
    if len(at) > 2 and at[1] == "mid_block":
        if at[2] == "resnets":
            return ".".join([at[0], "mid", f"block_{int(at[3]) + 1}", *at[4:]])
        rest = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out"}[at[4]]
        return ".".join([at[0], "mid", "attn_1", rest, at[-1]])
    return ".".join(swaps.get(one, one) for one in at)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_base(tmp_path_factory.mktemp("deep") / "base", **DEEP)


@pytest.fixture
def single(deep: Path, tmp_path: Path) -> Path:
    """A file in the original layout beside a directory ``config`` without weights."""
    original(deep, tmp_path / "model v1.safetensors")
    shutil.copytree(deep, tmp_path / "config", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "model v1.safetensors"


def test_a_file_in_the_original_layout_makes_the_directorys_pictures(deep: Path, single: Path) -> None:
    base, plain = load_model(f"{single}@{single.parent / 'config'}"), load_model(str(deep))
    assert torch.equal(picture(base), picture(plain))
    assert (
        base.sha256 != plain.sha256
        and base.sha256 == load_model(f"{single}@{single.parent / 'config'}").sha256
    )


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.input_blocks.1.1.norm.weight",
        "first_stage_model.decoder.mid.block_1.norm1.weight",
        "cond_stage_model.transformer.text_model.final_layer_norm.weight",
    ],
)
def test_a_file_without_a_tensor_is_refused(single: Path, name: str) -> None:
    state = load_file(single)
    del state[name]
    save_file(state, single, {"format": "pt"})
    with pytest.raises(BaseModelError, match=r"model v1\.safetensors (lacks|cannot be read)"):
        load_model(f"{single}@{single.parent / 'config'}")


def test_a_file_without_its_configurations_is_refused(single: Path) -> None:
    with pytest.raises(BaseModelError, match="holds weights alone") as caught:
        load_model(str(single))
    assert "data.base_config" in caught.value.action
    with pytest.raises(BaseModelError, match="nowhere is not there"):
        load_model(f"{single}@{single.parent / 'nowhere'}")
