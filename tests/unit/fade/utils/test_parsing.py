"""YAML and JSON of strangers: refused in less than a second, or read as plain values."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from fade.utils.parsing import MAX_DEPTH, MAX_NODES, MalformedError, parse_json, parse_yaml

LEVELS = "abcdefghijkl"
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in pairwise(LEVELS)
)
MERGES = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{new}: &{new} {{<<: [{','.join([f'*{old}'] * 9)}]}}\n" for old, new in pairwise(LEVELS)
)
YAML = {
    "5,000 lists": ("a: " + "[" * 5000 + "]" * 5000, "line 1: it is nested more than 32"),
    "100,000 lists": ("[" * 100_000, "line 1: it is nested more than 32"),
    "100,000 mappings": ("{a: " * 100_000, "line 1: it is nested more than 32"),
    "100,000 items": ("- " * 100_000 + "a", "line 1: it is nested more than 32"),
    "1,000 sections": ("\n".join(" " * i + "a:" for i in range(1000)), "line 33: it is nested more than 32"),
    "aliases of aliases": (BOMB, "aliases add more than 10000 values"),
    "merges of merges": (MERGES, "aliases add more than 10000 values"),
    "an alias of itself": ("a: &a [*a]", "the alias *a names nothing before it, or itself"),
    "many values": ("[" + "1," * (MAX_NODES + 1) + "]", f"more than {MAX_NODES} values"),
    "many characters": ("a" * (5 << 20), "characters"),
    "a list as a key": ("x: 1\n? [a]\n: 1", "line 2: the key is no text"),
    "a mapping as a key": ("? {a: 1}\n: 1", "line 1: the key is no text; quote it"),
    "a key twice, once as a number": ("1: 1\n'1': 2", "line 2: the key '1' appears twice"),
    "a key twice": ("a: 1\nb: 1\na: 2", "line 3: the key 'a' appears twice"),
    "a key twice, once in quotes": ('a: {b: 1, "b": 2}', "line 1: the key 'b' appears twice"),
    "two merges": ("<<: {a: 1}\n<<: {b: 2}", "line 2: the key '<<' appears twice"),
    "5,000 digits": ("a: " + "1" * 5000, "line 1: a number has more than 100 characters"),
    "code": ("a: !!python/object/apply:os.system [ls]", "line 1: the tag"),
    "bytes": ("a: !!binary aGk=", "line 1: the tag"),
    "a set": ("a: !!set {x}", "line 1: the tag"),
    "an empty integer": ('a: !!int ""', "line 1: the tag"),
    "two documents": ("a: 1\n---\nb: 2", "line 2: a second document begins"),
    "NUL": ("a: \0", "control characters"),
    "half a character": ("a: \udc80", "surrogates"),
    "digits that are none": ("a: 0b_", "invalid literal"),
    "an open bracket": ("a: [", "did not find expected node content"),
}
JSON = {
    "5,000 lists": ("[" * 5000 + "]" * 5000, "nested more than 100"),
    "100,000 objects": ('{"a":' * 100_000, "nested more than 100"),
    "a key twice": ('{"a": 1, "a": 2}', "the key 'a' appears twice"),
    "NaN": ("[NaN]", "NaN is no finite number"),
    "infinity": ("[-Infinity]", "no finite number"),
    "a number without end": ("[1e999]", "no finite number"),
    "5,000 digits": ("9" * 5000, "digits"),
    "half a character": ('"\\ud800"', "lone surrogate"),
    "an open string of escapes": ('"\\' * 100_000, "line 1: Unterminated"),
    "bytes": (b"\xff", "not UTF-8"),
    "nothing": ("", "line 1"),
}


@pytest.mark.parametrize("case", YAML)
def test_yaml_that_would_hang_crash_or_lose_something_is_refused(case: str) -> None:
    text, message = YAML[case]
    start = time.process_time()
    with pytest.raises(MalformedError) as caught:
        parse_yaml(text)
    assert time.process_time() - start < 1.0 and message in str(caught.value), str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("case", JSON)
def test_json_that_would_crash_or_lose_something_is_refused(case: str) -> None:
    text, message = JSON[case]
    start = time.process_time()
    with pytest.raises(MalformedError) as caught:
        parse_json(text)
    assert time.process_time() - start < 1.0 and message in str(caught.value), str(caught.value)


@pytest.mark.parametrize("name", ["params.yaml", "prefect.yaml", "data.dvc", "fade/pretrain/vocabulary.yaml"])
def test_the_files_of_the_repository_are_read_as_before(repo: Path, name: str) -> None:
    text = (repo / name).read_text(encoding="utf-8")
    assert parse_yaml(text) == yaml.safe_load(text)


def test_a_date_stays_text_and_merges_and_aliases_work() -> None:
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, z: 1}\nd: 2026-02-30\ne: [*b, ~, no, 1.5]\n"
    b = {"x": 3, "y": 2}
    wanted: dict[str, Any] = {"a": {"x": 1, "y": 2}, "b": b, "c": {**b, "z": 1}}
    assert parse_yaml(text) == {**wanted, "d": "2026-02-30", "e": [b, None, False, 1.5]}
    assert parse_yaml("") is None and parse_yaml("# nothing") is None


def test_control_what_is_just_deep_enough_is_read() -> None:
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_yaml(deep) == json.loads(deep) == parse_json(deep)
    value = {"a": [1, 2.5, 'x [[[[ \\" 😀', None, True], "b": {"c": -1e-3}}
    assert (
        parse_json(json.dumps(value)) == value == parse_json(json.dumps(value, ensure_ascii=False).encode())
    )
    assert parse_json('{"a": 1, "a": 2, "n": NaN}', ours=False)["a"] == 2


def test_a_key_of_any_type_is_read_as_its_text_and_base_60_is_no_number() -> None:
    """A request with such a key is at fault by itself; refused here, it would stop all others."""
    assert parse_yaml("{1: 2, on: 3, ~: 4, 1.5: yes}") == {"1": 2, "on": 3, "~": 4, "1.5": True}
    assert parse_yaml("a: &x {1: 1}\nb: {<<: *x, j: 2}") == {"a": {"1": 1}, "b": {"1": 1, "j": 2}}
    assert parse_yaml("[1:30, 190:20:30.15, -1:30]") == ["1:30", "190:20:30.15", "-1:30"]
    assert parse_yaml("[12, -3, 1.5, 0x1F, .inf]") == [12, -3, 1.5, 31, float("inf")]
    assert parse_yaml("a: " + "1:" * 300_000 + "1")["a"].startswith("1:1:")
