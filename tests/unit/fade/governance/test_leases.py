"""The chain of a request's turns: exclusive claims, void reports, failures in a row, and a beat that is
watched without a wall clock."""

from __future__ import annotations

import pytest

from fade.errors import RegistryError
from fade.governance.leases import CLAIM, DONE, FAILED, RELEASED, SEEN, Event, Watch, replay


def event(number: int, kind: str, after: int, by: str = "ann", *, beat: int = 0, **content: str) -> Event:
    return Event(number, kind, after, by, "2026-01-01T00:00:00+00:00", content, beat)


def test_of_two_claims_on_the_same_state_the_lower_number_holds() -> None:
    found = replay(
        [
            event(2, CLAIM, 0, "bob"),
            event(1, CLAIM, 0, "ann"),
            event(3, DONE, 2, "bob"),
            event(4, DONE, 1, "ann"),
        ]
    )
    assert [(one.number, one.by) for one in found.turns] == [(1, "ann"), (4, "ann")]
    assert [one.number for one in found.void] == [2, 3]
    assert found.claim is None and found.outcome == found.turns[-1]


def test_what_is_reported_after_a_takeover_is_void() -> None:
    found = replay(
        [
            event(1, CLAIM, 0, "ann"),
            event(2, CLAIM, 1, "bob"),
            event(3, FAILED, 1, "ann"),
            event(4, DONE, 2, "bob"),
        ]
    )
    assert [one.number for one in found.turns] == [1, 2, 4] and [one.number for one in found.void] == [3]


def test_what_was_seen_takes_no_turn() -> None:
    found = replay(
        [event(1, SEEN, 0), event(2, CLAIM, 0), event(3, SEEN, 0, concept="koala"), event(4, DONE, 2)]
    )
    assert [one.number for one in found.turns] == [2, 4] and found.seen is not None and found.seen.number == 3


def test_a_missing_turn_is_named() -> None:
    with pytest.raises(RegistryError, match="r1: event 2 is missing, 3 follows it"):
        replay([event(1, CLAIM, 0), event(3, DONE, 2)], "r1")


def test_failures_are_counted_in_a_row_under_the_same_terms_and_parameters() -> None:
    same = {"fingerprint": "f", "params_sha256": "p"}
    turns = [
        event(1, CLAIM, 0, **same),
        event(2, FAILED, 1, **same),
        event(3, CLAIM, 2, **same),
        event(4, CLAIM, 3, **same),  # the worker of 3 died
        event(5, RELEASED, 4, **same),  # stopped by its user: no failure
        event(6, CLAIM, 5, **same),
        event(7, FAILED, 6, **same),
    ]
    assert replay(turns).failures("f", "p") == 3
    assert replay(turns).failures("f", "other") == replay(turns).failures("other", "p") == 0
    assert replay([*turns, event(8, CLAIM, 7, **same), event(9, DONE, 8, **same)]).failures("f", "p") == 0


def test_an_event_survives_its_text_and_another_schema_does_not() -> None:
    one = event(1, CLAIM, 0, beat=4, fingerprint="f")
    assert Event.parse(1, one.to_json(), 4) == one
    for text in (
        "",
        "{}",
        one.to_json().replace('"schema":1', '"schema":2'),
        one.to_json().replace("claim", "clam"),
    ):
        with pytest.raises(RegistryError, match="event 1 of a request cannot be read"):
            Event.parse(1, text)


def test_a_beat_is_watched_by_the_watchers_own_clock() -> None:
    watch = Watch(10)
    assert watch.look("r1", event(1, CLAIM, 0, beat=7), 100) == "unknown"
    assert watch.look("r1", event(1, CLAIM, 0, beat=7), 109) == "unknown"
    assert watch.look("r1", event(1, CLAIM, 0, beat=8), 110) == "alive"
    assert watch.look("r1", event(1, CLAIM, 0, beat=8), 119) == "unknown"
    assert watch.look("r1", event(1, CLAIM, 0, beat=8), 120) == "dead"
    assert watch.look("r1", event(2, CLAIM, 1, beat=8), 121) == "unknown"  # another claim, another worker
