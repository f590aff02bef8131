"""What the tree of `fade lineage` says of each kind of value."""

from __future__ import annotations

from flows.cli.lineage_tree import _lines


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
