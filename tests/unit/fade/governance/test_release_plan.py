"""A release's plan, its numbers concept by concept, and the way back through the decisions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fade.config import Params, PromotionPolicy
from fade.data.vocabulary import slug
from fade.errors import AdapterError, PromotionError
from fade.governance.promotion import PROMOTE, REVOKE, Decision, Standing, criteria, replay
from fade.governance.release_plan import (
    Part,
    kept_apart,
    key,
    ladder,
    numbers_of,
    plan,
    previous,
    release_name,
    rollback_reason,
    shortfalls,
    taken_back,
    worst,
)
from fade.utils.seeds import named_seed


def part(concept: str, version: str = "1", base: str = "b" * 64) -> Part:
    adapter = f"{named_seed(concept):064x}"
    return Part(
        f"fade-{slug(concept)}", version, tuple(concept.split(" + ")), adapter, "c" * 64, base, "d" * 32
    )


def test_the_parts_are_added_up_in_the_order_of_their_names_whoever_comes_first() -> None:
    parts = [part("panda"), part("crying cat"), part("lemon")]
    assert [one.name for one in plan(parts)] == ["fade-crying-cat", "fade-lemon", "fade-panda"]
    assert plan(parts) == plan(parts[::-1])


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([], PromotionError, "no concept has a champion"),
        (
            [part("panda"), part("lemon", base="e" * 64)],
            AdapterError,
            "bases: eeeeeeeeeeee: fade-lemon/1; bbbbbbbbbbbb: fade-panda/1",
        ),
        (
            [part("panda"), part("lemon + panda")],
            PromotionError,
            "'panda' is erased by fade-lemon-panda/1 and by fade-panda/1",
        ),
    ],
)
def test_what_cannot_be_added_up_is_named(parts: list[Part], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plan(parts)


def test_one_concept_under_two_names_and_one_adapter_under_two_are_named() -> None:
    twin = part("p\u0430nda")  # a Cyrillic letter
    with pytest.raises(PromotionError, match="is erased by fade-p.* and by fade-p"):
        plan([part("panda"), twin])
    with pytest.raises(PromotionError, match="fade-lemon/1 and fade-panda/1 are one adapter under two names"):
        plan([part("panda"), replace(part("lemon"), adapter_sha256=part("panda").adapter_sha256)])
    assert len(plan([part("panda"), part("lemon")])) == 2


def test_champions_of_one_base_under_both_of_its_hashes_are_added_up() -> None:
    new = replace(part("lemon", base="e" * 64), base_legacy_sha256="b" * 64)
    assert len(plan([new, part("panda")])) == 2
    with pytest.raises(AdapterError):
        plan([replace(new, base_legacy_sha256="f" * 64), part("panda")])


def test_the_same_champions_under_the_same_settings_have_the_same_key_and_others_have_not() -> None:
    parts, params = [part("lemon"), part("panda")], Params()
    asked = key(parts, params, signed=False)
    assert (
        key(
            list(parts),
            Params.model_validate({"train": {"steps": 7}, "gate": {"erb": 1}, "data": {"remote": "s3"}}),
            signed=False,
        )
        == asked
    )
    others = [
        key(parts[:1], params, signed=False),
        key([parts[0], part("panda", version="2")], params, signed=False),
        key([parts[0], replace(parts[1], lineage_sha256="f" * 64)], params, signed=False),
        key(parts, Params.model_validate({"evaluate": {"images_per_concept": 3}}), signed=False),
        key(parts, params, signed=True),
    ]
    assert asked not in others and len(set(others)) == 5


def test_a_sum_has_the_key_of_before_and_a_solved_release_one_of_its_settings() -> None:
    parts = [part("lemon"), part("panda")]

    def of(chosen: list[Part], **release: object) -> str:
        return key(chosen, Params.model_validate({"release": release}), signed=False)

    assert of(parts) == of(parts, keep_weight=3, words=1, mode="sum") == key(parts, Params(), signed=False)
    others = {of(parts, mode="solve"), of(parts, mode="solve", ridge=0.1), of(parts, seed=1)}
    assert len(others) == 3 and of(parts) not in others
    assert of(parts, mode="solve", residual=0.9) in others  # a sentence's threshold decides no byte
    assert of(parts[:1], mode="solve") == of(parts[:1])  # one champion keeps its bytes


def test_a_solved_release_of_another_data_set_is_another_release() -> None:
    """Its vocabulary says what must stay; a sum's bytes are of its parts alone."""
    parts, solved = [part("lemon"), part("panda")], Params.model_validate({"release": {"mode": "solve"}})

    def of(params: Params, data_md5: str) -> str:
        return key(parts, params, signed=False, data_md5=data_md5)

    assert of(solved, "a") == of(solved, "a") != of(solved, "b")
    assert of(Params(), "a") == of(Params(), "b") == key(parts, Params(), signed=False)


def test_what_was_used_and_what_is_only_measured_are_reported_apart() -> None:
    rows = [
        {"concept": "panda", "base": 100.0, "erased": 0.0},
        {"concept": "koala", "base": 80.0, "erased": 60.0},
        {"concept": "taxi", "base": 100.0, "erased": 90.0},
    ]
    found = kept_apart({"used": ["koala", "taxi", "pear"], "measured": ["rose"]}, rows)
    assert found["used"] == {"concepts": 2, "base": 90.0, "erased": 75.0, "kept": pytest.approx(250 / 3)}
    assert found["measured"] == {"concepts": 0, "base": None, "erased": None, "kept": None}


@pytest.mark.parametrize("prefix", ["fade", "fade-dev", "a.b"])
@pytest.mark.parametrize("concept", ["release", ".release", "Grinning cat", "дом", "a.b", "."])
def test_no_concepts_model_is_called_as_a_release_is(prefix: str, concept: str) -> None:
    assert "." not in slug(concept)
    assert f"{prefix}-{slug(concept)}" != release_name(prefix)


# Numbers.

GROUPS = {"targets": ["panda"], "neighbours": ["koala", "bear"], "heldout": ["hamster"], "rest": ["taxi"]}
BASE = {"panda": 100.0, "koala": 90.0, "bear": 80.0, "hamster": 100.0, "taxi": 100.0}


def test_a_concepts_numbers_are_means_of_its_groups() -> None:
    erased = {"panda": 4.0, "koala": 85.0, "bear": 75.0, "hamster": 50.0, "taxi": 99.0}
    found = numbers_of(GROUPS, BASE, erased)
    assert found["base_metrics"] == {"A_tar": 100.0, "A_adj": 85.0, "A_heldout": 100.0, "A_rest": 100.0}
    assert found["metrics"] == {
        "A_er": 96.0,
        "A_adj": 80.0,
        "A_heldout": 50.0,
        "A_rest": 99.0,
        "ERB": pytest.approx(2 * 96 * 80 / 176),
        "ERB_heldout": pytest.approx(2 * 96 * 50 / 146),
        "A_real": None,
    }
    without = numbers_of({**GROUPS, "heldout": []}, BASE, erased, real=87.5)["metrics"]
    assert (without["A_heldout"], without["ERB_heldout"], without["A_real"]) == (None, None, 87.5)


def concept(**changes: float | None) -> dict[str, Any]:
    metrics = {"A_er": 100.0, "A_adj": 99.0, "A_heldout": 99.0, "A_rest": 99.0, "ERB": 99.5, **changes}
    return {
        "metrics": metrics,
        "base_metrics": {"A_tar": 100.0, "A_adj": 100.0, "A_heldout": 100.0, "A_rest": 100.0},
        "alone": metrics,
    }


def record(**concepts: dict[str, Any]) -> dict[str, Any]:
    checks = {"fade-panda/1 data": [{"name": "unique", "severity": "critical", "success": True}]}
    return {
        "outputs": {**worst(concepts), "parts": concepts},
        "checks": checks,
        "inputs": {"unchanged": True},
    }


def test_the_gate_reads_the_concept_that_fares_worst_by_its_share_and_names_it() -> None:
    low_base = concept(A_adj=79.0)
    low_base["base_metrics"]["A_adj"] = (
        80.0  # 98.75 % kept: better than 97 of 100, though the number is lower
    )
    made = record(panda=low_base, lemon=concept(A_adj=97.0, A_er=90.0))
    assert made["outputs"]["worst"] == {
        "A_er": "lemon",
        "A_adj": "lemon",
        "A_heldout": "panda",
        "A_rest": "panda",
        "ERB": "panda",
        "ERB_heldout": "panda",
        "A_real": "panda",
    }
    assert made["outputs"]["metrics"]["A_adj"] == 97.0 and made["outputs"]["base_metrics"]["A_adj"] == 100.0
    failed = [str(one) for one in criteria(made, PromotionPolicy()) if not one.holds]
    assert failed == ["erased, lemon 90.0 (asked 97)"]


def test_every_concept_that_falls_short_is_told_and_what_was_not_measured_falls_short() -> None:
    assert shortfalls(record(panda=concept(), lemon=concept()), PromotionPolicy()) == []
    short = shortfalls(record(panda=concept(A_er=50.0), lemon=concept(A_heldout=None)), PromotionPolicy())
    assert short == ["panda: erased 50.0 (asked 97)", "lemon: held-out kept not measured (asked 96)"]
    made = record(panda=concept(), lemon=concept())
    made["checks"]["fade-panda/1 data"][0]["success"] = False
    assert shortfalls(made, PromotionPolicy()) == ["data checks"]


# Going back.


def chain(*steps: tuple[str, str, str]) -> Standing:
    """(action, version, reason) in order."""
    links: list[Decision] = []
    for number, (action, version, reason) in enumerate(steps, 1):
        before = (links[-1].number, links[-1].sha256()) if links else (0, "")
        behind = {"previous": before[0], "previous_sha256": before[1]}
        links.append(
            Decision(
                number=number, version=version, action=action, by="ann", at="now", reason=reason, **behind
            )
        )
    return replay(links)


def back(version: str, to: str) -> tuple[str, str, str]:
    return PROMOTE, to, rollback_reason(version, "why")


UP = [(PROMOTE, number, "") for number in ("1", "2", "3")]


@pytest.mark.parametrize(
    ("steps", "revoked", "to"),
    [
        (UP, (), "2"),
        ([*UP, back("3", "2")], (), "1"),  # not 3 again
        ([*UP, back("3", "2"), (PROMOTE, "4", "")], (), "2"),
        ([*UP, (REVOKE, "3", "x")], (), "2"),
        ([*UP, (REVOKE, "2", "x")], (), "1"),
        (UP, ("2",), "1"),
        ([*UP, back("3", "1"), (PROMOTE, "3", "")], (), "1"),  # promoted again
    ],
)
def test_the_way_back_is_the_last_release_below_that_may_be_used(
    steps: list[tuple[str, str, str]], revoked: tuple[str, ...], to: str
) -> None:
    assert previous(chain(*steps), lambda version: ["p"] if version in revoked else []) == to


@pytest.mark.parametrize("steps", [[], UP[:1], [*UP[:2], back("2", "1")], [*UP[:2], (REVOKE, "1", "x")]])
def test_where_there_is_nothing_to_go_back_to_that_is_said(steps: list[tuple[str, str, str]]) -> None:
    with pytest.raises(PromotionError, match="there is no earlier release|no release was ever current"):
        previous(chain(*steps), lambda version: [])


def test_a_release_that_was_taken_back_is_known_until_it_is_promoted_again() -> None:
    found = chain(*UP, back("3", "2"))
    assert ladder(found.decisions) == ["1", "2"]
    taken = taken_back(found, "3")
    assert taken is not None and taken.reason == "rollback of 3: why"
    assert taken_back(found, "1") is None and taken_back(found, "2") is None
    assert taken_back(chain(*UP, back("3", "2"), (PROMOTE, "3", "")), "3") is None
