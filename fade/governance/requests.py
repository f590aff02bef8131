"""Erasure requests of requests.yaml: read, and checked against the vocabulary and the methods.

An invalid request is a fault with its id and field, and the others stay usable: one typing error does not
delay everybody's requests. A file that is no YAML, or has a key twice, is refused as a whole: half of it may
be missing."""

from __future__ import annotations

import datetime as dt
import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError, model_validator

from fade.config import Affects, Params, PromotionPolicy, Section
from fade.data.vocabulary import Vocabulary
from fade.errors import FadeError, RequestFileError, nearest
from fade.utils.hashing import fingerprint

STAGE = "requests"
Name = Annotated[str, Field(min_length=1, max_length=200)]


class Request(Section):
    """One request to erase a concept."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]
    """Given once, for ever."""
    concept: Name
    reason: Name
    requested_by: Name
    date: dt.date
    due: dt.date | None = None
    replacement: str = ""
    """The concept that takes its place, for methods that have one."""
    method: str = ""
    """NAME or NAME/VARIANT; empty: that of params.yaml."""
    set_: tuple[str, ...] = Field(default=(), alias="set")
    """Overrides of params.yaml, as of `fade run --set`."""
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Keys of `gate` in params.yaml with this request's own values, percent."""
    withdrawn: str = ""
    """Why the request is withdrawn: it stays in the file, and is not processed."""

    @model_validator(mode="after")
    def _consistent(self) -> Request:
        self.gate(PromotionPolicy())
        if self.due is not None and self.due < self.date:
            raise ValueError("due lies before date")
        return self

    def gate(self, policy: PromotionPolicy) -> PromotionPolicy:
        """``policy`` with this request's thresholds. Raises ValueError: an unknown key, no percentage."""
        known = policy.model_dump()
        for key, value in self.thresholds.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
                raise ValueError(f"thresholds: {key!r} is none of the gate's; did you mean {near[0]!r}?")
            if not 0 <= value <= 100:
                raise ValueError(f"thresholds: {key} = {value:g} is no percentage")
        return PromotionPolicy(**{**known, **self.thresholds})

    def overrides(self) -> list[str]:
        """The request's settings as overrides of params.yaml, in the form that a run's lineage records."""
        from fade.run.resolve_params import method_overrides

        replacement = [f"method.replacement={self.replacement}"] if self.replacement else []
        return [*method_overrides(self.method or None), *replacement, *self.set_]

    def terms(self) -> dict[str, Any]:
        """The fields that decide the erasure; thresholds, reason, due date and names do not."""
        terms: dict[str, Any] = {"concept": self.concept, "replacement": self.replacement}
        return {**terms, "method": self.method, "set": list(self.set_)}

    def fingerprint(self) -> str:
        """Hash of `terms`: a request with other terms counts as another request."""
        return fingerprint(self.terms())

    def to_json(self) -> dict[str, Any]:
        """The fields as they stand in the file, without empty ones."""
        fields = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {key: value for key, value in fields.items() if value not in ("", [], {})}


@dataclass(frozen=True)
class RequestFault:
    """Why a request is invalid."""

    id: str
    field: str
    """Empty: the request as a whole."""
    text: str

    @property
    def detail(self) -> str:
        """``field: text``."""
        return f"{self.field}: {self.text}" if self.field else self.text

    def __str__(self) -> str:
        return f"request {self.id}{', ' if self.field else ': '}{self.detail}"


@dataclass(frozen=True)
class ErasureRequests:
    """The valid requests of the file ``path``, in order, and the faults of the others."""

    path: Path
    requests: tuple[Request, ...] = ()
    faults: tuple[RequestFault, ...] = ()

    @property
    def ids(self) -> set[str]:
        """The ids of all requests, invalid ones included."""
        return {request.id for request in self.requests} | {fault.id for fault in self.faults}

    def validated(self) -> ErasureRequests:
        """Raises RequestFileError that names every fault."""
        if self.faults:
            what = f"{self.path}: {'; '.join(map(str, self.faults))}."
            raise RequestFileError(what, stage=STAGE, action=f"correct {self.path}; nothing of it was lost.")
        return self

    def find(self, identity: str) -> Request | None:
        """The valid request with this id, or None."""
        return next((request for request in self.requests if request.id == identity), None)

    def get(self, identity: str) -> Request:
        """As `find`. Raises RequestFileError for an unknown id, with the nearest, or an invalid request."""
        if request := self.find(identity):
            return request
        if faults := [fault for fault in self.faults if fault.id == identity]:
            raise RequestFileError(f"{self.path}: {faults[0]}.", stage=STAGE, action="correct it.")
        near = nearest(identity, [request.id for request in self.requests])
        action = f"did you mean {', '.join(map(repr, near))}?" if near else "see `fade requests` for the ids."
        raise RequestFileError(f"{self.path} has no request {identity!r}.", stage=STAGE, action=action)


Resolve = Callable[[Sequence[str]], Params]
"""Overrides -> the parameters under them; raises FadeError for invalid ones."""


def load_requests(
    path: Path, vocabulary: Vocabulary | None = None, resolve: Resolve | None = None
) -> ErasureRequests:
    """Read requests.yaml. Without a vocabulary concepts, without ``resolve`` settings are not checked.

    Raises RequestFileError for a file that is missing, unreadable, without a list, or with a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        start = "begin one with `fade requests add`."
        action = f"run in the project's folder, correct schedule.requests, or {start}"
        raise RequestFileError(f"{path} does not exist.", stage=STAGE, action=action) from None
    except (OSError, UnicodeDecodeError) as error:
        what = f"{path} cannot be read: {error}."
        raise RequestFileError(what, stage=STAGE, action="mend the file.") from None
    return parse_requests(text, path, vocabulary, resolve)


def parse_requests(
    text: str, path: Path, vocabulary: Vocabulary | None = None, resolve: Resolve | None = None
) -> ErasureRequests:
    """As `load_requests`, of a text."""
    entries = request_entries(text, path)
    ids = Counter(str(entry.get("id")) for entry in entries if isinstance(entry, dict))
    requests: list[Request] = []
    faults: list[RequestFault] = []
    for place, entry in enumerate(entries, start=1):
        named = isinstance(entry, dict) and entry.get("id") not in (None, "")
        label = str(entry["id"]) if named else f"number {place}"
        wrong = list(_faults(entry, label, ids, vocabulary, resolve))
        faults += wrong
        if not wrong:
            requests.append(Request.model_validate(entry))
    return ErasureRequests(path, tuple(requests), tuple(faults))


def request_entries(text: str, path: Path) -> list[Any]:
    """The entries of the list below ``requests:``, not yet validated. Raises RequestFileError."""
    try:
        raw = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 (a SafeLoader that refuses a key twice)
    except yaml.YAMLError as error:
        what = f"{path} cannot be read: {' '.join(str(error).split())}."
        raise RequestFileError(what, stage=STAGE, action="mend the file.") from None
    if raw is None:
        return []
    unknown = sorted(map(str, set(raw) - {"requests"})) if isinstance(raw, dict) else []
    if unknown or not isinstance(raw, dict) or not isinstance(raw.get("requests"), list | None):
        what = f"{path}: unknown key {unknown[0]!r}." if unknown else f"{path} holds no list of requests."
        action = "write one list below `requests:`, see docs/schedule.md."
        raise RequestFileError(what, stage=STAGE, action=action)
    return raw.get("requests") or []


def _faults(
    entry: Any, label: str, ids: Mapping[str, int], vocabulary: Vocabulary | None, resolve: Resolve | None
) -> Iterator[RequestFault]:
    if not isinstance(entry, dict):
        yield RequestFault(label, "", "it is no mapping of fields")
        return
    fields = {field.alias or name for name, field in Request.model_fields.items()}
    if unknown := [key for key in entry if key not in fields]:
        near = difflib.get_close_matches(str(unknown[0]), fields, n=1, cutoff=0.0)
        yield RequestFault(label, str(unknown[0]), f"unknown field; did you mean {near[0]!r}?")
        return
    if ids[str(entry.get("id"))] > 1:
        yield RequestFault(label, "id", "two requests have it")
        return
    try:
        request = Request.model_validate(entry)
    except ValidationError as error:
        yield from _invalid_fields(error, label)
        return
    for field, name in (("concept", request.concept), ("replacement", request.replacement)):
        if name and vocabulary is not None and name not in vocabulary.names:
            near = nearest(name, vocabulary.names)
            offer = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
            yield RequestFault(label, field, f"unknown concept {name!r}{offer}")
    if request.replacement == request.concept:
        yield RequestFault(label, "replacement", f"{request.concept!r} cannot be replaced by itself")
    yield from _invalid_settings(request, label, resolve)


def _invalid_fields(error: ValidationError, label: str) -> Iterator[RequestFault]:
    for each in error.errors():
        text = each["msg"].removeprefix("Value error, ")
        value = "" if each["type"] == "missing" or not each["loc"] else f"{each.get('input')!r}: "
        yield RequestFault(label, ".".join(map(str, each["loc"])), value + text[:1].lower() + text[1:])


def _invalid_settings(request: Request, label: str, resolve: Resolve | None) -> Iterator[RequestFault]:
    for item in request.set_:
        section = Params.known_keys().get(item.split(".")[0].split("=")[0])
        if section and not Affects.of(section).reaches("attacks"):
            yield RequestFault(label, "set", f"{item!r} is no setting of a run")
            return
    try:
        if resolve is not None:
            resolve(request.overrides())
    except FadeError as error:
        field = "method" if "method" in error.what and not request.set_ else "set"
        yield RequestFault(label, field, f"{error.what} {error.action}".strip())


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a key that a mapping has twice, as YAML demands and PyYAML does not: after a bad merge one of
    the two would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in names:
                what = f"the key {name!r} is said twice"
                raise yaml.constructor.ConstructorError(None, None, what, key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep)
