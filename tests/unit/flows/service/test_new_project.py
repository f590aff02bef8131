"""`fade init` writes a project that loads, with the family's settings, and replaces nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fade.errors import UsageError
from fade.run.resolve_params import load_params
from flows.service.new_project import FAMILIES, PIPELINES, ProjectOptions, create_project
from tests.data_sets import DRAWN, import_fixture, own_pictures
from tests.datasets import make_dataset


def options(tmp_path: Path, pipeline: str = "StableDiffusionPipeline", **more: str) -> ProjectOptions:
    """A base of a family, and pictures."""
    base = tmp_path / "base"
    base.mkdir(exist_ok=True)
    (base / "model_index.json").write_text(json.dumps({"_class_name": pipeline}), encoding="utf-8")
    if not (tmp_path / "images").exists():
        make_dataset(tmp_path / "images")
    return ProjectOptions(str(base), tmp_path / "images", "judges/mine", "owner/clip@0123abc", **more)


@pytest.mark.parametrize(("pipeline", "family"), PIPELINES.items())
def test_params_have_the_family_s_settings_and_load(pipeline: str, family: str, tmp_path: Path) -> None:
    made = create_project(tmp_path / "project", options(tmp_path, pipeline, name="pets"))
    params = load_params(tmp_path / "project" / "params.yaml")
    assert made["family"] == family
    assert params.sampler.scheduler == FAMILIES[family]["sampler"]["scheduler"]
    assert params.model.dtype == FAMILIES[family]["dtype"]
    assert params.data.base == str(tmp_path / "base") and params.data.clip == "owner/clip@0123abc"
    assert params.data.dvc_files == () and params.register_.model_prefix == "pets"
    assert params.checks.kind == "drawings" and params.checks.licences == ("MIT",)
    assert (tmp_path / "project" / ".dvc" / "config").is_file()
    assert "/runs/" in (tmp_path / "project" / ".gitignore").read_text(encoding="utf-8")


def test_imported_photographs_have_their_own_rules_and_prompt(tmp_path: Path) -> None:
    skip = ("{draft}", "one only")
    home = own_pictures(tmp_path)
    import_fixture(home, tmp_path / "set", "folder", licence="CC0-1.0", split=DRAWN, skip=skip)
    given = options(tmp_path)
    create_project(tmp_path / "p", ProjectOptions(given.base, tmp_path / "set", given.judge, given.clip))
    params = load_params(tmp_path / "p" / "params.yaml")
    assert (params.checks.kind, params.checks.licences) == ("photographs", ("CC0-1.0",))
    assert params.sampler.prompt == "a photo of a {concept}"


def test_what_is_there_is_not_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "params.yaml").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match="has params.yaml already"):
        create_project(folder, options(tmp_path))
    assert [one.name for one in folder.iterdir()] == ["params.yaml"]


def test_a_hub_id_s_family_must_be_named(tmp_path: Path) -> None:
    given = options(tmp_path)
    hub = ProjectOptions("owner/base@0123abc", given.images, given.judge, given.clip)
    with pytest.raises(UsageError, match="--family: sd, sdxl, sd3, flux"):
        create_project(tmp_path / "a", hub)
    named = ProjectOptions(hub.base, hub.images, hub.judge, hub.clip, family="sd3")
    assert create_project(tmp_path / "b", named)["family"] == "sd3"
    with pytest.raises(UsageError, match="is no name for models"):
        create_project(tmp_path / "c", options(tmp_path, name="a/b"))
