"""Whatever is written into the registry, its parsers raise FadeErrors alone; and whatever a forger without
the private key does to a log, with the team's key and its witness a reader sees the same state or refuses."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fade.config import PromotionPolicy
from fade.errors import FadeError
from fade.governance.append_log import LogEntry, StoredEntry, read_log
from fade.governance.audit import Audit
from fade.governance.history import VersionEvent
from fade.governance.keyring import KeyRing, TeamKey, signed_text
from fade.governance.leases import LeaseEvent
from fade.governance.promotion import PROMOTE, REVOKE, Decision, Standing, criteria, replay
from fade.governance.stored_values import parse_json, parse_names, parse_number
from fade.governance.witness import Witness
from tests.unit.fade.governance.logs import chain

QUICK = settings(max_examples=50, deadline=None)
LOG, KEY = "fade-panda.decisions", "team"
KINDS: list[type[LogEntry]] = [Decision, Audit, LeaseEvent, VersionEvent]
SAMPLES = [
    Decision(number=1, by="ann", at="", version="1", action=PROMOTE),
    Audit(number=1, by="ann", at="", version="1", verdict="identical"),
    LeaseEvent(number=1, by="ann", at="", kind="claim"),
    VersionEvent(number=1, by="ann", at="", version="1", event="registered"),
]
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@QUICK
@given(st.text() | values.map(json.dumps) | st.sampled_from(["[" * 100_000, "1" * 5000, '"\\ud800"', "NaN"]))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    parsers: list[Callable[[], Any]] = [partial(kind.parse, 1, text) for kind in KINDS]
    parsers += [partial(parse_json, text, "a tag", dict), partial(parse_names, text, "a tag")]
    parsers += [partial(parse_number, text, "a tag"), partial(KeyRing.parse, text, "team.pub")]
    parsers.append(partial(Witness.parse, text, "registry.witness.json"))
    for parse in parsers:
        with contextlib.suppress(FadeError):
            parse()


@QUICK
@given(st.sampled_from(SAMPLES), st.data())
def test_an_entry_with_any_value_in_any_field_is_parsed_or_refused(
    sample: LogEntry, data: st.DataObject
) -> None:
    content = json.loads(sample.to_json())
    content[data.draw(st.sampled_from(sorted(content)))] = data.draw(values)
    try:
        entry = type(sample).parse(2, json.dumps(content))
    except FadeError:
        return
    assert type(sample).parse(2, entry.to_json()) == entry and entry.sha256()
    with_one = [StoredEntry(2, entry.to_json()), StoredEntry(1, sample.to_json())]
    try:
        read_log(type(sample), LOG, with_one, anchors=[("w", entry.anchor)])
    except FadeError:
        pass


@QUICK
@given(values)
def test_any_record_is_held_against_the_gate_or_refused(value: Any) -> None:
    for record in (
        value,
        {"outputs": value, "inputs": value},
        {"outputs": {"metrics": value}, "inputs": {"unchanged": True}},
    ):
        with contextlib.suppress(FadeError):
            criteria(record, PromotionPolicy())


def sign(text: str) -> str:
    return hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


def is_signed(text: str, signature: str, pem: str) -> bool:
    return pem == KEY and hmac.compare_digest(signature.encode(), sign(text).encode())


RING = KeyRing((TeamKey(KEY),))
VERIFY = partial(RING.verify_entry, is_signed=is_signed, where="team.pub")


def stored(entry: Decision, log: str = LOG) -> StoredEntry:
    return StoredEntry(entry.number, entry.to_json(), sign(signed_text(log, entry.to_json())))


def team_log() -> list[Decision]:
    """Three promotions, one that lost a race, and a revocation of the second."""
    one, two, three = chain(3)
    late = replace(three, number=4, by="bob", version="9")
    revoked = Decision(
        number=5, by="ann", at="", version="2", action=REVOKE, previous=3, previous_sha256=three.sha256()
    )
    return [one, two, three, late, revoked]


ENTRIES = team_log()
HONEST = [stored(one) for one in ENTRIES]
ELSEWHERE = [stored(one, "fade-lemon.decisions") for one in ENTRIES]
WITNESS = Witness().advance(LOG, [ENTRIES[index] for index in (0, 1, 2, 4)], "the witness")


def read(some: list[StoredEntry], heads: str, keyed: bool = True) -> Standing:
    anchors = [("the registry", heads), ("the witness", WITNESS.heads[LOG])]
    counted, void = read_log(Decision, LOG, some, anchors=anchors, verify=VERIFY if keyed else None)
    return replay([*counted, *void])


indices = st.integers(0, 9)
operations = st.one_of(
    st.tuples(st.just("delete"), indices),
    st.tuples(st.just("truncate"), indices),
    st.tuples(st.just("swap"), indices, indices),
    st.tuples(st.just("renumber"), indices, st.integers(1, 12)),
    st.tuples(st.just("replay"), indices, st.integers(1, 12)),
    st.tuples(st.just("copy from another log"), indices, st.integers(1, 12)),
    st.tuples(st.just("edit"), indices, st.sampled_from(["version", "action", "by", "previous"])),
    st.tuples(st.just("forge"), st.integers(1, 12)),
    st.tuples(st.just("cut the signature"), indices),
)


def apply(some: list[StoredEntry], operation: tuple[Any, ...]) -> list[StoredEntry]:
    name, *rest = operation
    out = list(some)
    at = rest[0] % len(out) if out else 0
    if name == "forge":
        last = ENTRIES[-1]
        forged = replace(
            last, number=rest[0], version="2", action=PROMOTE, previous=5, previous_sha256=last.sha256()
        )
        return [*out, StoredEntry(rest[0], forged.to_json(), "00")]
    if name == "copy from another log":
        return [*out, ELSEWHERE[rest[0] % len(ELSEWHERE)]._replace(number=rest[1])]
    if name == "replay":
        return [*out, HONEST[rest[0] % len(HONEST)]._replace(number=rest[1])]
    if not out:
        return out
    if name == "delete":
        del out[at]
    elif name == "truncate":
        del out[at:]
    elif name == "swap":
        other = rest[1] % len(out)
        one, two = out[at], out[other]
        out[at], out[other] = one._replace(number=two.number), two._replace(number=one.number)
    elif name == "renumber":
        out[at] = out[at]._replace(number=rest[1])
    elif name == "edit":
        content = json.loads(out[at].text)
        content[rest[1]] = {"version": "2", "action": PROMOTE, "by": "eve", "previous": 0}[rest[1]]
        out[at] = out[at]._replace(text=json.dumps(content, sort_keys=True, separators=(",", ":")))
    else:
        out[at] = out[at]._replace(signature="")
    return out


def test_control_the_honest_log_is_read() -> None:
    standing = read(HONEST, "")
    assert standing.states == {"1": "retired", "2": "revoked", "3": "champion"} and len(standing.void) == 1


@settings(max_examples=300, deadline=None)
@given(st.lists(operations, max_size=5), st.sampled_from(["", *(entry.anchor for entry in ENTRIES)]))
def test_of_a_forged_log_a_reader_sees_the_same_state_or_refuses(
    some: list[tuple[Any, ...]], head: str
) -> None:
    """head: the forger sets the registry's own anchor to any entry, or removes it."""
    forged = HONEST
    for operation in some:
        forged = apply(forged, operation)
    numbers = [one.number for one in forged]
    if len(set(numbers)) < len(numbers):  # a store gives a number to one version
        return
    try:
        standing = read(forged, head)
    except FadeError:
        return
    honest = read(HONEST, "")
    assert (standing.champion, standing.states, standing.decisions) == (
        honest.champion,
        honest.states,
        honest.decisions,
    )


def test_control_without_the_witness_an_older_state_is_believed() -> None:
    """What the witness is for: every signature of an older log holds."""
    counted, _ = read_log(
        Decision, LOG, HONEST[:3], anchors=[("the registry", ENTRIES[2].anchor)], verify=VERIFY
    )
    assert replay(counted).champion == "3" and "2" in replay(counted).states
    with pytest.raises(FadeError, match="the witness remembers it"):
        read(HONEST[:3], ENTRIES[2].anchor)
