"""A hub id, from a cache that plain diffusers filled in part: offline, of one revision, with its origin."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import torch

from fade.config import Params
from fade.errors import BaseModelError
from fade.judges.classifier import Classifier
from fade.models import hub
from fade.models.hub import is_hub_id, origin, revision_of
from fade.models.layout import check_model, resolve
from fade.models.loading import load_model
from fade.run.context import RunContext
from tests.support import make_tiny_judge

REVISION = "a1" * 20
CARD = "---\nlicense: creativeml-openrail-m\ntags: [x]\n---\n# A model\nlicense: not this one\n"


@pytest.fixture
def cache(tiny_base_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache with ann/tiny: blobs, links to them, the reference main; only what a pipeline reads."""
    from huggingface_hub import constants

    home = tmp_path / "hub/models--ann--tiny"
    wanted = [file for file in tiny_base_dir.rglob("*") if file.is_file()]
    for file in wanted:
        _add(home, file.relative_to(tiny_base_dir).as_posix(), file.read_bytes())
    _add(home, "README.md", CARD.encode())
    (home / "refs").mkdir()
    (home / "refs/main").write_text(REVISION)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "_fetched", {})
    return home


def _add(home: Path, name: str, content: bytes) -> None:
    blob, link = home / "blobs" / hashlib.sha256(content).hexdigest(), home / "snapshots" / REVISION / name
    blob.parent.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(blob)


@pytest.mark.parametrize("where", ["ann/tiny", f"ann/tiny@{REVISION}", "ann/tiny@main"])
def test_a_partial_cache_loads_offline_under_the_hash_of_the_directory(
    cache: Path, tiny_base_dir: Path, where: str
) -> None:
    base, plain = load_model(where), load_model(str(tiny_base_dir))
    assert base.sha256 == plain.sha256 and base.path == where
    assert torch.equal(base.encode(["a panda"]).tokens, plain.encode(["a panda"]).tokens)


def test_the_origin_is_the_id_the_revision_and_the_licence(cache: Path) -> None:
    home = resolve("ann/tiny")
    assert origin("ann/tiny", home) == {
        "id": "ann/tiny",
        "revision": REVISION,
        "licence": "creativeml-openrail-m",
    }
    assert revision_of(home) == REVISION and revision_of(cache) == ""


def test_only_files_that_are_read_are_asked_for(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked, real = [], huggingface_hub.hf_hub_download

    def download(repo: str, name: str, **options: object) -> str:
        asked.append((name, options["revision"]))
        return str(real(repo, name, **options))  # type: ignore[arg-type]

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    parts = check_model(resolve("ann/tiny"), "base")
    names = [name for name, _ in asked]
    assert names[0] == "model_index.json" and {revision for _, revision in asked[1:]} == {REVISION}
    read = {f"{part.name}/{file.name}" for part in parts for file in (*part.configs, *part.weights)}
    assert read <= set(names)
    assert [name for name in names if name.endswith(".safetensors")] == [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ]


def test_without_the_revision_the_cache_has_no_model(cache: Path) -> None:
    with pytest.raises(BaseModelError, match="is not in the hub's cache"):
        resolve(f"ann/tiny@{'b2' * 20}")
    with pytest.raises(BaseModelError, match="is not in the hub's cache"):
        resolve("ann/another")


def test_a_cache_without_a_part_names_it(cache: Path) -> None:
    shutil.rmtree(cache / "snapshots" / REVISION / "vae")
    with pytest.raises(BaseModelError, match="ann/tiny/vae/config.json is missing"):
        resolve("ann/tiny")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("ann/tiny", True),
        ("ann/tiny@v1", True),
        ("data/base", False),
        ("./a", False),
        ("/a/b", False),
        ("a", False),
    ],
)
def test_an_id_is_an_owner_and_a_name(where: str, expected: bool) -> None:
    assert is_hub_id(where) == expected


def test_the_labels_of_a_judge_of_the_hub_are_those_that_are_loaded(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = make_tiny_judge(tmp_path / "judge")
    for file in judge.iterdir():
        _add(cache, file.name, file.read_bytes())
    labels = Classifier(str(judge)).labels

    def labels_of(where: str) -> list[str] | None:
        return RunContext(Params.model_validate({"data": {"judge": where}}), "panda", tmp_path).labels()

    for where in ("ann/tiny", f"ann/tiny@{REVISION}", str(judge)):
        assert labels_of(where) == labels == Classifier(where).labels
    for where in (f"ann/tiny@{'b' * 40}", "ann/nothing", str(tmp_path / "nowhere")):  # loading it says why
        assert labels_of(where) is None
