"""The gate's criteria, and a chain of decisions that nobody can edit, cut or win twice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fade.config import PromotionPolicy
from fade.errors import PromotionError, UsageError
from fade.governance.promotion import (
    METRICS,
    PROMOTE,
    REJECT,
    REVOKE,
    Criterion,
    Decision,
    check_decision,
    check_override,
    criteria,
    replay,
)

GOOD = {"A_er": 100.0, "A_adj": 96.0, "A_heldout": 98.0, "A_rest": 99.0, "ERB": 98.0}
BASE = {"A_tar": 100.0, "A_adj": 100.0, "A_heldout": 100.0, "A_rest": 100.0}


def record(**changes: Any) -> dict[str, Any]:
    checks = {
        "data": [
            {"name": "unique", "severity": "critical", "success": True},
            {"name": "n", "severity": "warning", "success": False},
        ]
    }
    outputs = {"adapter_sha256": "a" * 64, "metrics": GOOD, "base_metrics": BASE}
    return {"outputs": outputs, "checks": checks, "inputs": {"unchanged": True}, **changes}


def failing(lineage: dict[str, Any]) -> list[str]:
    return [one.name for one in criteria(lineage, PromotionPolicy()) if not one.holds]


def test_a_version_that_reaches_every_number_passes_and_a_warning_does_not_stop_it() -> None:
    assert failing(record()) == []


@pytest.mark.parametrize(
    ("metric", "value", "name"),
    [
        ("A_er", 96.9, "erased"),
        ("A_adj", 95.9, "neighbours kept"),
        ("A_heldout", 95.0, "held-out kept"),
        ("A_rest", 97.9, "rest kept"),
        ("ERB", 95.9, "ERB"),
        ("A_heldout", None, "held-out kept"),
    ],
)
def test_each_number_alone_stops_it(metric: str, value: float | None, name: str) -> None:
    outputs = {"metrics": {**GOOD, metric: value}, "base_metrics": BASE}
    assert failing(record(outputs=outputs)) == [name]


def test_what_is_kept_is_kept_of_the_original() -> None:
    outputs = {"metrics": {**GOOD, "A_adj": 80.0}, "base_metrics": {**BASE, "A_adj": 82.0}}
    assert failing(record(outputs=outputs)) == []  # 97.6 %


def test_what_stands_in_the_targets_place_counts_where_it_is_asked_for() -> None:
    """A featureless disc is erased, too."""

    def short(real: float | None) -> list[str]:
        outputs = {"metrics": {**GOOD, "A_real": real}, "base_metrics": BASE}
        asked = criteria(record(outputs=outputs), PromotionPolicy(real=80.0))
        assert failing(record(outputs=outputs)) == []  # by default it is not
        return [one.name for one in asked if not one.holds]

    assert short(80.0) == [] and short(79.0) == short(None) == ["in its place, as real"]


def test_failed_or_missing_checks_and_changed_inputs_stop_it() -> None:
    assert failing(
        record(checks={"data": [{"name": "unique", "severity": "critical", "success": False}]})
    ) == ["data checks"]
    assert failing(record(checks={})) == ["data checks"]
    assert failing(record(inputs={"unchanged": None})) == ["inputs unchanged"]
    older = record(outputs={"adapter_sha256": "a" * 64})  # schema 1 had no metrics
    assert failing(older) == ["erased", "neighbours kept", "held-out kept", "rest kept", "ERB"]


def chain(*steps: tuple[str, str]) -> list[Decision]:
    """Decisions (action, version), each behind the one before."""
    out: list[Decision] = []
    for number, (action, version) in enumerate(steps, 1):
        before = out[-1] if out else None
        link = Decision(number=number, version=version, action=action, by="a", at="2026-01-01T00:00:00+00:00")
        out.append(replace(link, previous=before.number, previous_sha256=before.sha256()) if before else link)
    return out


def test_the_last_promotion_is_champion_and_the_one_before_retires() -> None:
    found = replay(chain((PROMOTE, "1"), (REJECT, "2"), (PROMOTE, "3")))
    assert (
        found.champion == "3"
        and found.states == {"1": "retired", "2": "rejected", "3": "champion"}
        and not found.void
    )
    assert replay([]).champion is None and replay([]).head == (0, "")


def test_a_revoked_champion_leaves_the_place_empty() -> None:
    found = replay(chain((PROMOTE, "1"), (PROMOTE, "2"), (REVOKE, "2")))
    assert found.champion is None and found.states == {"1": "retired", "2": "revoked"}


def test_of_two_that_follow_the_same_one_the_lower_number_counts() -> None:
    one, two = chain((PROMOTE, "1"), (PROMOTE, "2"))
    late = replace(two, number=3, version="3", by="b")
    after = Decision(
        number=4, version="3", action=PROMOTE, by="b", at="", previous=2, previous_sha256=two.sha256()
    )
    for order in ([one, two, late, after], [after, late, two, one]):
        found = replay(order)
        assert (found.champion, [d.number for d in found.void]) == ("3", [3])
        assert [d.number for d in found.decisions] == [1, 2, 4]


def test_an_edited_or_missing_decision_breaks_the_chain() -> None:
    links = chain((PROMOTE, "1"), (REJECT, "2"), (PROMOTE, "3"))
    for edit in ({"by": "c"}, {"version": "9"}, {"reason": "no"}, {"overridden": True}, {"action": REVOKE}):
        with pytest.raises(PromotionError, match="decision 2 was edited: 3 names another hash"):
            replay([links[0], replace(links[1], **edit), links[2]])  # type: ignore[arg-type]
    with pytest.raises(PromotionError, match="decision 2 is missing: 3 follows it"):
        replay([links[0], links[2]])
    with pytest.raises(PromotionError, match="decision 1 is missing"):
        replay(links[1:])


def test_a_decision_comes_back_from_its_json_and_other_text_is_refused() -> None:
    link = replace(
        chain((PROMOTE, "1"))[0],
        reason="é",
        criteria=[{"name": "ERB", "holds": True, "value": 98.0, "threshold": 96.0}],
    )
    assert Decision.parse(1, link.to_json()) == link
    for text in (
        "",
        "[]",
        "{}",
        link.to_json().replace('"schema":1', '"schema":9'),
        link.to_json().replace("promote", "praise"),
    ):
        with pytest.raises(PromotionError, match="decision 7 cannot be read"):
            Decision.parse(7, text)


SHORT = [
    Criterion("erased", False, 90.0, 97.0),
    Criterion("data checks", False),
    Criterion("ERB", True, 99.0, 96.0),
]


def test_the_gate_says_what_fell_short_and_an_override_passes_it() -> None:
    with pytest.raises(PromotionError, match=r"erased 90\.0 \(asked 97\); data checks\. Next: .*--override"):
        check_decision(replay([]), "1", PROMOTE, SHORT, "")
    check_decision(replay([]), "1", PROMOTE, SHORT, "urgent")
    check_decision(replay([]), "1", REJECT, SHORT, "")


def test_a_revocation_is_final_and_a_rejection_wants_an_override() -> None:
    gone = replay(chain((PROMOTE, "1"), (REVOKE, "1"), (REJECT, "2"), (PROMOTE, "3")))
    for action in (PROMOTE, REJECT, REVOKE):
        with pytest.raises(PromotionError, match="version 1 was revoked"):
            check_decision(gone, "1", action, [], "urgent")
    with pytest.raises(PromotionError, match="version 2 was rejected"):
        check_decision(gone, "2", PROMOTE, [], "")
    check_decision(gone, "2", PROMOTE, [], "urgent")
    with pytest.raises(PromotionError, match="version 3 is the champion"):
        check_decision(gone, "3", REJECT, [], "")


def test_every_threshold_of_the_policy_is_demanded_once() -> None:
    assert sorted(one.threshold for one in METRICS) == sorted(PromotionPolicy.model_fields)
    raised = PromotionPolicy.model_validate(dict.fromkeys(PromotionPolicy.model_fields, 100.0))
    short = [one.name for one in criteria(record(), raised) if not one.holds]
    assert short == ["neighbours kept", "held-out kept", "rest kept", "ERB", "in its place, as real"]


OLD = (
    '{"action":"revoke","at":"2026-11-28T20:52:06+00:00","by":"bob","criteria":[],"overridden":false,'
    '"previous":2,"previous_sha256":"519d365a334a8549979f56baf1ccb1fff2c3c84b49471a0338b141205e33fc92",'
    '"reason":"é","schema":1,"version":"3"}'
)


def test_a_decision_that_an_earlier_version_wrote_keeps_its_text_and_its_hash() -> None:
    old = Decision.parse(3, OLD)
    assert old.to_json() == OLD
    assert old.anchor == "3:b0e1582e220a86ebc067b83df037387c214b13a2c64363e82406377dda12048f"


def test_a_blank_reason_of_an_override_is_none_and_is_refused() -> None:
    assert (check_override(""), check_override(" court order ")) == ("", "court order")
    for blank in (" ", "\t\n"):
        with pytest.raises(UsageError, match="--override is blank"):
            check_override(blank)


def test_a_decision_from_before_revocations_were_of_bytes_keeps_its_hash() -> None:
    old = Decision(number=1, by="ann", at="", version="1", action=REVOKE, criteria=[])
    assert "adapter_sha256" not in old.to_json() and Decision.parse(1, old.to_json()) == old
    new = replace(old, adapter_sha256="a" * 64)
    assert Decision.parse(1, new.to_json()) == new and (old.revokes, new.revokes) == ("", "a" * 64)
    assert replace(new, action=PROMOTE).revokes == ""


def test_a_record_that_cannot_be_read_is_a_finding_with_its_place() -> None:
    with pytest.raises(PromotionError, match=r"outputs\.metrics\.A_er") as caught:
        criteria({"outputs": {"metrics": {"A_er": "all"}}, "inputs": {"unchanged": True}}, PromotionPolicy())
    assert caught.value.tampered
