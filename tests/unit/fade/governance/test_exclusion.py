"""The smallest set of champions that has to stay out of a release, and why each of them is in it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from fade.config import PromotionPolicy
from fade.errors import PromotionError
from fade.governance.exclusion import EXHAUSTIVE, GREEDY, exclusion, predicted_exclusion, smallest_set
from fade.governance.promotion import METRICS
from fade.governance.release_plan import numbers_of

GATE = PromotionPolicy(erased=90.0, neighbours_kept=95.0, heldout_kept=0.0, rest_kept=0.0, erb=0.0, real=None)


def floors(costs: Mapping[str, Mapping[str, float]], most: float) -> Callable[[frozenset[str]], list[float]]:
    """Points by which each kept concept loses more than ``most``: costs, kept -> champion -> points."""

    def shortfalls(out: frozenset[str]) -> list[float]:
        return [sum(v for name, v in row.items() if name not in out) - most for row in costs.values()]

    return shortfalls


# The search.


def test_nothing_to_leave_out_is_the_empty_set() -> None:
    found = smallest_set(["a", "b"], floors({"k": {"a": 1, "b": 1}}, 2))
    assert found == (frozenset(), EXHAUSTIVE)


def test_the_smallest_set_is_found_where_the_best_single_champion_is_not_in_it() -> None:
    costs = {"k1": {"big": 3.0, "x": 4.0}, "k2": {"big": 3.0, "y": 4.0}, "k3": {"x": 5.0}, "k4": {"y": 5.0}}
    names, shortfalls = ["big", "other", "x", "y"], floors(costs, 4.0)
    first = min(names, key=lambda name: max(shortfalls(frozenset({name}))))
    pairs = [{*pair} for pair in itertools.combinations(names, 2) if max(shortfalls(frozenset(pair))) <= 0]
    assert first == "big" and pairs == [{"x", "y"}]  # the control: one at a time, the best first, takes three
    assert smallest_set(names, shortfalls) == ({"x", "y"}, EXHAUSTIVE)


def test_of_equal_sets_the_one_that_leaves_most_room_and_then_the_alphabetical_first() -> None:
    costs = {"k": {"a": 1.0, "b": 3.0, "c": 1.0}}
    assert smallest_set("abc", floors(costs, 4.0))[0] == {"b"}  # a and c are enough, too
    alike = {"k": {"c": 2.0, "b": 2.0, "a": 2.0}}
    assert smallest_set("cba", floors(alike, 4.0))[0] == {"a"}


def test_beyond_three_the_search_is_greedy_and_takes_back_whom_it_does_not_need() -> None:
    """Five that each break a concept of their own. `wide` costs a bit everywhere and is taken first."""
    names = ["b1", "b2", "b3", "b4", "b5", "fine", "wide"]
    costs = {f"k{i}": {f"b{i}": 10.0, "wide": 1.0} for i in range(1, 6)}
    out, search = smallest_set(names, floors(costs, 5.0))
    assert (out, search) == ({"b1", "b2", "b3", "b4", "b5"}, GREEDY)
    few = {key: costs[key] for key in ("k1", "k2", "k3")}
    assert smallest_set(names, floors(few, 5.0)) == ({"b1", "b2", "b3"}, EXHAUSTIVE)


def test_what_is_required_does_not_count_against_the_exhaustive_search() -> None:
    costs = {f"k{i}": {f"b{i}": 10.0} for i in range(1, 6)}
    names = [*"xyz", *(f"b{i}" for i in range(1, 6))]
    out, search = smallest_set(names, floors(costs, 5.0), required=["b1", "b2"])
    assert (out, search) == ({f"b{i}" for i in range(1, 6)}, EXHAUSTIVE)
    assert smallest_set("ab", lambda out: [-1.0], required=["b"])[0] == {"b"}


@pytest.mark.parametrize("names", ["a", "ab", "abcdef"])
def test_where_all_would_have_to_stay_out_that_is_an_error_with_a_next_action(names: str) -> None:
    with pytest.raises(PromotionError, match=r"all would have to stay out.*Next: erase the concepts"):
        smallest_set(names, lambda out: [1.0])
    with pytest.raises(PromotionError, match="all would have to stay out"):
        smallest_set(names, lambda out: [-1.0], required=names)


# A judged release.

NEAR = {"lemon": ["pear"], "panda": ["koala"], "tulip": ["rose"]}


def judged(
    of: Mapping[str, Mapping[str, float]],
    shares: Mapping[str, float],
    *,
    alone: Mapping[str, float] | None = None,
    near: Mapping[str, Sequence[str]] = NEAR,
    left_out: Mapping[str, Sequence[str]] | None = None,
    totals: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """A release's record. of: concept -> champion -> predicted cost; its total is their sum unless ``totals``
    has it. shares: concept -> recognised in the release (else 100 by a kept one and 0 by an erased one); the
    original recognises all. alone: erased concept -> its A_er by its champion alone."""
    kept = [*dict.fromkeys(name for names in near.values() for name in names)]
    rows = {name: [100.0, shares.get(name, 0.0)] for name in near}
    rows |= {name: [100.0, shares.get(name, 100.0)] for name in kept}
    groups = {
        name: {"neighbours": [*names], "heldout": kept, "left_out": [*(left_out or {}).get(name, [])]}
        for name, names in near.items()
    }
    parts = {}
    base, measured = ({name: row[i] for name, row in rows.items()} for i in (0, 1))
    for name, one in groups.items():
        numbers = numbers_of({"targets": [name], **one, "rest": kept}, base, measured)
        parts[name] = {**numbers, "alone": {"A_er": (alone or {}).get(name, 100.0)}}
    cost = {
        name: {
            "group": "erased" if name in near else "used",
            "total": (totals or {}).get(name, sum(row.values())),
            "of": row,
        }
        for name, row in of.items()
    }
    checks = {
        f"fade-{name}/1 data": [{"name": "unique", "severity": "critical", "success": True}] for name in near
    }
    return {
        "parts": {f"fade-{name}/1": {"concepts": [name]} for name in near},
        "outputs": {"parts": parts},
        "checks": checks,
        "release": {
            "predicted": {"cost": cost},
            "judged": {"shares": rows, "groups": groups, "rest": kept},
        },
    }


def out_of(record: Mapping[str, Any], gate: PromotionPolicy = GATE) -> dict[str, str]:
    """Concept -> why its champion stays out."""
    return {" + ".join(one["concepts"]): one["why"] for one in exclusion(record, gate)["members"]}


def test_the_champion_that_a_kept_concept_loses_most_to_stays_out_and_not_the_one_that_failed() -> None:
    """The koala is the panda's only neighbour; what it loses is the lemon's doing. Without the panda's
    champion nobody would look at the koala, and the lemon's would go on to harm it."""
    record = judged({"koala": {"panda": 1.0, "lemon": 7.0, "tulip": 0.0}}, {"koala": 88.0})
    found = exclusion(record, GATE)
    assert [one["part"] for one in found["members"]] == ["fade-lemon/1"]
    assert found["members"][0]["why"] == (
        "costs 'koala' 10.5 points ('panda': neighbours kept 88.0 (asked 95))"
    )
    # 12 points are lost, one eighth of them to the panda: 98.5, 3.5 above the floor
    assert (found["search"], found["margin"], found["none"]) == (EXHAUSTIVE, pytest.approx(3.5), "")


def test_shares_that_are_not_aligned_add_up_to_less_and_one_of_them_is_not_enough() -> None:
    """Of two orthogonal shares of 6 and 6 the release moves 8.49: without one of them 6 remain, 71 %, and not
    a half. Added up as numbers, leaving out one would do."""
    of = {"koala": {"lemon": 6.0, "tulip": 6.0, "panda": 0.0}}
    measured = {"koala": 91.0}
    assert list(out_of(judged(of, measured))) == ["lemon"]  # aligned: 4.5 of 9 points stay
    orthogonal = out_of(judged(of, measured, totals={"koala": math.hypot(6.0, 6.0)}))
    why = "costs 'koala' 6.4 points ('panda': neighbours kept 93.6 (asked 95))"
    assert orthogonal == {"lemon": why, "tulip": why}


def test_a_concept_that_is_not_erased_by_itself_either_stays_out_whatever_else_does() -> None:
    record = judged({"koala": {"lemon": 5.0}}, {"koala": 90.0, "tulip": 40.0}, alone={"tulip": 55.0})
    found = out_of(record)
    assert found["tulip"] == "'tulip': erased 60.0 (asked 90) in the release, 55.0 by its champion alone"
    assert set(found) == {"tulip", "lemon"}


def test_of_an_erased_concept_that_another_brings_back_the_other_may_stay_out() -> None:
    of = {"tulip": {"tulip": 40.0, "lemon": 9.0, "panda": 1.0}, "pear": {"lemon": 1.0}}
    record = judged(of, {"tulip": 30.0, "koala": 100.0})
    assert out_of(record) == {"lemon": "brings back 27.0 points ('tulip': erased 70.0 (asked 90))"}


def test_an_erased_concept_that_is_anothers_only_neighbour_counts_as_kept_once_it_is_left_out() -> None:
    """The bear is the panda's only neighbour. While it is erased the panda's neighbours cannot be measured,
    and its own erasure is no loss of the panda's. Without it the panda must leave it alone."""
    near, back = {"bear": ["koala"], "panda": [], "tulip": ["rose"]}, {"panda": ["bear"]}
    # a percent that is moved costs a point: the rose is moved by 2 and loses 2
    of = {"rose": {"tulip": 2.0}, "bear": {"bear": 40.0, "panda": 1.0}, "koala": {"bear": 0.5}}
    measured = {"rose": 98.0, "koala": 99.5}
    spared = judged(of, measured, near=near, left_out=back)
    assert out_of(spared) == {"bear": "'panda': neighbours kept not measured (asked 95)"}
    hurt = judged({**of, "bear": {"bear": 40.0, "panda": 30.0}}, measured, near=near, left_out=back)
    assert list(out_of(hurt)) == ["panda"]  # without the bear's champion the panda's would cost the bear 30


def test_a_concept_whose_champion_stays_out_must_be_kept_by_the_others() -> None:
    """The lemon costs the koala most. Left out it must stay, and the tulip moves it by 10."""
    of = {"koala": {"lemon": 6.0, "tulip": 1.0}, "lemon": {"lemon": 40.0}}
    assert list(out_of(judged(of, {"koala": 93.0}))) == ["lemon"]
    of["lemon"] = {"lemon": 40.0, "tulip": 10.0}
    found = out_of(judged(of, {"koala": 93.0}))
    assert list(found) == ["lemon", "tulip"]
    assert found["tulip"] == "costs 'lemon' 10.0 points ('lemon': kept 90.0 (asked 95))"


def test_a_champion_whose_data_checks_failed_stays_out() -> None:
    record = judged({}, {})
    record["checks"]["fade-panda/1 data"][0]["success"] = False
    assert out_of(record) == {"panda": "a critical data check of its record failed"}


def test_a_release_that_passes_names_nobody_and_neither_does_a_record_of_before() -> None:
    record = judged({"koala": {"lemon": 5.0}}, {"koala": 96.0})
    assert exclusion(record, GATE) == {}
    stricter = GATE.model_copy(update={"neighbours_kept": 97.0})
    assert list(out_of(record, stricter)) == ["lemon"]
    del record["release"]["judged"]
    assert exclusion(record, stricter) == {}


def test_where_no_release_of_some_would_pass_the_reason_takes_the_place_of_the_members() -> None:
    everywhere = {name: 50.0 for names in NEAR.values() for name in names}
    shares = {**everywhere, **dict.fromkeys(NEAR, 60.0)}
    found = exclusion(judged({}, shares, alone=dict.fromkeys(NEAR, 30.0)), GATE)
    assert (
        found["members"] == [] and "all would have to stay out" in found["none"] and "Next:" in found["none"]
    )


def test_without_a_set_left_out_the_prediction_is_what_was_measured() -> None:
    from fade.governance.judged_release import JudgedRelease

    of = {
        "koala": {"panda": 3.0, "lemon": 4.0},
        "rose": {"tulip": 2.0},
        "tulip": {"tulip": 9.0, "panda": 1.0},
    }
    record = judged(of, {"koala": 88.0, "rose": 100.0, "tulip": 5.0, "pear": 97.0}, totals={"koala": 5.0})
    policy = PromotionPolicy()
    found = {
        (one.concept, one.metric): one.criterion.value for one in JudgedRelease.of(record, policy).demands(())
    }
    for concept, numbers in record["outputs"]["parts"].items():
        for metric in METRICS:
            if (concept, metric.metric) in found:
                value = metric.value(numbers["metrics"], numbers["base_metrics"])
                assert found[concept, metric.metric] == pytest.approx(value), (concept, metric)
    assert len(found) == 15


def test_a_joint_champion_is_left_out_with_all_of_its_concepts() -> None:
    record = judged({"rose": {"lemon + panda": 6.0, "tulip": 1.0}}, {"rose": 80.0})
    record["parts"] = {
        "fade-lemon-panda/1": {"concepts": ["lemon", "panda"]},
        "fade-tulip/1": {"concepts": ["tulip"]},
    }
    (member,) = exclusion(record, GATE)["members"]
    assert (member["part"], member["concepts"]) == ("fade-lemon-panda/1", ["lemon", "panda"])


# From the adapters alone.


def table(**residuals: tuple[float, float]) -> dict[str, Any]:
    """A prediction: champion -> (missing, foreign); the first two disturb each other alone."""
    one, other, *_ = residuals
    return {
        "erased": {
            name: {"residual": math.hypot(*parts), "missing": parts[0], "foreign": parts[1]}
            for name, parts in residuals.items()
        },
        "cost": {
            name: {
                "group": "erased",
                "total": 10.0,
                "of": {name: 9.0} | ({one: 3.0, other: 3.0, name: 9.0} if name in (one, other) else {}),
            }
            for name in residuals
        },
    }


def test_before_anything_is_judged_the_champion_beside_which_there_is_no_room_is_named() -> None:
    found = predicted_exclusion(table(bear=(0.0, 0.4), panda=(0.0, 0.5), tulip=(0.0, 0.1)), 0.25)
    (member,) = found["members"]
    assert member["concepts"] == ["bear"]  # or the panda: both are enough, and leave as much room
    what = "50 % of the change of 'panda' is missing or of other champions"
    assert member["why"] == f"with it {what} (at most 25 %)"
    own = predicted_exclusion(table(bear=(0.0, 0.1), panda=(0.5, 0.1), tulip=(0.0, 0.1)), 0.25)
    assert [one["concepts"] for one in own["members"]] == [["panda"]]
    assert own["members"][0]["why"].startswith("with it 51 % of its change")
    assert predicted_exclusion(table(bear=(0.0, 0.1), panda=(0.0, 0.1)), 0.25) == {}
    assert predicted_exclusion({}, 0.25) == {}
