"""YAML and JSON without trust: size, depth and aliases are bounded before anything is built.

Both refuse what a reader would silently lose (a key that appears twice) and what would crash or hang a parser
(deep nesting, alias bombs, numbers of thousands of digits)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import accumulate
from typing import Any, ClassVar, NoReturn

import yaml

MAX_DEPTH = 32
"""Levels of mappings and lists in a file of ours."""
MAX_JSON_DEPTH = 100
MAX_EXPANSION = 10_000
"""Nodes that all aliases of a YAML document may add."""
MAX_NODES = 100_000
"""Values in one YAML document."""
MAX_NUMBER = 100
"""Characters of a number: Python refuses to print longer ones."""
_PREFIX = "tag:yaml.org,2002:"
_TAGS = (None, "!", f"{_PREFIX}str", f"{_PREFIX}seq", f"{_PREFIX}map")
_MERGE, _TIMESTAMP = f"{_PREFIX}merge", f"{_PREFIX}timestamp"
_BUILT = ("null", "bool", "int", "float", "str", "seq", "map")
_STRING = re.compile(rb'"(?:[^"\\]|\\.?)*+(?:"|\Z)', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml takes a tenth of the time


class MalformedError(ValueError):
    """A text that is no YAML or JSON of the kind that is read here; the line is named where one is known."""


def _without_colon(tag: str, pattern: re.Pattern[str]) -> re.Pattern[str]:
    number = tag in (f"{_PREFIX}int", f"{_PREFIX}float")
    return re.compile(f"(?![^:]*:){pattern.pattern}", pattern.flags) if number else pattern


class _Loader(_Base):  # type: ignore[misc]
    """Texts, numbers, switches, lists and mappings. A date stays text: who knows the field judges it. So does
    ``1:30``, which YAML 1.1 takes for 90, and a key of any type: one is no reason to refuse a file."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {
        first: [(tag, _without_colon(tag, pattern)) for tag, pattern in rules if tag != _TIMESTAMP]
        for first, rules in _Base.yaml_implicit_resolvers.items()
    }
    yaml_constructors: ClassVar[dict[str, Any]] = {
        tag: _Base.yaml_constructors[tag] for tag in (f"{_PREFIX}{name}" for name in _BUILT)
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                key.tag = f"{_PREFIX}str"
        return super().construct_mapping(node, deep=deep)


_RESOLVER = type(
    "_Resolver", (yaml.resolver.Resolver,), {"yaml_implicit_resolvers": _Loader.yaml_implicit_resolvers}
)()


def parse_yaml(text: str, limit: int = 4 << 20) -> Any:
    """The content of one plain YAML document; None for an empty one. Raises MalformedError."""
    if len(text) > limit:
        raise MalformedError(f"it has more than {limit} characters")
    try:
        _check_events(text)
        return yaml.load(text, Loader=_Loader)  # noqa: S506 (a safe loader with fewer types)
    except MalformedError:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        _refuse(mark, " ".join(str(what).split()))
    except (ValueError, TypeError, KeyError, IndexError) as error:  # what the constructors raise
        raise MalformedError(" ".join(str(error).split())[:200]) from None


def _refuse(mark: Any, what: str) -> NoReturn:
    raise MalformedError(f"line {mark.line + 1}: {what}" if mark is not None else what)


def _events(text: str) -> Iterator[Any]:
    yield from yaml.parse(text, Loader=_Loader)


class _Frame:
    """An open mapping or list: the nodes in it so far, and a mapping's keys."""

    def __init__(self, event: Any) -> None:
        self.anchor, self.nodes, self.children = event.anchor, 1, 0
        self.keys: set[str] | None = set() if isinstance(event, yaml.MappingStartEvent) else None


def _check_events(text: str) -> None:
    """Raises MalformedError. Reads the document as a stream, hence without recursion and without building."""
    frames: list[_Frame] = []
    sizes: dict[str, int] = {}  # anchor -> nodes below it, aliases followed
    documents = expanded = count = 0
    for event in _events(text):
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            _refuse(event.start_mark, "a second document begins")
        if isinstance(event, yaml.CollectionEndEvent):
            frame = frames.pop()
            if frame.anchor:
                sizes[frame.anchor] = frame.nodes
            if frames:
                frames[-1].nodes += frame.nodes
            continue
        if not hasattr(event, "anchor"):  # no node: the begin or end of the stream or document
            continue
        count += 1
        if count > MAX_NODES:
            _refuse(event.start_mark, f"it has more than {MAX_NODES} values")
        if frames:
            _check_place(frames[-1], event)
        if isinstance(event, yaml.CollectionStartEvent):
            frames.append(_Frame(event))
            if len(frames) > MAX_DEPTH:
                _refuse(event.start_mark, f"it is nested more than {MAX_DEPTH} levels deep")
        nodes = 0 if isinstance(event, yaml.CollectionStartEvent) else 1
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                _refuse(event.start_mark, f"the alias *{event.anchor} names nothing before it, or itself")
            nodes = sizes[event.anchor]
            expanded += nodes
            if expanded > MAX_EXPANSION:
                _refuse(event.start_mark, f"its aliases add more than {MAX_EXPANSION} values")
        elif event.tag not in _TAGS:
            _refuse(event.start_mark, f"the tag {event.tag[:80]!r} is none that is read here")
        elif isinstance(event, yaml.ScalarEvent):
            _check_scalar(event)
            if event.anchor:
                sizes[event.anchor] = 1
        if frames:
            frames[-1].nodes += nodes


def _check_place(frame: _Frame, event: Any) -> None:
    """A mapping's key must be a scalar, and appear once."""
    frame.children += 1
    if frame.keys is None or frame.children % 2 == 0:
        return
    if not isinstance(event, yaml.ScalarEvent):
        _refuse(event.start_mark, "the key is no text; quote it")
    key = event.value if _tag(event) != _MERGE else "<< "
    if key in frame.keys:
        _refuse(event.start_mark, f"the key {event.value[:80]!r} appears twice")
    frame.keys.add(key)


def _check_scalar(event: Any) -> None:
    if len(event.value) > MAX_NUMBER and _tag(event) in (f"{_PREFIX}int", f"{_PREFIX}float"):
        _refuse(event.start_mark, f"a number has more than {MAX_NUMBER} characters")


def _tag(event: Any) -> str:
    """The type of a scalar as the loader resolves it."""
    if event.tag not in (None, "!"):
        return str(event.tag)
    return str(_RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit))


def parse_json(text: str | bytes, *, depth: int = MAX_JSON_DEPTH, ours: bool = True) -> Any:
    """The content of a JSON text, at most ``depth`` levels deep. ours: a format of this project, hence no key
    twice, no NaN, no infinity. Raises MalformedError."""
    try:
        raw = text.encode("utf-8") if isinstance(text, str) else text
        plain = raw.decode("utf-8")
    except UnicodeError:
        raise MalformedError("it is not UTF-8") from None
    if _depth(raw) > depth:
        raise MalformedError(f"it is nested more than {depth} levels deep")
    hooks: dict[str, Any] = {}
    if ours:
        hooks = {"object_pairs_hook": _unique, "parse_constant": _finite, "parse_float": _finite}
    try:
        content = json.loads(plain, **hooks)
        if _SURROGATE.search(plain):
            json.dumps(content, ensure_ascii=False).encode("utf-8")
    except MalformedError:
        raise
    except UnicodeError:
        raise MalformedError("it holds half a character (a lone surrogate)") from None
    except json.JSONDecodeError as error:
        raise MalformedError(f"line {error.lineno}: {error.msg}") from None
    except ValueError as error:  # an integer of thousands of digits
        raise MalformedError(str(error)[:200]) from None
    return content


def _depth(raw: bytes) -> int:
    """Levels of lists and objects, an upper bound for what is no JSON."""
    if raw.count(b"[") + raw.count(b"{") < 2:
        return 1
    brackets = re.sub(rb"[^\[\]{}]+", b"", _STRING.sub(b"", raw))
    return max(accumulate((1 if one in b"[{" else -1 for one in brackets), initial=0))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise MalformedError(f"the key {twice[:80]!r} appears twice")
    return content


def _finite(text: str) -> float:
    number = float(text.replace("Infinity", "inf"))
    if not math.isfinite(number):
        raise MalformedError(f"{text[:80]} is no finite number")
    return number
