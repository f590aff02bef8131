"""The card's state, which is written anew, and the card as a description that has little room."""

from __future__ import annotations

import pytest

from fade.reporting.card import ROOM, card, describe, restated, sections
from tests.unit.fade.reporting import samples


def whole(**changes: object) -> str:
    text: str = card(
        samples.result(**changes),
        samples.lineage(),
        base_model="data/base",
        command="fade run",
        pictures=["before-after.png", "confusion.svg"],
    )
    return text


def test_only_the_state_is_another() -> None:
    text = whole()
    assert "- Decisions: nothing was decided yet.\n- Audit: not audited." in text
    other = restated(text, "champion", "reproduced exactly")
    assert "- Decisions: champion.\n- Audit: reproduced exactly." in other and "not audited" not in other
    assert [s for s in sections(text) if s[0] != "State"] == [s for s in sections(other) if s[0] != "State"]
    assert restated(other, "nothing was decided yet", "not audited") == text


def test_a_card_of_an_earlier_version_gets_a_state() -> None:
    assert restated("# old\n\n## Use\n\nx\n", "rejected", "none").endswith(
        "x\n\n## State\n\n- Decisions: rejected.\n- Audit: none.\n\n"
    )


def test_a_description_has_no_head_and_says_where_the_pictures_lie() -> None:
    said = describe(whole())
    assert said.startswith("# panda, erased") and "library_name" not in said
    assert (
        "Before and after, the same seeds: artifact `pictures/before-after.png`" in said and "![" not in said
    )
    assert said.endswith("The whole card is the run's artifact `card.md`.\n")


@pytest.mark.parametrize("room", [ROOM, 2500, 700, 200])
def test_a_long_card_gives_up_its_tables_first_and_never_exceeds_the_room(room: int) -> None:
    rows = [
        {"concept": f"concept number {i}", "role": "rest", "n": 24, "base": 99.0, "erased": 98.0, "ssim": 0.9}
        for i in range(200)
    ]
    said = describe(whole(per_concept=rows), room)
    assert len(said) <= room and "concept number" not in said
    assert ("Left out here: concepts" in said and "- Decisions: " in said) or room == 200


def test_control_a_short_card_gives_up_nothing() -> None:
    assert "Left out" not in describe(whole()) and "hamster" in describe(whole())
