"""Lineage: canonical, closed by a second look at the inputs, and honest about differences."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from fade.errors import FadeError
from fade.provenance.fingerprints import versions
from fade.provenance.lineage import Lineage, code_state, collect, compare, hash_inputs, hash_path
from fade.run.resolve_params import load_params
from fade.utils.hashing import canonical


def record(
    tmp_path: Path,
    *overrides: str,
    flow: str | None = None,
    code: dict[str, object] | None = None,
    models: dict[str, dict[str, object]] | None = None,
    dvc_files: dict[str, str] | None = None,
) -> Lineage:
    params_file = tmp_path / "params.yaml"
    params_file.write_text("train: {steps: 5}\n")
    return collect(
        load_params(params_file, overrides),
        overrides=overrides,
        data_md5="0" * 32 + ".dir",
        data_files={"emoji/a.png": "1" * 32},
        dvc_files=dvc_files,
        base_sha256="2" * 64,
        judge_sha256="3" * 64,
        models=models,
        neighbourhood={
            "target": "panda",
            "neighbours": ["koala"],
            "heldout": ["bear"],
            "cache_key": "4" * 64,
        },
        inputs={"base": "2" * 64, "params": "5" * 64},
        device="cpu",
        precision="fp32",
        flow_run_id=flow,
        code=code,
        repository=tmp_path,
    )


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_each_of_several_dvc_files_is_recorded_and_one_alone_as_ever(tmp_path: Path) -> None:
    one = {"data.dvc": "0" * 32 + ".dir"}
    both = {**one, "worlds/sdxl.dvc": "6" * 32 + ".dir"}
    assert record(tmp_path, dvc_files=one).content["data"] == record(tmp_path).content["data"]
    assert record(tmp_path, dvc_files=both).content["data"] == {
        **record(tmp_path).content["data"],
        "dvc_files": both,
    }


def test_two_records_of_the_same_run_are_the_same_but_for_the_flow_run(tmp_path: Path) -> None:
    a, b = record(tmp_path, flow="one"), record(tmp_path, flow="two")
    assert a.content != b.content
    assert compare(a, b) == []


def test_where_a_model_lay_is_recorded_and_no_difference(tmp_path: Path) -> None:
    facts = {"base": {"sha256": "2" * 64, "legacy_sha256": "6" * 64, "revision": "a1", "licence": "openrail"}}
    a, b = record(tmp_path, models=facts), record(tmp_path)
    assert a.content["models"] == facts and b.content["models"] == {} and compare(a, b) == []


def test_an_override_is_told_with_both_values_and_moves_the_params_hash(tmp_path: Path) -> None:
    differences = compare(record(tmp_path), record(tmp_path, "train.steps=7"))
    found = {d.path: (d.a, d.b) for d in differences}
    assert found["params.values.train.steps"] == (5, 7)
    assert found["params.overrides"] == ([], ["train.steps=7"])
    assert set(found) == {"params.values.train.steps", "params.overrides", "params.sha256"}
    assert "params.values.train.steps: 5 -> 7" in map(str, differences)


def test_a_key_that_one_side_lacks_is_a_difference(tmp_path: Path) -> None:
    a = record(tmp_path)
    b = Lineage({**a.content, "data": {**a.content["data"], "files": {}}})
    assert [str(d) for d in compare(a, b)] == [f"data.files.emoji/a.png: {'1' * 32} -> nothing"]


def test_an_input_that_changed_under_way_is_named(tmp_path: Path) -> None:
    open_record = record(tmp_path)
    assert open_record.changed_inputs() == []
    kept = open_record.finish({"base": "2" * 64, "params": "5" * 64}, "a" * 64)
    assert kept.content["inputs"]["unchanged"] is True and kept.changed_inputs() == []
    moved = open_record.finish({"base": "9" * 64, "params": "5" * 64}, "a" * 64)
    assert moved.content["inputs"]["unchanged"] is False and moved.changed_inputs() == ["base"]
    assert moved.content["outputs"]["adapter_sha256"] == "a" * 64
    assert [d.path for d in compare(kept, moved)] == ["inputs.after.base", "inputs.unchanged"]


def test_json_is_canonical_and_comes_back(tmp_path: Path) -> None:
    a = record(tmp_path)
    path = a.save(tmp_path / "lineage.json")
    assert path.read_text() == a.to_json() + "\n"
    assert Lineage.load(path).sha256() == a.sha256()
    assert canonical({"b": 1, "a": "ö"}) == '{"a":"ö","b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("content", ["", "[]", "{", json.dumps({"schema": 99})])
def test_a_foreign_record_is_refused_by_name(tmp_path: Path, content: str) -> None:
    path = tmp_path / "lineage.json"
    path.write_text(content)
    with pytest.raises(FadeError, match="lineage.json"):
        Lineage.load(path)


def test_folders_are_hashed_by_names_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "x").write_text("1")
    first = hash_path(tmp_path / "a")
    (tmp_path / "a" / "deep" / "x").rename(tmp_path / "a" / "x")
    moved = hash_path(tmp_path / "a")
    (tmp_path / "a" / "x").write_text("2")
    assert len({first, moved, hash_path(tmp_path / "a")}) == 3
    with pytest.raises(FadeError, match="input base is missing"):
        hash_inputs({"base": tmp_path / "none"})


def test_code_state_knows_clean_dirty_no_checkout_and_a_foreign_one(tmp_path: Path) -> None:
    assert code_state(tmp_path)["commit"] is None
    git(tmp_path, "init", "-q")
    (tmp_path / "code.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "one")
    clean = code_state(tmp_path)
    assert len(clean["commit"]) == 40 and clean["dirty"] is False
    (tmp_path / "code.py").write_text("2")
    assert code_state(tmp_path) == {**clean, "dirty": True}
    (tmp_path / "installed").mkdir()
    assert code_state(tmp_path / "installed")["commit"] is None


def test_without_git_the_commit_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_state() == {
        "version": versions(("fade-pipeline",))["fade-pipeline"],
        "commit": None,
        "dirty": None,
    }


def test_the_stack_is_recorded_and_what_is_absent_is_none() -> None:
    found = versions(("torch", "no-such-distribution"))
    assert found["torch"] and found["no-such-distribution"] is None


def test_the_commit_is_the_one_that_the_run_began_with_when_it_is_handed_in(tmp_path: Path) -> None:
    before = {"version": "1", "commit": "a" * 40, "dirty": False}
    assert record(tmp_path, code=before).content["code"] == before
    assert record(tmp_path).content["code"]["commit"] is None
