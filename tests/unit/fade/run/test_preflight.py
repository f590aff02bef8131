"""What is refused before anything is pulled or started, and when that must wait for the pull."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fade.data.dvcfile import hash_folder, listing_md5
from fade.errors import (
    BaseModelError,
    ConfigError,
    DataError,
    FadeError,
    SignatureError,
    StorageError,
    UnknownNameError,
    UsageError,
)
from fade.models.safetensors_file import canonical_safetensors
from fade.run import preflight as preflight_module
from fade.run.context import RunContext
from fade.run.preflight import preflight
from fade.run.resolve_params import load_params, parse_params, resolve
from tests.datasets import FAMILIES, make_dataset
from tests.support import make_bare_base, make_bare_model


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose data folder is what data.dvc names."""
    make_dataset(tmp_path / "data" / "emoji")
    make_bare_base(tmp_path / "data/base")
    make_bare_model(tmp_path / "data/base/clip")
    judge = make_bare_model(tmp_path / "data/judge")
    labels = {"id2label": dict(enumerate(name for family in FAMILIES.values() for name in family))}
    (judge / "config.json").write_text(json.dumps(labels), encoding="utf-8")
    named(tmp_path)
    return tmp_path


def named(root: Path) -> None:
    md5 = listing_md5(hash_folder(root / "data"))
    (root / "data.dvc").write_text(
        f"outs:\n- md5: {md5}\n  size: 1\n  nfiles: 1\n  hash: md5\n  path: data\n"
    )


def run(
    root: Path, target: str = "panda", more: dict[str, dict[str, object]] | None = None, **data: str
) -> RunContext:
    method = {"name": "surgical", "variant": "guidance", "replacement": data.pop("replacement", "")}
    data = {"second_judge": "", **data}
    near = {"k": int(data.pop("k", "2")), "k_heldout": 1}  # of four concepts
    return RunContext(
        parse_params({"data": data, "method": method, "neighborhood": near, **(more or {})}),
        target,
        root / "runs",
        root,
    )


def test_what_will_work_is_let_through(root: Path) -> None:
    preflight(run(root))
    preflight(run(root, base="some/hub-id"))  # fetched when its turn comes


@pytest.mark.parametrize(
    ("target", "data", "error", "says"),
    [
        ("pandda", {}, UnknownNameError, "'panda'"),
        ("panda", {"replacement": "rosse"}, UnknownNameError, "method.replacement"),
        ("panda", {"replacement": "panda"}, ConfigError, "cannot be replaced by itself"),
        ("panda", {"k": "3"}, ConfigError, "ask for 4 concepts beside the target, and there are 3"),
        ("panda", {"base": "data/nowhere"}, BaseModelError, "data/nowhere is not there"),
        ("panda", {"erase": "styles"}, UnknownNameError, "unknown concept 'panda'"),
    ],
)
def test_what_no_pull_will_mend_is_said_at_once(
    root: Path, target: str, data: dict[str, str], error: type[FadeError], says: str
) -> None:
    with pytest.raises(error, match=says):
        preflight(run(root, target, **data))


@pytest.mark.parametrize("why", ["changed", "gone"])
def test_where_the_pull_may_bring_what_is_missing_nothing_is_said(root: Path, why: str) -> None:
    manifest = root / "data" / "emoji" / "manifest.csv"
    if why == "changed":
        manifest.write_text(manifest.read_text() + "\n")
    else:
        manifest.unlink()
    preflight(run(root, "pandda", base="data/nowhere"))


def test_what_no_pull_can_bring_is_refused_although_the_data_are_not_whole(root: Path) -> None:
    (root / "data" / "emoji" / "manifest.csv").unlink()
    with pytest.raises(BaseModelError, match="elsewhere is not there"):
        preflight(run(root, base="./elsewhere"))
    (root / "data.dvc").unlink()
    with pytest.raises(DataError, match=r"data\.dvc"):
        preflight(run(root))


@pytest.mark.parametrize(
    ("name", "says", "action"),
    [
        ("model v1.safetensors", "holds weights alone", "data.base_config"),
        ("model.ckpt", "is no .safetensors file", "a pickle can run code"),
        ("MODEL.SAFETENSORS", "is no .safetensors file", "name a directory"),
    ],
)
def test_a_base_that_is_one_file_is_no_missing_directory(
    root: Path, name: str, says: str, action: str
) -> None:
    (root / name).write_bytes(b"weights")
    with pytest.raises(BaseModelError, match=says) as caught:
        preflight(run(root, base=name))
    assert action in caught.value.action


@pytest.mark.parametrize("base", ["data/base", "some/hub-id"])
def test_configurations_of_one_file_beside_another_base_are_named(root: Path, base: str) -> None:
    with pytest.raises(BaseModelError, match=rf"base_config is set, and data\.base = {base} is no") as caught:
        preflight(run(root, base=base, base_config="data/base"))
    assert 'set data.base_config=""' in caught.value.action


def test_a_manifest_that_cannot_be_read_is_the_data_checks_business(root: Path) -> None:
    (root / "data" / "emoji" / "manifest.csv").write_bytes(b"\xff\xfe,concept\n\x00")
    named(root)
    preflight(run(root, "pandda"))


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        ({"base": "/etc"}, BaseModelError, "/etc/model_index.json is missing"),
        ({"base": "/"}, BaseModelError, "/model_index.json is missing"),
        ({"base": "nowhere"}, BaseModelError, "nowhere is not there"),
        ({"clip": "/usr"}, BaseModelError, "/usr/config.json is missing"),
        ({"judge": "/etc/hostname"}, BaseModelError, "/etc/hostname is a file"),
        ({"judge": "data/emoji"}, BaseModelError, "data/emoji/config.json is missing"),
        ({"second_judge": "nowhere"}, BaseModelError, "nowhere is not there"),
        (
            {"second_judge": "data/base/clip"},
            BaseModelError,
            r"clip does not know 4 of the 4 concepts: .* in data\.second_judge \(empty: none\)\.",
        ),
        ({"images": "/etc"}, DataError, "/etc/manifest.csv does not exist"),
        ({"images": "/"}, DataError, "/manifest.csv does not exist"),
        ({"images": "/dev/null"}, DataError, "/dev/null/manifest.csv does not exist"),
    ],
)
def test_folders_of_another_kind_are_refused_at_once(
    root: Path, data: dict[str, str], error: type[FadeError], says: str
) -> None:
    begin = time.monotonic()
    with pytest.raises(error, match=says) as caught:
        preflight(run(root, **data))
    assert time.monotonic() - begin < 1
    assert f"data.{next(iter(data))}" in str(caught.value)


def remove(path: Path) -> None:
    path.unlink()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def pickle(path: Path) -> None:
    path.rename(path.parent / "pytorch_model.bin")


def code(path: Path) -> None:
    (path.parent / "model.py").write_bytes(b"")


def inpainting(path: Path) -> None:
    path.write_text('{"sample_size": 8, "in_channels": 9}')


@pytest.mark.parametrize(
    ("spoil", "file", "says"),
    [
        (remove, "base/model_index.json", "model_index.json is missing"),
        (pipe, "base/model_index.json", "model_index.json is missing"),
        (remove, "base/unet/config.json", "unet/config.json is missing"),
        (remove, "judge/model.safetensors", "judge holds no safetensors weights"),
        (pipe, "judge/model.safetensors", "model.safetensors is refused: it is a named pipe"),
        (pickle, "base/clip/model.safetensors", "only pytorch_model.bin, and no pickle is loaded"),
        (code, "base/clip/config.json", "code beside a model is never run"),
        (inpainting, "base/unet/config.json", "inpainting"),
    ],
)
def test_a_model_of_another_layout_is_refused(
    root: Path, spoil: Callable[[Path], None], file: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(root / "data" / file)
    preflight(run(root))  # the pull would bring it back
    monkeypatch.setattr(preflight_module, "_nothing_to_pull", lambda _: True)
    with pytest.raises(BaseModelError, match=says):
        preflight(run(root))


@pytest.mark.parametrize("target", ["pan\0da", "panda\n", "pan\x9bda", "\u202eadnap"])
def test_a_concept_that_cannot_be_printed_is_refused_without_the_data(root: Path, target: str) -> None:
    (root / "data" / "emoji" / "manifest.csv").unlink()
    with pytest.raises(UsageError, match="cannot be printed"):
        preflight(run(root, target))


def test_the_key_of_a_registration_is_needed_at_the_beginning(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FADE_SIGNING_PASSWORD", raising=False)
    (root / "folder.pem").mkdir()
    (root / "word.pem").write_text("a word")
    (root / "huge.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    os.truncate(root / "huge.pem", 6 << 30)
    (root / "ann.pub").write_text("-----BEGIN PUBLIC KEY-----\n")
    (root / "locked.pem").write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    (root / "ann.pem").write_text("-----BEGIN PRIVATE KEY-----\n")
    for name, says in {
        "none.pem": "none.pem does not exist",
        "folder.pem": "is no file",
        "huge.pem": "is larger than 1 MiB",
        "word.pem": "is no private key",
        "ann.pub": "is no private key",
        "locked.pem": "is locked by a password. Next: set FADE_SIGNING_PASSWORD",
    }.items():
        with pytest.raises(SignatureError, match=says):
            preflight(run(root, more={"signing": {"private_key": name}}))
    preflight(run(root, more={"signing": {"private_key": "ann.pem"}}))


def test_a_runs_folder_that_cannot_be_written(root: Path) -> None:
    (root / "runs").write_text("a file")
    with pytest.raises(StorageError, match="runs"):
        preflight(run(root))


def test_more_processes_than_gpus(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    preflight(run(root, more={"train": {"processes": 2}}))
    with pytest.raises(ConfigError, match=r"train.processes = 3, and this machine has 2 GPU"):
        preflight(run(root, more={"train": {"processes": 3}}))
    preflight(
        run(root, more={"train": {"processes": 3}, "schedule": {"train_deployment": "jobs/gpu"}})
    )  # on that machine


@pytest.mark.parametrize("text", [".inf", "-.inf", ".nan", "1e400"])
@pytest.mark.parametrize("key", ["train.max_grad_norm", "mesh.alpha", "sampler.guidance_scale"])
def test_a_number_that_is_not_finite_is_refused_by_its_key(key: str, text: str, repo: Path) -> None:
    with pytest.raises(ConfigError, match=key):
        load_params(repo / "params.yaml", [f"{key}={text}"])


@pytest.mark.parametrize("key", ["data.base", "data.images", "data.dvc_file", "sampler.prompt"])
def test_a_nul_character_in_a_parameter_is_refused_by_its_key(key: str, repo: Path) -> None:
    with pytest.raises(ConfigError, match=key):
        load_params(repo / "params.yaml", [f'{key}="a {{concept}}\\0"'])


def test_a_file_name_that_is_not_utf8_is_named(root: Path) -> None:
    """Beside the pictures, in the tracked folder or in one of the user's own."""
    (root / "mine").mkdir()
    shutil.copy(root / "data" / "emoji" / "manifest.csv", root / "mine")
    (root / "mine" / os.fsdecode(b"\xff.png")).touch()
    with pytest.raises(DataError, match=r"xff\.png' in .*mine is a file name that is not UTF-8"):
        preflight(run(root, images="mine"))
    (root / "data" / "emoji" / os.fsdecode(b"\xff")).mkdir()
    for use in (lambda: hash_folder(root / "data"), lambda: preflight(run(root))):
        with pytest.raises(DataError, match=r"xff' in .*emoji is a file name that is not UTF-8"):
            use()


def test_a_target_of_the_adapter_that_names_no_layer_is_refused(root: Path) -> None:
    file = root / "data" / "base" / "unet" / "diffusion_pytorch_model.safetensors"
    layers = ["block.attn.to_q.weight", "block.attn.to_out.0.weight", "block.attn.to_out.0.bias"]
    file.write_bytes(canonical_safetensors({name: torch.zeros(2, 2) for name in layers}, {}))
    named(root)
    preflight(run(root, more={"mesh": {"targets": ["to_q", "to_out.0"]}}))  # the control
    for target in ("nonsense", "o_q", ""):
        with pytest.raises(ConfigError, match=r"mesh.targets: .* names no layer of"):
            preflight(run(root, more={"mesh": {"targets": ["to_q", target]}}))


@pytest.mark.parametrize(
    ("family", "sampler", "says"),
    [
        ("sd3", {"scheduler": "dpmpp_2m"}, "Stable Diffusion 3 has the solver euler alone"),
        ("flux-dev", {"scheduler": "ddim"}, "Flux has the solver euler alone"),
        ("flux-dev", {"scheduler": "euler", "negative_prompt": "a rose"}, "sampler.negative_prompt cannot"),
        ("flux-schnell", {"scheduler": "euler", "guidance_scale": 4}, "no scale is an input"),
    ],
)
def test_a_sampler_that_the_family_lacks_is_refused_from_the_configurations(
    root: Path,
    family_dir: Callable[[str], Path],
    family: str,
    sampler: dict[str, object],
    says: str,
) -> None:
    base = str(shutil.copytree(family_dir(family), root / "other"))
    for file in Path(base).rglob("*.safetensors"):  # of no number: the weights could not be loaded
        head = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        file.write_bytes(file.read_bytes()[:head] + b"\xff" * (file.stat().st_size - head))
    method: dict[str, object] = {"name": "ablation", "variant": "model"}  # needs no null prompt
    with pytest.raises(UsageError, match=says) as caught:
        preflight(run(root, base=base, more={"method": method, "sampler": sampler}))
    assert base in str(caught.value) and "Next: set sampler." in str(caught.value)
    solved = {"scheduler": "euler", "guidance_scale": 1}
    preflight(run(root, base=base, more={"method": method, "sampler": solved}))  # control
    preflight(run(root, more={"sampler": {"scheduler": sampler["scheduler"]}}))  # a UNet has them all


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("method.variant=self", r"names no layer of .*other.* Next: name another method, esd/self trains"),
        ("method.variant=u", r"names no layer of .*other.* Next: name another method, esd/self trains"),
        ("mesh.targets=[self]", r"mesh.targets self cannot be used with .*other"),
    ],
)
def test_layers_that_a_flow_lacks_are_refused_before_the_training(
    root: Path, family_dir: Callable[[str], Path], override: str, says: str, repo: Path
) -> None:
    """`esd/self` on Stable Diffusion 3, whose text and picture share their attention."""
    base = str(shutil.copytree(family_dir("sd3"), root / "other"))
    sampler = ["sampler.scheduler=euler", "sampler.guidance_scale=1"]
    near = ["neighborhood.k=2", "neighborhood.k_heldout=1", 'data.second_judge=""']
    params = resolve(repo / "params.yaml", ["method.name=esd", "method.variant=x", *sampler, *near, override])
    there = params.model_copy(update={"data": params.data.model_copy(update={"base": base})})
    with pytest.raises((ConfigError, UsageError), match=says):
        preflight(RunContext(there, "panda", root / "runs", root))
    preflight(RunContext(params, "panda", root / "runs", root))  # control: a UNet has them
