"""Models from outside: no code of their own, no odd file, no output that is not finite."""

from __future__ import annotations

import ast
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fade.data.images import Preprocessor
from fade.errors import BaseModelError
from fade.judges.classifier import Classifier
from fade.models.layout import LOCAL
from fade.models.loading import load_model
from tests.support import make_tiny_judge

EVIL = "import pathlib; pathlib.Path(r'{}').write_text('ran')\n"


@pytest.fixture
def copied(tiny_base_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base_dir, tmp_path / "base"))


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    return make_tiny_judge(tmp_path / "judge")


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text(encoding="utf-8")), **changes}))


def scale(file: Path, factor: float) -> None:
    save_file({k: v * factor for k, v in load_file(file).items()}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("model_type", ["resnet", "evil"])
def test_a_judge_that_brings_its_own_code_is_refused_before_it_runs(
    judge: Path, tmp_path: Path, model_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "evil.py").write_text(EVIL.format(mark))
    code = {"AutoModelForImageClassification": f"{tmp_path}/elsewhere--evil.Evil", "AutoConfig": "evil.Evil"}
    edit(judge / "config.json", auto_map=code, model_type=model_type)
    monkeypatch.setattr("builtins.input", lambda *_: "y")  # what transformers would ask for
    with pytest.raises(BaseModelError, match=r"config\.json is refused: its auto_map names code"):
        Classifier(str(judge))
    assert not mark.exists()


def test_code_beside_the_model_is_not_run_either_where_the_check_is_left_out(
    judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second lock: trust_remote_code=False."""
    mark = tmp_path / "ran"
    (judge / "evil.py").write_text(EVIL.format(mark))
    code = {"AutoModelForImageClassification": "evil.Evil", "AutoConfig": "evil.Evil"}
    edit(judge / "config.json", auto_map=code, model_type="evil")
    monkeypatch.setattr("fade.models.layout.refuse_unsafe_files", lambda *_: None)
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(BaseModelError, match="is no ModelForImageClassification that loads"):
        Classifier(str(judge))
    assert not mark.exists()


def test_every_model_is_loaded_without_code_of_its_own(repo: Path) -> None:
    calls: dict[str, bool] = {}
    for file in (path for name in ("fade", "tasks", "flows") for path in (repo / name).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "from_pretrained":
                options = [getattr(key.value, "id", "") for key in node.keywords if key.arg is None]
                calls[f"{file.name}:{node.lineno}"] = "LOCAL" in options
    assert len(calls) > 8 and [place for place, safe in calls.items() if not safe] == []
    assert LOCAL == {"local_files_only": True, "trust_remote_code": False}


BASES: dict[str, tuple[Callable[[Path], object], str]] = {
    "code in the UNet": (
        lambda base: edit(base / "unet/config.json", auto_map={"AutoModel": "evil.Evil"}),
        r"unet/config\.json is refused: its auto_map",
    ),
    "code in the tokenizer": (
        lambda base: edit(
            base / "tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.E", None]}
        ),
        r"tokenizer_config\.json is refused: its auto_map",
    ),
    "a pipeline of its own": (
        lambda base: edit(base / "model_index.json", _class_name=["evil", "Pipe"]),
        "names the pipeline",
    ),
    "another pipeline": (
        lambda base: edit(base / "model_index.json", _class_name="EvilPipeline"),
        "names the pipeline",
    ),
    "a library of its own": (
        lambda base: edit(base / "model_index.json", unet=["evil", "Unet"]),
        "unet is of 'evil'",
    ),
    "a part that is none": (lambda base: edit(base / "model_index.json", vae=7), "vae is of"),
    "another class": (
        lambda base: edit(base / "unet/config.json", _class_name="EvilUnet"),
        "is of the class 'EvilUnet'",
    ),
    "a configuration of lists": (
        lambda base: (base / "unet/config.json").write_text("[" * 5000),
        "cannot be read",
    ),
    "a pipe": (lambda base: os.mkfifo(base / "unet/notes"), "notes is refused: it is a named pipe"),
    "a device": (
        lambda base: (base / "vae/notes").symlink_to("/dev/zero"),
        "notes is refused: it is a device",
    ),
    "weights without end": (
        lambda base: scale(base / "unet/diffusion_pytorch_model.safetensors", 1e30),
        "the output of its unet is not finite",
    ),
    "a decoder without end": (
        lambda base: scale(base / "vae/diffusion_pytorch_model.safetensors", 1e30),
        "the output of its vae is not finite",
    ),
    "a text tower without end": (
        lambda base: scale(base / "text_encoder/model.safetensors", float("nan")),
        r"text_encoder: \S+ is not finite",
    ),
}


@pytest.mark.parametrize("what", BASES)
def test_a_base_that_brings_code_or_no_number_is_refused_by_name(copied: Path, what: str) -> None:
    change, message = BASES[what]
    change(copied)
    with pytest.raises(BaseModelError, match=message) as caught:
        load_model(str(copied))
    assert caught.value.action


def test_the_probe_reads_no_random_state_and_leaves_no_embedding(tiny_base_dir: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    base = load_model(str(tiny_base_dir))
    assert torch.equal(torch.rand(1), wanted) and base._encoded == {}


def test_a_judge_whose_output_is_not_finite_is_refused(judge: Path) -> None:
    assert len(Classifier(str(judge)).labels) == 3  # the control
    scale(judge / "model.safetensors", float("inf"))
    with pytest.raises(BaseModelError, match=r"judge: \S+ is not finite"):
        Classifier(str(judge))


@pytest.mark.parametrize(
    "config",
    [
        {"size": 10**9},
        {"size": 0},
        {"size": "large"},
        {"size": {}},
        {"size": 16, "image_mean": [0.1]},
        {"size": 16, "image_std": [0, 1, 1]},
        {"size": 16, "image_mean": "x"},
        {"size": 16, "image_std": [1e999, 1, 1]},
        [],
    ],
)
def test_a_preprocessor_that_cannot_be_used_is_refused(tmp_path: Path, config: object) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    with pytest.raises(BaseModelError, match=r"preprocessor_config\.json (cannot be used|has )"):
        Preprocessor(tmp_path, 0)
