"""Self-tests compared: the last digits may differ, a picture may not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from fade.governance.audit import DIFFERENT, IDENTICAL, compare_lineages
from fade.provenance.lineage import READABLE, Lineage, compare
from fade.provenance.self_tests import deviation, make_self_test
from tests.unit.fade.reporting import samples

NUMBERS = {"latents": [0.5, -1.25, 2.0, 1.5], "picture": [1.0, 0.25, 0.5, 0.75]}
ONE = make_self_test(NUMBERS, "a" * 64, "float32")


def moved(by: float, place: int = 1, part: str = "picture", **changes: Any) -> dict[str, Any]:
    numbers = copy.deepcopy(NUMBERS)
    numbers[part][place] += by
    return {**ONE, "numbers": numbers, **changes}


def test_the_part_that_differs_most_is_named_with_what_is_allowed() -> None:
    assert deviation(ONE, moved(0.039), 0.04) == "" == deviation(moved(-0.039), ONE, 0.04)
    assert deviation(ONE, moved(0.06), 0.04) == "picture by 0.06 (0.04 is allowed)"
    both = moved(0.06)
    both["numbers"]["latents"][0] = 0.0
    assert deviation(ONE, both, 0.04) == "latents by 0.5 (0.04 is allowed)"


def test_a_root_mean_square_counts_by_its_ratio() -> None:
    assert deviation(ONE, moved(0.05, 3, "latents"), 0.04) == ""  # 3 %
    assert deviation(ONE, moved(0.15, 3, "latents"), 0.04).startswith("latents by 0.09")


def test_half_precision_may_differ_more() -> None:
    assert deviation(ONE, moved(0.1, dtype="bfloat16"), 0.04) == ""
    assert deviation(ONE, moved(0.2, dtype="bfloat16"), 0.04) == "picture by 0.2 (0.16 is allowed)"


def test_other_weights_and_another_version_of_the_test_are_not_compared() -> None:
    assert deviation(ONE, moved(9.0, sha256="b" * 64), 0.04) == ""
    assert deviation(ONE, moved(9.0, version=0), 0.04) == ""
    assert deviation(ONE, moved(9.0), 0.04) != ""


@pytest.mark.parametrize(
    "numbers", [None, 7, {"picture": "text"}, {"picture": None}, {"picture": [1.0, "x"]}]
)
def test_a_record_that_nobody_wrote_is_a_difference(numbers: Any) -> None:
    assert deviation({**ONE, "numbers": numbers}, ONE, 0.04)
    forged = lineage(base={**ONE, "numbers": numbers})
    assert compare_lineages(forged, lineage(base=ONE)).name == DIFFERENT


@pytest.mark.parametrize(
    "section", [7, ["base"], {"base": ONE}, {"base": ONE, "tolerance": "wide"}, {"base": 7}]
)
def test_a_section_that_nobody_wrote_is_a_difference(section: Any) -> None:
    forged = Lineage({**samples.lineage(), "self_tests": section})
    assert [one.path.partition(".")[0] for one in compare(forged, lineage(base=ONE))] == ["self_tests"]


def lineage(**tests: Any) -> Lineage:
    return Lineage({**samples.lineage(), "self_tests": {"tolerance": 0.04, **tests}})


def test_lineages_differ_beyond_the_tolerance_alone() -> None:
    assert compare(lineage(base=ONE), lineage(base=moved(1e-4))) == []
    (one,) = compare(lineage(base=ONE, judge=ONE), lineage(base=ONE, judge=moved(0.5)))
    assert one.path == "self_tests.judge" and "differs in its picture by 0.5" in str(one)


def test_an_audit_names_the_base_that_draws_otherwise() -> None:
    assert compare_lineages(lineage(base=ONE), lineage(base=moved(1e-3))).name == IDENTICAL
    verdict = compare_lineages(lineage(base=ONE), lineage(base=moved(0.5)))
    assert (verdict.name, verdict.stage) == (DIFFERENT, "base") and "picture by 0.5" in str(verdict)


def test_a_lineage_of_before_is_read_and_compared(tmp_path: Path) -> None:
    older = Lineage({**samples.lineage(), "schema": 3})
    assert "self_tests" not in older.content and 3 in READABLE
    again = Lineage.load(older.save(tmp_path / "lineage.json"))
    assert compare(again, Lineage({**lineage(base=ONE).content, "schema": 3})) == []


def test_what_is_no_number_is_a_difference_wherever_it_stands() -> None:
    """The greatest of a list with a NaN would be whatever stands before it."""
    for place in range(4):
        assert deviation(ONE, moved(float("nan"), place, "latents"), 0.04).startswith("latents by inf")
