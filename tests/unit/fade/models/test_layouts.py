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
from tests.support import make_tiny_clip

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
