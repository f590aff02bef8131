"""The audit's verdict: what is the same, what may differ and why, and a control that must be found out."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fade.errors import AuditError
from fade.governance.append_log import verify_log
from fade.governance.audit import (
    BROKEN,
    DIFFERENT,
    EQUIVALENT,
    HOLDS,
    IDENTICAL,
    STAGES,
    TOLERANCE,
    Audit,
    compare_control,
    compare_lineages,
    other_header,
    same_weights,
    stages,
    tolerance,
)
from fade.provenance.lineage import SCHEMA, Lineage
from tests.registered import adapter_bytes
from tests.unit.fade.reporting import samples

METRICS = {"A_er": 100.0, "A_adj": 96.0, "A_heldout": None, "A_rest": 99.0, "ERB": 98.0}


def record(**changes: Any) -> Lineage:
    """A closed record; ``changes``: dotted keys with __ in place of the dot."""
    content = copy.deepcopy(samples.lineage())
    content |= {
        "schema": SCHEMA,
        "audit": {"tolerance": 2.0},
        "checks": {"data": [{"name": "n", "severity": "info", "success": True}]},
    }
    content["outputs"] |= {"metrics": dict(METRICS), "base_metrics": {"A_tar": 100.0}}
    for key, value in changes.items():
        node: Any = content
        *path, last = key.split("__")
        for part in path:
            node = node[part]
        node[last] = value
    return Lineage(content)


OTHER = {"outputs__adapter_sha256": "5" * 64}
ELSEWHERE = {"environment__torch_threads": 8, "environment__libraries": {"torch": "2.14.0", "dvc": None}}


def test_the_same_outcome_is_identical_wherever_it_came_out() -> None:
    assert compare_lineages(record(), record()).name == IDENTICAL
    moved = compare_lineages(
        record(), record(**ELSEWHERE, orchestration={"flow_run_id": "x"}, training={"seconds": 9})
    )
    assert moved.name == IDENTICAL and [one.path for one in moved.reasons] == [
        "environment.libraries.torch",
        "environment.torch_threads",
    ]


def test_other_bytes_without_a_reason_are_different_and_with_one_equivalent() -> None:
    bare = compare_lineages(record(), record(**OTHER))
    assert (bare.name, bare.stage) == (DIFFERENT, "train") and "4444" in str(bare) and "5555" in str(bare)
    told_why = compare_lineages(record(), record(**OTHER, **ELSEWHERE))
    assert (
        told_why.name == EQUIVALENT
        and "torch_threads" in str(told_why)
        and "libraries.torch" in str(told_why)
    )
    only_packages = compare_lineages(record(), record(**OTHER, environment__packages={"rich": "15"}))
    assert only_packages.name == DIFFERENT  # no number goes through it


@pytest.mark.parametrize(("points", "name"), [(1.9, EQUIVALENT), (2.0, EQUIVALENT), (2.1, DIFFERENT)])
def test_metrics_may_move_by_what_was_recorded_and_no_more(points: float, name: str) -> None:
    again = record(**OTHER, **ELSEWHERE, outputs__metrics={**METRICS, "A_adj": 96.0 - points})
    assert compare_lineages(record(), again).name == name
    assert compare_lineages(record(audit={"tolerance": 5.0}), again).name == EQUIVALENT
    assert (
        compare_lineages(record(), record(outputs__metrics={**METRICS, "A_adj": 96.0 - points})).name
        == DIFFERENT
    )  # the same machine


def test_a_metric_that_was_not_measured_again_is_no_small_difference() -> None:
    again = record(**OTHER, **ELSEWHERE, outputs__metrics={**METRICS, "A_adj": None})
    assert compare_lineages(record(), again).name == DIFFERENT


@pytest.mark.parametrize(
    ("key", "value", "stage"),
    [
        ("code__commit", "e" * 40, "code"),
        ("data__md5", "a" * 32 + ".dir", "data"),
        ("data__files", {"emoji/a.png": "0" * 32}, "data"),
        ("base__sha256", "9" * 64, "base"),
        ("judge__sha256", "9" * 64, "judge"),
        ("inputs__before", {"base": "9" * 64}, "inputs"),
        ("checks", {"data": [{"name": "n", "severity": "info", "success": False}]}, "checks"),
        ("params__values", {"train": {"steps": 7}}, "params"),
        ("seeds__train", 4, "seeds"),
        ("neighbourhood__neighbours", ["koala", "taxi"], "neighbourhood"),
        ("outputs__base_metrics", {"A_tar": 90.0}, "evaluate"),
    ],
)
def test_the_first_stage_that_differs_is_named_with_both_values(key: str, value: Any, stage: str) -> None:
    found = compare_lineages(
        record(), record(**{key: value}, **(OTHER if stage != "evaluate" else {}), **ELSEWHERE)
    )
    assert (found.name, found.stage) == (DIFFERENT, stage)
    assert found.differences[0].a != found.differences[0].b and found.stage in str(found)


def test_what_is_named_but_changes_nothing_is_no_difference() -> None:
    again = record(
        params__overrides=["x=1"],
        neighbourhood__cache_key="d" * 64,
        neighbourhood__similarities={"koala": 0.1},
    )
    assert compare_lineages(record(), again).name == IDENTICAL


def test_the_control_is_found_out_by_its_weights_whatever_it_says_of_its_seed() -> None:
    again = record()
    changed = record(
        **OTHER, seeds__train=4, params__values={"train": {"steps": 6, "seed": 4}}, outputs__metrics={}
    )
    found = compare_control(again, changed, same_weights=False)
    assert (found.name, found.stage) == (DIFFERENT, "train")
    # other bytes, for the header names the other seed, but the weights are the same: such an audit is worth
    # nothing, and says so
    assert compare_control(again, changed, same_weights=True).name == IDENTICAL


def test_weights_are_told_from_headers(tmp_path: Path) -> None:
    files = {}
    for name, seed, header in (
        ("a", 0, {"commit": "a" * 40}),
        ("b", 0, {"commit": "b" * 40}),
        ("c", 0, {"seed": "1"}),
        ("d", 1, {}),
    ):
        files[name] = tmp_path / f"{name}.safetensors"
        files[name].write_bytes(adapter_bytes(seed, header))
    same, why = same_weights(files["a"], files["b"])
    assert same and "commit aaaaaaaaaaaa" in why
    assert same_weights(files["a"], files["c"]) == (True, "")
    assert same_weights(files["a"], files["d"]) == (False, "")


def test_an_adapter_that_was_trained_before_differs_in_its_header_alone() -> None:
    header = {"concept": "panda", "commit": "a" * 40}
    why = other_header(header, {**header, "commit": "b" * 40})
    assert (
        "commit aaaaaaaaaaaa" in why
        and compare_lineages(record(), record(**OTHER), header_only=why).name == IDENTICAL
    )
    assert (
        other_header(header, header)
        == ""
        == other_header(header, {**header, "commit": "b" * 40, "seed": "1"})
    )


def test_older_records_have_the_tolerance_of_then() -> None:
    assert tolerance(Lineage(samples.lineage())) == TOLERANCE


def test_every_stage_has_a_row_and_what_was_not_run_is_neither_the_same_nor_not() -> None:
    rows = stages(record(), record(**OTHER))
    assert [row["stage"] for row in rows] == list(STAGES)
    assert [row["stage"] for row in rows if not row["same"]] == ["train"] and all(
        row["recorded"] for row in rows
    )
    assert {row["same"] for row in stages(record(), None)} == {None}
    assert (
        compare_lineages(record(), record(**OTHER)).to_json()["differences"][0]["path"]
        == "outputs.adapter_sha256"
    )


def test_audits_are_a_chain() -> None:
    one = Audit(number=1, by="ann", at="", version="1", verdict=HOLDS)
    two = Audit(
        number=2, by="bob", at="", version="1", verdict=BROKEN, previous=1, previous_sha256=one.sha256()
    )
    assert verify_log([two, one]) == ([one, two], [])
    assert Audit.parse(2, two.to_json()) == two
    with pytest.raises(AuditError, match="audit 1 was edited"):
        verify_log([replace(one, verdict=IDENTICAL), two])
    with pytest.raises(AuditError, match="audit 3 cannot be read"):
        Audit.parse(3, one.to_json().replace(HOLDS, "splendid"))
