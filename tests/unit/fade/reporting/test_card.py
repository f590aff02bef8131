"""The model card: its head is YAML, its numbers are the evaluation's, and names stay text."""

from __future__ import annotations

import yaml

from fade.reporting.card import card
from tests.unit.fade.reporting import samples


def parts(**changes: object) -> tuple[dict[str, object], str]:
    text = card(samples.result(**changes), samples.lineage(), base_model="data/base", command="fade run")
    _, head, body = text.split("---\n", 2)
    return yaml.safe_load(head), body


def test_the_head_names_library_and_base() -> None:
    head, _ = parts()
    assert (
        head["library_name"] == "diffusers"
        and head["base_model"] == "data/base"
        and "method:fade" in head["tags"]
    )  # type: ignore[operator]


def test_the_tables_hold_the_numbers_and_the_lineage() -> None:
    _, body = parts()
    for line in (
        r"| A\_er | 24 | 98.7 (90.1 to 99.8) | 97.9 (88.8 to 99.9) |",
        "| ERB | — | — | 95.6 (90.6 to 97.7) |",
        "| hamster | held-out | 24 | 79.2 | 75.1 |",
        f"| adapter sha256 | {'4' * 64} |",
        f"| data md5 | {'e' * 32}.dir |",
        f"| code commit | {'d' * 40} (clean) |",
        "| neighbours, trained on | koala, bear |",
    ):
        assert line in body
    assert 'load_lora_weights(".", weight_name="adapter.safetensors")' in body


def test_a_method_that_keeps_no_neighbours_does_not_say_that_it_was_trained_on_them() -> None:
    _, body = parts(neighbours_trained=False)
    assert "| neighbours, only measured | koala, bear |" in body and "neighbours, trained on" not in body


def test_the_limits_say_whether_paraphrases_were_tried() -> None:
    (_, without), (_, with_them) = parts(), parts(indirect={"A_indirect": 90.0})
    assert "Paraphrases, other languages and attacks were not part of it" in without
    assert "Other languages and attacks were not part of it" in with_them and "Paraphrases" not in with_them


def test_a_hostile_name_stays_text() -> None:
    head, body = parts(target='a|b` <img src=x>\n# no: "heading"')
    assert head["library_name"] == "diffusers"
    assert "\n# no" not in body and "| a|b" not in body
    assert r"\<img src=x\>" in body


def test_the_card_says_why_shows_its_grids_and_where_to_start_from() -> None:
    body = card(
        samples.result(),
        {**samples.lineage(), "request": {"id": "R-7", "reason": "a *right*", "by": "ann"}},
        base_model="data/base",
        command="fade run",
        pictures=["confusion.png", "confusion.svg", "before-after.png", "something-else.png"],
    )
    assert r"Request: id R-7, reason a \*right\*, by ann." in body
    assert (
        body.index("](pictures/before-after.png)") < body.index("](pictures/confusion.svg)")
        and "something-else" not in body
    )
    assert "confusion.png" not in body, "left by an earlier version of the same run"
    assert f"At commit {'d' * 40}, with the data of md5 {'e' * 32}.dir;" in body
    assert "No request was recorded" in parts()[1] and "## Grids" not in parts()[1]


def test_the_card_of_a_release_names_its_parts_and_what_adding_up_cost() -> None:
    metrics = {"A_er": 97.0, "A_adj": 95.5, "A_heldout": None, "A_rest": 99.0, "ERB": 96.2}
    result = samples.result(
        parts={"panda": {"metrics": metrics, "alone": {**metrics, "A_adj": 99.5}, "base_metrics": {}}}
    )
    made_of = {
        "fade-panda/3": {"concepts": ["panda"], "adapter_sha256": "a" * 64, "lineage_sha256": "b" * 64}
    }
    body = card(
        result, {**samples.lineage(), "parts": made_of}, base_model="data/base", command="fade release"
    )
    assert f"| fade-panda/3 | panda | {'a' * 12} | {'b' * 12} |" in body
    assert "| panda | 97.0 → 97.0 | 99.5 → 95.5 | — → — | 99.0 → 99.0 | 96.2 → 96.2 | — → — | — → — |" in body
    assert "the cards of its parts say" in body


def test_the_card_of_a_refused_release_names_who_has_to_stay_out_and_why() -> None:
    part = {"concepts": ["lemon"], "adapter_sha256": "a" * 64, "lineage_sha256": "b" * 64}

    def body(stays_out: dict[str, object]) -> str:
        made_of = {"parts": {"fade-lemon/1": part}, "release": {"stays_out": stays_out}}
        lineage = {**samples.lineage(), **made_of}
        return card(samples.result(parts={}), lineage, base_model="data/base", command="fade release")

    member = {"part": "fade-lemon/1", "concepts": ["lemon"], "why": "costs 'koala' <4.1> points"}
    named = body({"members": [member], "search": "exhaustive", "margin": 1.0, "none": ""})
    assert r"| fade-lemon/1 | lemon | costs 'koala' \<4.1\> points |" in named
    assert "exhaustive search" in named
    assert "all would have to stay out" in body({"members": [], "none": "all would have to stay out."})
    assert "The gate refuses" not in body({})
