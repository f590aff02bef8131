"""The lease log of a request: exclusive leases, void reports, consecutive failures, and a heartbeat that is
observed without a wall clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fade.errors import RegistryError
from fade.governance.leases import (
    ACQUIRED,
    DONE,
    FAILED,
    RECORDED,
    RELEASED,
    HeartbeatMonitor,
    LeaseEvent,
    LeaseLog,
)


def event(
    number: int, kind: str, after: int, by: str = "ann", *, heartbeat: int = 0, **content: str
) -> LeaseEvent:
    return LeaseEvent(
        number=number,
        kind=kind,
        previous=after,
        by=by,
        at="2026-01-01T00:00:00+00:00",
        content=content,
        heartbeat=heartbeat,
    )


def test_of_two_leases_with_the_same_predecessor_the_lower_number_counts() -> None:
    found = LeaseLog.of(
        [
            event(2, ACQUIRED, 0, "bob"),
            event(1, ACQUIRED, 0, "ann"),
            event(3, DONE, 2, "bob"),
            event(4, DONE, 1, "ann"),
        ]
    )
    assert [(one.number, one.by) for one in found.events] == [(1, "ann"), (4, "ann")]
    assert [one.number for one in found.void] == [2, 3]
    assert found.lease is None and found.outcome == found.events[-1]


def test_what_is_reported_after_a_takeover_is_void() -> None:
    found = LeaseLog.of(
        [
            event(1, ACQUIRED, 0, "ann"),
            event(2, ACQUIRED, 1, "bob"),
            event(3, FAILED, 1, "ann"),
            event(4, DONE, 2, "bob"),
        ]
    )
    assert [one.number for one in found.events] == [1, 2, 4] and [one.number for one in found.void] == [3]


def test_a_recorded_request_takes_no_part_in_the_order() -> None:
    found = LeaseLog.of(
        [
            event(1, RECORDED, 0),
            event(2, ACQUIRED, 0),
            event(3, RECORDED, 0, concept="koala"),
            event(4, DONE, 2),
        ]
    )
    assert (
        [one.number for one in found.events] == [2, 4]
        and found.recorded is not None
        and found.recorded.number == 3
    )


def test_a_missing_event_is_named() -> None:
    with pytest.raises(RegistryError, match="r1: event 2 is missing: 3 follows it"):
        LeaseLog.of([event(1, ACQUIRED, 0), event(3, DONE, 2)], "r1")


def test_failures_are_counted_in_a_row_under_the_same_terms_and_parameters() -> None:
    same = {"fingerprint": "f", "params_sha256": "p"}
    events = [
        event(1, ACQUIRED, 0, **same),
        event(2, FAILED, 1, **same),
        event(3, ACQUIRED, 2, **same),
        event(4, ACQUIRED, 3, **same),  # the worker of 3 died
        event(5, RELEASED, 4, **same),  # stopped by its user: no failure
        event(6, ACQUIRED, 5, **same),
        event(7, FAILED, 6, **same),
    ]
    assert LeaseLog.of(events).failures("f", "p") == 3
    assert LeaseLog.of(events).failures("f", "other") == LeaseLog.of(events).failures("other", "p") == 0
    assert (
        LeaseLog.of([*events, event(8, ACQUIRED, 7, **same), event(9, DONE, 8, **same)]).failures("f", "p")
        == 0
    )


def test_an_event_survives_its_text_and_another_schema_does_not() -> None:
    one = event(1, ACQUIRED, 0, heartbeat=4, fingerprint="f")
    assert replace(LeaseEvent.parse(1, one.to_json()), heartbeat=4) == one
    assert one.to_json() == (
        '{"after":0,"at":"2026-01-01T00:00:00+00:00","by":"ann","content":{"fingerprint":"f"},"kind":"claim",'
        '"schema":1}'
    )
    for text in (
        "",
        "{}",
        one.to_json().replace('"schema":1', '"schema":2'),
        one.to_json().replace("claim", "clam"),
        one.to_json().replace('"after":0,', ""),
    ):
        with pytest.raises(RegistryError, match="event 1 cannot be read"):
            LeaseEvent.parse(1, text)


def test_a_heartbeat_is_timed_by_the_observers_own_clock() -> None:
    monitor = HeartbeatMonitor(10)
    assert monitor.observe("r1", event(1, ACQUIRED, 0, heartbeat=7), 100) == "unknown"
    assert monitor.observe("r1", event(1, ACQUIRED, 0, heartbeat=7), 109) == "unknown"
    assert monitor.observe("r1", event(1, ACQUIRED, 0, heartbeat=8), 110) == "alive"
    assert monitor.observe("r1", event(1, ACQUIRED, 0, heartbeat=8), 119) == "unknown"
    assert monitor.observe("r1", event(1, ACQUIRED, 0, heartbeat=8), 120) == "dead"
    assert (
        monitor.observe("r1", event(2, ACQUIRED, 1, heartbeat=8), 121) == "unknown"
    )  # another lease, another worker
