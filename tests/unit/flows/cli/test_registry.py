"""What the tree of `fade lineage` says of each kind of value."""

from __future__ import annotations

from flows.cli.lineage_tree import _lines, _summary


def test_every_kind_of_value_is_told_from_the_others() -> None:
    values = {
        "seed": 0,
        "world": 1,
        "yes": True,
        "no": False,
        "none": None,
        "text": "",
        "deep": {"a": {"b": 2.5}},
        "empty": {},
    }
    assert dict(_lines(values)) == {
        "seed": "0",
        "world": "1",
        "yes": "yes",
        "no": "no",
        "none": "-",
        "text": "-",
        "deep.a.b": "2.5",
        "empty": "-",
    }


def test_a_long_list_is_cut_and_says_so() -> None:
    assert dict(_lines({"few": ["a", "b"], "none": [], "many": list(range(10))})) == {
        "few": "a, b",
        "none": "none",
        "many": "0, 1, 2, 3, 4, 5, 6, 7 and 2 more",
    }


def test_of_a_release_the_settings_are_shown_and_not_every_concept() -> None:
    kept = {"used": ["a", "b"], "measured": ["c"], "trained": []}
    predicted = {"rank": 4, "breaks": "", "cost": {"a": {"total": 1.0}}, "groups": {"used": {"mean": 0.5}}}
    content = {"settings": {"config": {"mode": "solve"}, "kept": kept}, "predicted": predicted}
    assert dict(_lines(_summary("release", content))) == {
        "mode": "solve",
        "used concepts": "2",
        "measured concepts": "1",
        "trained concepts": "0",
        "predicted.rank": "4",
        "predicted.groups.used.mean": "0.5",
        "predicted.breaks": "-",
    }
