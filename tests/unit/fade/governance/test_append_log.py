"""One log for every kind of entry: which entries count, which are void, and what is missing or edited."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from fade.errors import FadeError, RegistryError
from fade.governance.append_log import LogEntry, verify_anchor, verify_log


@dataclass(frozen=True, kw_only=True)
class Note(LogEntry):
    text: str = ""

    KIND, ERROR = "note", RegistryError


@dataclass(frozen=True, kw_only=True)
class Event(Note):
    KIND, HASHED = "event", False

    @property
    def ordered(self) -> bool:
        return self.text != "aside"


def entry(number: int, after: Note | None = None, by: str = "ann", kind: type[Note] = Note) -> Note:
    made = kind(number=number, by=by, at="")
    return replace(made, previous=after.number, previous_sha256=after.sha256()) if after else made


def test_of_two_entries_behind_the_same_one_the_lower_number_counts_whatever_the_order() -> None:
    first = entry(1)
    second, late = entry(2, first), entry(3, first, by="bob")
    third = entry(4, second)
    for order in ([first, second, late, third], [third, late, second, first]):
        assert verify_log(order) == ([first, second, third], [late])
    assert verify_log([]) == ([], [])


def test_an_entry_behind_a_void_one_is_void_and_not_missing() -> None:
    first = entry(1)
    second, late = entry(2, first), entry(3, first, by="bob")
    assert verify_log([first, second, late, entry(4, late)])[1] == [late, entry(4, late)]


def test_a_missing_entry_is_named_by_its_kind() -> None:
    first = entry(1)
    with pytest.raises(RegistryError, match="note 2 is missing: 3 follows it"):
        verify_log([first, entry(3, entry(2, first))])


def test_an_edit_is_seen_where_entries_name_hashes_and_only_there() -> None:
    first = entry(1)
    with pytest.raises(RegistryError, match="note 1 was edited: 2 names another hash"):
        verify_log([replace(first, text="edited"), entry(2, first)])
    with pytest.raises(RegistryError, match="note 1 was edited"):
        verify_log([first, replace(entry(2, first), previous_sha256="")])
    event = entry(1, kind=Event)
    follower = replace(entry(2, event, kind=Event), previous_sha256="")
    assert verify_log([event, follower]) == ([event, follower], [])
    with pytest.raises(RegistryError, match="event 1 is missing"):
        verify_log([follower])


def test_an_entry_outside_of_the_order_neither_counts_nor_is_void() -> None:
    event = entry(2, kind=Event)
    outside = Event(number=1, by="ann", at="", text="aside")
    assert verify_log([outside, event, replace(outside, number=3)]) == ([event], [])


def test_the_anchor_of_an_entry_that_was_cut_off_or_edited_is_refused() -> None:
    first = entry(1)
    second = entry(2, first)
    for anchor in (first.anchor, second.anchor):
        verify_anchor(Note, [first, second], anchor, "panda")
    with pytest.raises(RegistryError, match="panda: note 2 was edited, or is missing"):
        verify_anchor(Note, [first], second.anchor, "panda")
    with pytest.raises(RegistryError, match="panda: note 2"):
        verify_anchor(Note, [first, replace(second, text="edited")], second.anchor, "panda")


def test_an_entry_comes_back_from_its_text_and_other_text_is_refused() -> None:
    one = replace(entry(1), text="é")
    assert Note.parse(1, one.to_json()) == one
    for text in ("", "[]", one.to_json().replace('"schema":1', '"schema":9'), '{"schema":1,"other":2}'):
        with pytest.raises(FadeError, match="note 7 cannot be read"):
            Note.parse(7, text)
