"""The picture of a release's interactions, and what its page and card say of what must stay."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

from fade.reporting.card import card
from fade.reporting.interaction import COLUMNS, columns, interaction_chart
from tests.unit.fade.reporting import samples

KEPT = {
    "used": {"concepts": 9, "base": 98.1, "erased": 97.2, "kept": 99.08},
    "measured": {"concepts": 4, "base": 95.5, "erased": 91.4, "kept": 95.7},
}


def predicted(**changes: Any) -> dict[str, Any]:
    def cost(group: str, total: float, panda: float, tulip: float) -> dict[str, Any]:
        return {"group": group, "total": total, "of": {"panda": panda, "tulip": tulip}}

    far = {f"far {i}": cost("used", i / 100, i / 200, i / 300) for i in range(20)}
    near = {"panda": cost("erased", 41.2, 41.1, 0.31), "tulip": cost("erased", 38.4, 0.22, 38.3)}
    rest = {"koala": cost("trained", 3.27, 3.21, 0.11), "a<b>&": cost("measured", 5.43, 5.32, 0.21)}
    one = {"residual": 0.1, "without_rank": 0.1, "missing": 0.1, "foreign": 0.0, "outside": 0.0}
    head = {"mode": "solve", "rank": 4, "layers": 2, "added_layers": 3, "no_neighbour": [], "groups": {}}
    table = {"erased": {"panda": one, "tulip": one}, "cost": {**near, **far, **rest}, "breaks": ""}
    return {**head, **table, **changes}


def test_the_costliest_of_each_group_are_shown_beside_all_that_is_erased() -> None:
    shown = columns(predicted())
    assert shown[:2] == [("panda", "target"), ("tulip", "target")]
    used = [name for name, role in shown if role == "adjacent"]
    assert len(used) == COLUMNS and used[:2] == ["koala", "far 19"] and "far 0" not in used
    assert shown[-1] == ("a<b>&", "heldout")


def test_the_picture_is_valid_and_holds_the_numbers_of_every_champion() -> None:
    drawing = interaction_chart(predicted()).file("title")
    root = ElementTree.fromstring(drawing)
    words = [node.text for node in root.iter() if node.tag.endswith("text")]
    for number in ("41", "38", "5.3", "3.2", "0.2"):
        assert number in words
    assert {"erased", "must stay: used", "must stay: only measured", "whole release", "a<b>&"} <= {*words}
    assert len(re.findall('class="outline"', drawing)) == 2  # each champion's own target


def test_a_table_without_a_cost_is_drawn() -> None:
    some = predicted()
    for cost in some["cost"].values():
        cost |= {"total": 0.0, "of": {}}
    ElementTree.fromstring(interaction_chart(some).file("title"))


def test_the_card_reports_both_sides_apart_and_the_concept_that_breaks_first() -> None:
    lineage = {**samples.lineage(), "parts": {"fade-panda/1": {"concepts": ["panda"], **HASHES}}}
    sentence = "'panda' breaks first: 40 % of its champion's change is missing."
    result = samples.result(kept=KEPT, predicted=predicted(breaks=sentence), parts={})
    body = card(result, lineage, base_model="data/base", command="fade release")
    assert "| used | 9 | 98.1 | 97.2 |" in body and "| only measured | 4 | 95.5 | 91.4 |" in body
    assert "breaks first: 40 %" in body
    without = card(samples.result(parts={}), lineage, base_model="data/base", command="fade release")
    assert "only measured |" not in without and "breaks first" not in without


HASHES = {"adapter_sha256": "a" * 64, "lineage_sha256": "c" * 64}
