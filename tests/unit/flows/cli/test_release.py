"""What `fade release`, `fade releases` and `fade rollback` print of what was found."""

from __future__ import annotations

from typing import Any

import pytest

from flows.cli import release as command

METRICS = {"A_er": 97.0, "A_adj": 95.5, "A_heldout": None, "A_rest": 99.0, "ERB": 96.2}


def found(**changes: Any) -> dict[str, Any]:
    return {
        "name": "fade.release",
        "version": "3",
        "made": True,
        "current": True,
        "parts": ["fade-lemon/1", "fade-panda/[2]"],
        "parts_in": ["fade-lemon/1"],
        "parts_out": [],
        "left_out": ["fade-noto/1"],
        "was_current": "2",
        "adapter_sha256": "a" * 64,
        "concepts_judged": {"panda": {"metrics": METRICS, "alone": {**METRICS, "A_adj": 99.5}}},
        "seconds": {"compose": 1.26},
        **changes,
    }


def test_a_release_is_shown_beside_its_champions(capsys: pytest.CaptureFixture[str]) -> None:
    command._show_release(found())
    out = capsys.readouterr().out
    assert "fade.release/3: current" in out and "99.5 > 95.5" in out and "- > -" in out
    assert "fade-panda/[2]" in out and "left out    fade-noto/1 (styles)" in out and "compose 1.3" in out
    kept = {"used": {"concepts": 9, "base": 98.0, "erased": 96.5, "kept": 98.5}}
    kept |= {"measured": {"concepts": 0, "base": None, "erased": None, "kept": None}}
    command._show_release(found(kept=kept, breaks="'panda' breaks first."))
    out, err = capsys.readouterr()
    assert "used: 98.0 > 96.5 % of 9 judged concepts" in out and "measured: - > - % of 0" in out
    assert "'panda' breaks first." in err
    command._show_release(found(current=False, made=False, seconds={}))
    out = capsys.readouterr().out
    assert "not current, made before" in " ".join(out.split()) and "seconds" not in out


def test_a_plan_says_what_would_be_new(capsys: pytest.CaptureFixture[str]) -> None:
    command._show_plan(found(version=None))
    out = capsys.readouterr().out
    assert (
        "would be a new version; current is 2" in out
        and "new in it   fade-lemon/1" in out
        and "no more     none" in out
    )


PREDICTED = {
    "mode": "solve",
    "rank": 4,
    "added_layers": 7,
    "no_neighbour": ["panda"],
    "erased": {
        "panda": {"residual": 0.311, "without_rank": 0.3, "missing": 0.288, "foreign": 0.023, "outside": 0.0}
    },
    "cost": {
        "panda": {"group": "erased", "total": 44.0, "of": {"panda": 44.0}},
        "koala": {"group": "used", "total": 3.0, "of": {"panda": 3.04}},
        "far": {"group": "measured", "total": 0.1, "of": {"panda": 0.12}},
    },
    "groups": {"measured": {"concepts": 1, "mean": 0.1, "largest": 0.2}},
    "breaks": "'panda' breaks first: 31 % [b] is missing.",
}


def test_a_plan_shows_what_is_predicted_and_the_concept_that_breaks_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command._show_plan(found(version=None, predicted=PREDICTED))
    out, err = capsys.readouterr()
    for part in ("31.1", "28.8", "2.3", "koala 3.0, far 0.1", "solve at rank 4", "7 layers", "0.20"):
        assert part in " ".join(out.split()), part
    assert "panda 44.0" not in out  # of what it erases is no cost
    assert "all of panda's are erased, too" in out and "31 % [b] is missing" in err
    command._show_plan(found(version=None, predicted={}, unpredicted="base: it is not [here]."))
    out, err = capsys.readouterr()
    assert "predicted" not in out and "it is not [here]" in err


STAYS_OUT = {
    "members": [{"concepts": ["lemon", "salt"], "why": "costs 'koala' 4.1 points [b]"}],
    "search": "greedy",
    "margin": 1.25,
    "none": "",
}


def test_who_has_to_stay_out_is_shown_with_the_reason_and_what_comes_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command._show_release(found(current=False, stays_out=STAYS_OUT))
    out = capsys.readouterr().out
    assert "stays out   lemon + salt: costs 'koala' 4.1 points [b]" in out
    assert "pass by 1.2 points; 1 found by greedy search" in out
    command._show_release(found(stays_out={**STAYS_OUT, "members": [], "none": "all [of] them."}))
    out, err = capsys.readouterr()
    assert "stays out" not in out and "all [of] them." in err
    command._show_plan(
        found(version=None, predicted=PREDICTED, stays_out=STAYS_OUT, next="fade release --without lemon")
    )
    out, err = capsys.readouterr()
    assert "lemon + salt: costs" in out and "`fade release --without lemon`" in err


def test_a_revoked_part_of_the_current_release_is_loud_until_another_is_current(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command._warn("fade.release", "2", ["fade-panda/1"], replaced=False)
    said = capsys.readouterr().err
    assert "revoked the current release fade.release/2 holds fade-panda/1" in said and "fade rollback" in said
    command._warn("fade.release", "2", ["fade-panda/1"], replaced=True)
    command._warn("fade.release", "2", [], replaced=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "retired"),
        ({"current": True, "state": "champion"}, "current"),
        ({"taken_back": {"by": "ann"}}, "retired, taken back"),
        ({"current": True, "revoked": ["fade-panda/1"]}, "current; HOLDS REVOKED fade-panda/1"),
    ],
)
def test_the_state_of_a_release_in_words(changes: dict[str, Any], said: str) -> None:
    assert (
        command._state({"state": "retired", "current": False, "revoked": [], "taken_back": None, **changes})
        == said
    )
