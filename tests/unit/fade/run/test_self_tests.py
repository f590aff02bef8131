"""A model that puts out something else than its weights did before is refused where it is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fade.config import Params
from fade.errors import BaseModelError
from fade.run.context import RunContext


def context(base: Path, runs: Path, difference: str = "refuse") -> RunContext:
    params = {"data": {"base": str(base)}, "self_test": {"difference": difference}}
    return RunContext(Params.model_validate(params), "panda", runs)


def kept(runs: Path) -> Path:
    (file,) = (runs / "cache" / "self_tests").glob("base-*.json")
    return file


def spoil(file: Path) -> None:
    """As a machine would have left it whose libraries draw other pictures."""
    content = json.loads(file.read_text())
    content["numbers"]["picture"][0] += 0.5
    file.write_text(json.dumps(content))


def test_the_first_use_is_kept_and_the_next_compared(tiny_base_dir: Path, tmp_path: Path) -> None:
    first = context(tiny_base_dir, tmp_path)
    sha256 = first.models.base.sha256
    assert kept(tmp_path).name == f"base-{sha256}.json"
    before = kept(tmp_path).read_bytes()
    assert context(tiny_base_dir, tmp_path).models.base.sha256 == sha256  # the control
    assert kept(tmp_path).read_bytes() == before
    assert first.models.self_tests.to_json() == {"tolerance": 0.04, "base": json.loads(before)}


def test_another_picture_by_the_same_weights_is_refused(
    tiny_base_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _ = context(tiny_base_dir, tmp_path).models.base
    spoil(kept(tmp_path))
    with pytest.raises(BaseModelError) as caught:
        _ = context(tiny_base_dir, tmp_path).models.base
    sentence = str(caught.value)
    assert sentence.startswith("self-test: ") and str(tiny_base_dir) in sentence
    assert "differs in its picture by 0.5 (0.04 is allowed)" in sentence
    assert str(kept(tmp_path)) in caught.value.action and "self_test.difference=warn" in caught.value.action
    assert caught.value.exit_code == 1
    assert context(tiny_base_dir, tmp_path, "warn").models.base
    assert "differs in its picture by 0.5" in capsys.readouterr().err


def test_a_file_that_is_no_self_test_is_made_anew(tiny_base_dir: Path, tmp_path: Path) -> None:
    _ = context(tiny_base_dir, tmp_path).models.base
    before = kept(tmp_path).read_bytes()
    for text in ("", "[]", '{"version": 0}'):
        kept(tmp_path).write_text(text)
        assert context(tiny_base_dir, tmp_path).models.base and kept(tmp_path).read_bytes() == before


def test_a_versions_record_counts_where_its_weights_are_the_same(tiny_base_dir: Path, tmp_path: Path) -> None:
    run = context(tiny_base_dir, tmp_path)
    _ = run.models.base
    tests, recorded = run.models.self_tests, json.loads(kept(tmp_path).read_text())
    for record in ({}, {"self_tests": {"tolerance": 0.04, "base": recorded, "clip": recorded}}):
        tests.require_as_recorded(record, "fade-panda/1")
    other = {**recorded, "numbers": {"latents": [one + 1 for one in recorded["numbers"]["latents"]]}}
    tests.require_as_recorded({"self_tests": {"base": {**other, "sha256": "f" * 64}}}, "fade-panda/1")
    with pytest.raises(
        BaseModelError, match="the base puts out something else than where fade-panda/1 was made"
    ):
        tests.require_as_recorded({"self_tests": {"base": other}}, "fade-panda/1")
