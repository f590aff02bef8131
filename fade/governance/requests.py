"""Erasure requests of requests.yaml: read, and checked against the vocabulary and the methods.

An invalid request is a fault with its id and field, and the others stay usable. A file that is no YAML, or
has a key twice, is refused as a whole: half of it may be missing."""

from __future__ import annotations

import datetime as dt
import difflib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator

from fade.config import Affects, Params, PromotionPolicy, Section
from fade.config.texts import FreeText, GivenText, Name, OptionalName, Person, ShortText
from fade.data.vocabulary import Vocabulary
from fade.errors import FadeError, RequestFileError, nearest
from fade.governance.log_names import is_log
from fade.utils.hashing import fingerprint
from fade.utils.parsing import MalformedError, parse_yaml
from fade.utils.reading import TEXT, read_text

STAGE = "requests"
SHOWN = 200
"""Characters of a wrong value or field in a fault."""


def _iso_date(value: object) -> object:
    """A number, also one in quotes, would be taken for seconds since 1970; a time has a zone of its own."""
    is_date = isinstance(value, dt.date) and not isinstance(value, dt.datetime)
    if not is_date and not (isinstance(value, str) and _DATE.fullmatch(value)):
        raise ValueError("input should be a valid date, YYYY-MM-DD")
    return value


def _no_log(value: str) -> str:
    if is_log(value):
        raise ValueError("it ends as the name of a log does; give another id")
    return value


_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
Day = Annotated[dt.date, BeforeValidator(_iso_date)]


class Request(Section):
    """One request to erase a concept."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$"), AfterValidator(_no_log)]
    """Given once, for ever."""
    concept: Name
    reason: GivenText
    requested_by: Person
    date: Day
    due: Day | None = None
    replacement: OptionalName = ""
    """The concept that takes its place, for methods that have one."""
    method: ShortText = ""
    """NAME or NAME/VARIANT; empty: that of params.yaml."""
    set_: tuple[str, ...] = Field(default=(), alias="set")
    """Overrides of params.yaml, as of `fade run --set`."""
    thresholds: dict[str, Annotated[float, Field(strict=True)]] = Field(default_factory=dict)
    """Keys of `gate` in params.yaml with this request's own values, percent."""
    withdrawn: FreeText = ""
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
                near = _closest(key, known)
                raise ValueError(f"thresholds: {key!r} is none of the gate's; did you mean {near!r}?")
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
        return self.model_dump(
            mode="json", by_alias=True, include={"concept", "replacement", "method", "set_"}
        )

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
    """Read requests.yaml. Without a vocabulary concepts, without ``resolve`` settings are not checked. Raises
    RequestFileError for a file that is missing, unreadable, without a list, or with a key twice."""
    return parse_requests(read_requests(path), path, vocabulary, resolve)


def read_requests(path: Path) -> str:
    """The text of requests.yaml. Raises RequestFileError for a file that is missing or cannot be read."""
    try:
        return read_text(path, TEXT)
    except FileNotFoundError:
        where = "run in the project's folder, correct schedule.requests"
        action = f"{where}, or begin one with `fade requests add`."
        raise RequestFileError(f"{path} does not exist.", stage=STAGE, action=action) from None
    except OSError as error:
        what = f"{path} cannot be read: {error}."
        raise RequestFileError(what, stage=STAGE, action="mend the file.") from None


def parse_requests(
    text: str, path: Path, vocabulary: Vocabulary | None = None, resolve: Resolve | None = None
) -> ErasureRequests:
    """As `load_requests`, of a text."""
    entries = _entries(text, path)
    ids = Counter(str(entry["id"]) for entry in entries if isinstance(entry, dict) and "id" in entry)
    spellings: dict[str, list[str]] = {}
    for one in ids:
        spellings.setdefault(one.casefold(), []).append(one)
    requests: list[Request] = []
    faults: list[RequestFault] = []
    for place, entry in enumerate(entries, start=1):
        identity = entry.get("id") if isinstance(entry, dict) else None
        label = f"number {place}" if identity in (None, "") else str(identity)[:SHOWN]
        try:
            request = Request.model_validate(entry)
            wrong = list(_invalid_values(request, vocabulary, resolve))
        except ValidationError as error:
            wrong = list(_invalid_fields(error))
        if ids[str(identity)] > 1:
            wrong = [("id", "two requests have it")]
        elif twins := [one for one in spellings.get(str(identity).casefold(), ()) if one != str(identity)]:
            wrong = [("id", f"{twins[0]!r} differs from it only by the case of letters")]
        faults += [RequestFault(label, *one) for one in wrong]
        requests += [] if wrong else [request]
    return ErasureRequests(path, tuple(requests), tuple(faults))


def same_id(a: str, b: str) -> bool:
    """Whether two ids are the same but for the case of letters: stores and file systems mix such up."""
    return a.casefold() == b.casefold()


def _entries(text: str, path: Path) -> list[Any]:
    try:
        raw = parse_yaml(text)
    except MalformedError as error:
        what = f"{path} cannot be read: {error}."
        raise RequestFileError(what, stage=STAGE, action="mend the file.") from None
    content = {} if raw is None else raw
    unknown = sorted(map(str, set(content) - {"requests"})) if isinstance(content, dict) else []
    if unknown or not isinstance(content, dict) or not isinstance(content.get("requests"), list | None):
        what = (
            f"{path}: unknown key {unknown[0][:SHOWN]!r}."
            if unknown
            else f"{path} holds no list of requests."
        )
        action = "write one list below `requests:`, see docs/schedule.md."
        raise RequestFileError(what, stage=STAGE, action=action)
    return content.get("requests") or []


def _invalid_fields(error: ValidationError) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it)."""
    names = [field.alias or name for name, field in Request.model_fields.items()]
    for each in error.errors():
        field = ".".join(map(str, each["loc"]))[:SHOWN]
        text = each["msg"].removeprefix("Value error, ")
        text = text[:1].lower() + text[1:]
        match each["type"]:
            case "extra_forbidden" | "invalid_key":
                text = f"unknown field; did you mean {_closest(field, names)!r}?"
            case "model_type":
                text = "it is no mapping of fields"
            case kind if kind != "missing" and field:
                text = f"{repr(each.get('input'))[:SHOWN]}: {text}"
        yield field, text


def _invalid_values(
    request: Request, vocabulary: Vocabulary | None, resolve: Resolve | None
) -> Iterator[tuple[str, str]]:
    """As `_invalid_fields`: what only the vocabulary and the methods know."""
    for field, name in (("concept", request.concept), ("replacement", request.replacement)):
        if name and vocabulary is not None and name not in vocabulary.names:
            near = nearest(name, vocabulary.names)
            offer = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
            yield field, f"unknown concept {name!r}{offer}"
    if request.replacement == request.concept:
        yield "replacement", f"{request.concept!r} cannot be replaced by itself"
    from fade.run.resolve_params import override_path

    try:
        for item in request.set_:
            section = Params.known_keys().get(override_path(item)[0])
            if section and not Affects.of(section).reaches("attacks"):
                yield "set", f"{item[:SHOWN]!r} is no setting of a run"
                return
        if resolve is not None:
            resolve(request.overrides())
    except FadeError as error:
        field = "method" if "method" in error.what and not request.set_ else "set"
        yield field, f"{error.what} {error.action}".strip()


def _closest(word: str, names: Iterable[str]) -> str:
    return difflib.get_close_matches(word[:SHOWN], list(names), n=1, cutoff=0.0)[0]
