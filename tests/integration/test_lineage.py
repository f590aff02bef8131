"""A version's record in a real MLflow: read back, held against its tags, and found by what it came from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fade.errors import FadeError, RegistryError, UnknownNameError, UsageError
from fade.provenance.lineage import Lineage
from tasks.registry.connection import connect
from tasks.registry.lineage import find, trace
from tasks.registry.register import register
from tests.registered import finished_run

pytestmark = pytest.mark.usefixtures("alone")


def test_a_version_says_where_it_comes_from(tmp_path: Path, store: Path) -> None:
    result, params, lineage, run_dir = finished_run(tmp_path, model_prefix="said")
    done = register(result, params, lineage, run_dir, runs=store)
    found = trace("said-panda/1", store)
    assert (found.name, found.version, found.run_id) == ("said-panda", "1", done.run_id)
    assert found.lineage.content == lineage and found.tags["lineage_sha256"] == Lineage(lineage).sha256()
    assert json.loads(json.dumps(found.to_json()))["lineage"] == lineage


def test_versions_are_found_by_what_they_came_from(tmp_path: Path, store: Path) -> None:
    one = finished_run(tmp_path, model_prefix="found")
    two = finished_run(tmp_path, seed=1, model_prefix="found")
    two[2]["data"]["md5"], two[2]["code"]["commit"] = "a" * 32 + ".dir", "b" * 40
    two[0]["neighbours"] = ["wolf"]
    for run in (one, two):
        register(*run, runs=store)

    def names(neighbour: str | None = None, **hashes: str) -> list[str]:
        got = find(store, neighbour=neighbour, hashes=hashes)
        return [f"{v['name']}/{v['version']}" for v in got if v["name"] == "found-panda"]

    assert names(base="1" * 64) == ["found-panda/2", "found-panda/1"]
    assert (
        names(data="aaaa")
        == names(data="a" * 32 + ".dir")
        == names(commit="BBBB")
        == names("wolf")
        == ["found-panda/2"]
    )
    assert names(data="eeee") == names("koala") == names("koala", base="1111") == ["found-panda/1"]
    assert names("koala", commit="bbbb") == names("panda") == names(data="0" * 32) == []
    assert names(adapter=two[2]["outputs"]["adapter_sha256"][:8]) == ["found-panda/2"]


BAD = {
    "nothing": ({}, "nothing is named"),
    "too short": ({"data": "abc"}, "'abc' is no hash of data"),
    "no hash": ({"base": "data/base"}, "'data/base' is no hash of base"),
    "another key": ({"colour": "abcd"}, "'colour' is nothing that versions are found by"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_search_for_nothing_is_refused_before_the_registry_is_asked(tmp_path: Path, case: str) -> None:
    hashes, said = BAD[case]
    with pytest.raises(UsageError, match=said) as caught:
        find(tmp_path / "never", hashes=hashes)
    assert " Next: " in str(caught.value) and not (tmp_path / "never").exists()


TAMPERED = ("data_md5", "base_sha256", "params_sha256", "adapter_sha256", "lineage_sha256")


@pytest.mark.parametrize("tag", TAMPERED)
def test_a_tag_that_the_record_contradicts_is_named(tmp_path: Path, store: Path, tag: str) -> None:
    run = finished_run(tmp_path, model_prefix=f"tag-{tag.replace('_', '-')}")
    done = register(*run, runs=store)
    assert trace(done.name, store)
    connect(store).client.set_model_version_tag(done.name, "1", tag, "0" * 64)
    with pytest.raises(RegistryError, match=f"{done.name}/1: its tag {tag} is 0000"):
        trace(done.name, store)


def test_a_record_that_was_edited_is_refused_by_its_hash(tmp_path: Path, store: Path) -> None:
    result, params, lineage, run_dir = finished_run(tmp_path, model_prefix="edited")
    done = register(result, params, lineage, run_dir, runs=store)
    (kept,) = store.rglob(f"*/{done.run_id}/artifacts/lineage.json")
    kept.write_text(kept.read_text().replace('"dirty":false', '"dirty":true'))
    with pytest.raises(RegistryError, match="edited-panda/1: its tag lineage_sha256 is"):
        trace("edited-panda", store)
    kept.write_text("{")
    with pytest.raises(FadeError, match="lineage.json cannot be read"):
        trace("edited-panda", store)
    kept.unlink()
    with pytest.raises(RegistryError, match="edited-panda/1 has no lineage.json"):
        trace("edited-panda", store)


def test_a_version_that_does_not_exist_offers_the_nearest(tmp_path: Path, store: Path) -> None:
    register(*finished_run(tmp_path, model_prefix="near"), runs=store)
    with pytest.raises(UnknownNameError, match="near-panda"):
        trace("near-pnada", store)
