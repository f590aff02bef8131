"""The ledger of erasure requests, requests.yaml: read, checked against the vocabulary, added to without
touching what is there.

A request that cannot be asked for is a fault with its id and field; the others stay usable, so that one
typing error does not hold up everybody's requests. A file that is no YAML, or says a key twice, is refused as
a whole: half of it might be missing."""

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

from fade.config import Params, PromotionPolicy, Section
from fade.data.vocabulary import Vocabulary
from fade.errors import FadeError, LedgerError, nearest
from fade.utils.hashing import fingerprint

STAGE = "requests"
Name = Annotated[str, Field(min_length=1, max_length=200)]
HEADER = (
    "# Erasure requests, see docs/schedule.md. Never delete one: say why in its `withdrawn`.\nrequests:\n"
)


class Request(Section):
    """One wish: a concept shall be erased."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,59}$")]
    """Given once, for ever."""
    concept: Name
    reason: Name
    requested_by: Name
    date: dt.date
    """When it was asked for."""
    due: dt.date | None = None
    replacement: str = ""
    """The concept that takes its place, for methods that have one."""
    method: str = ""
    """NAME or NAME/VARIANT; empty: that of params.yaml."""
    set_: tuple[str, ...] = Field(default=(), alias="set")
    """Overrides of params.yaml, as of `fade run --set`."""
    thresholds: dict[str, float] = Field(default_factory=dict)
    """Keys of `gate` in params.yaml that this request asks more, or less, of."""
    withdrawn: str = ""
    """Why it is no longer wanted; it is kept, and not worked off."""

    @model_validator(mode="after")
    def _thresholds(self) -> Request:
        self.gate(PromotionPolicy())
        if self.due is not None and self.due < self.date:
            raise ValueError("due lies before date")
        return self

    def gate(self, usual: PromotionPolicy) -> PromotionPolicy:
        """The gate of this request."""
        known = usual.model_dump()
        for key, value in self.thresholds.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
                raise ValueError(f"thresholds: {key!r} is none of the gate's; did you mean {near[0]!r}?")
            if not 0 <= value <= 100:
                raise ValueError(f"thresholds: {key} = {value:g} is no percentage")
        return PromotionPolicy(**{**known, **self.thresholds})

    def overrides(self) -> list[str]:
        """What it sets, in the form that a run's lineage records."""
        from fade.run.resolve_params import method_overrides

        chosen = method_overrides(self.method or None)
        if self.replacement:
            chosen.append(f"method.replacement={self.replacement}")
        return [*chosen, *self.set_]

    def terms(self) -> dict[str, Any]:
        """What decides the erasure. Thresholds only judge it, and who asked, why and until when changes
        nothing about it."""
        return {
            "concept": self.concept,
            "replacement": self.replacement,
            "method": self.method,
            "set": list(self.set_),
        }

    def fingerprint(self) -> str:
        """Hash of the terms: what was done under others was another request."""
        return fingerprint(self.terms())

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file, without what was left out."""
        return {
            k: v
            for k, v in self.model_dump(mode="json", by_alias=True, exclude_none=True).items()
            if v not in ("", [], {})
        }


@dataclass(frozen=True)
class Fault:
    """Why a request cannot be asked for."""

    id: str
    field: str
    text: str

    def __str__(self) -> str:
        return (
            f"request {self.id}, {self.field}: {self.text}"
            if self.field
            else f"request {self.id}: {self.text}"
        )


@dataclass(frozen=True)
class Ledger:
    """The file: its requests, in order, and what is wrong with the others."""

    path: Path
    requests: tuple[Request, ...] = ()
    faults: tuple[Fault, ...] = ()

    def checked(self) -> Ledger:
        """Raises LedgerError that says every fault."""
        if self.faults:
            what = f"{self.path}: {'; '.join(map(str, self.faults))}."
            raise LedgerError(what, stage=STAGE, action=f"correct {self.path}; nothing of it was lost.")
        return self

    def get(self, wanted: str) -> Request:
        """Raises LedgerError for an id that is not there, with the nearest."""
        for one in self.requests:
            if one.id == wanted:
                return one
        if found := [fault for fault in self.faults if fault.id == wanted]:
            raise LedgerError(f"{self.path}: {found[0]}.", stage=STAGE, action="correct it.")
        known = [one.id for one in self.requests]
        near = nearest(wanted, known)
        action = f"did you mean {', '.join(map(repr, near))}?" if near else "see `fade requests` for the ids."
        raise LedgerError(f"{self.path} has no request {wanted!r}.", stage=STAGE, action=action)


Resolve = Callable[[Sequence[str]], Params]
"""Overrides -> the parameters under them; raises what is wrong with them."""


def load_ledger(path: Path, vocabulary: Vocabulary | None = None, resolve: Resolve | None = None) -> Ledger:
    """Read the ledger. Without a vocabulary concepts are not looked up, without ``resolve`` method and
    overrides are not tried.

    Raises LedgerError for a file that is missing, unreadable, no ledger, or says a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        action = (
            "run in the project's folder, correct schedule.requests, or begin one with `fade requests add`."
        )
        raise LedgerError(f"{path} does not exist.", stage=STAGE, action=action) from None
    except (OSError, UnicodeDecodeError) as error:
        raise LedgerError(f"{path} cannot be read: {error}.", stage=STAGE, action="mend the file.") from None
    return parse_ledger(text, path, vocabulary, resolve)


def parse_ledger(
    text: str, path: Path, vocabulary: Vocabulary | None = None, resolve: Resolve | None = None
) -> Ledger:
    """As `load_ledger`, of a text."""
    try:
        raw = yaml.load(text, Loader=_Strict)  # noqa: S506 (a SafeLoader that refuses a key said twice)
    except yaml.YAMLError as error:
        raise LedgerError(
            f"{path} cannot be read: {' '.join(str(error).split())}.", stage=STAGE, action="mend the file."
        ) from None
    if raw is None:
        return Ledger(path)
    if (
        not isinstance(raw, dict)
        or set(raw) - {"requests"}
        or not isinstance(raw.get("requests"), list | None)
    ):
        other = sorted(map(str, set(raw) - {"requests"})) if isinstance(raw, dict) else []
        what = f"{path}: unknown key {other[0]!r}." if other else f"{path} holds no list of requests."
        raise LedgerError(what, stage=STAGE, action="write one list below `requests:`, see docs/schedule.md.")
    found: list[Request] = []
    faults: list[Fault] = []
    entries = raw.get("requests") or []
    ids = Counter(str(one.get("id")) for one in entries if isinstance(one, dict))
    for place, one in enumerate(entries, start=1):
        label = (
            str(one["id"]) if isinstance(one, dict) and one.get("id") not in (None, "") else f"number {place}"
        )
        wrong = list(_faults(one, label, ids, vocabulary, resolve))
        faults += wrong
        if not wrong:
            found.append(Request.model_validate(one))
    return Ledger(path, tuple(found), tuple(faults))


def _faults(
    one: Any, label: str, ids: Mapping[str, int], vocabulary: Vocabulary | None, resolve: Resolve | None
) -> Iterator[Fault]:
    if not isinstance(one, dict):
        yield Fault(label, "", "it is no mapping of fields")
        return
    fields = {field.alias or name for name, field in Request.model_fields.items()}
    for key in one:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)
            yield Fault(label, str(key), f"unknown field; did you mean {near[0]!r}?")
            return
    if ids[str(one.get("id"))] > 1:
        yield Fault(label, "id", "two requests have it")
        return
    try:
        request = Request.model_validate(one)
    except ValidationError as error:
        for each in error.errors():
            text = each["msg"].removeprefix("Value error, ")
            shown = "" if each["type"] == "missing" or not each["loc"] else f"{each.get('input')!r}: "
            yield Fault(label, ".".join(map(str, each["loc"])), shown + text[:1].lower() + text[1:])
        return
    for field in ("concept", "replacement"):
        name = getattr(request, field)
        if name and vocabulary is not None and name not in vocabulary.names:
            near = nearest(name, vocabulary.names)
            offer = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
            yield Fault(label, field, f"unknown concept {name!r}{offer}")
    if request.replacement == request.concept:
        yield Fault(label, "replacement", f"{request.concept!r} cannot be replaced by itself")
    for item in request.set_:
        section = item.split(".")[0].split("=")[0]
        if {section, f"{section}_"} & Params.NO_PART_OF_A_RUN:
            yield Fault(label, "set", f"{item!r} is no setting of a run")
            return
    if resolve is not None:
        try:
            resolve(request.overrides())
        except FadeError as error:
            yield Fault(
                label,
                "method" if "method" in error.what and not request.set_ else "set",
                f"{error.what} {error.action}".strip(),
            )


def added(text: str, request: Request) -> str:
    """The ledger's text with one more request; every other line stays as it is.

    Raises LedgerError when that cannot be done without rewriting what is there, or the id is taken.
    """
    path = Path("requests.yaml")
    before = parse_ledger(text, path)
    if any(request.id == known for known in _ids(text)):
        raise LedgerError(
            f"there is a request {request.id!r} already.",
            stage=STAGE,
            action="choose another --id; an id is given once.",
        )
    new = text if text.strip() else HEADER
    root = yaml.compose(new, Loader=yaml.SafeLoader)
    value = (
        next((v for k, v in root.value if k.value == "requests"), None)
        if isinstance(root, yaml.MappingNode)
        else None
    )
    if value is None:  # nothing but comments
        new = f"{new.rstrip()}\nrequests:\n"
        end, indent = len(new), 2
    elif isinstance(value, yaml.SequenceNode) and value.value and not value.flow_style:
        end, indent = _after(new, value.end_mark.index), value.start_mark.column
    elif isinstance(value, yaml.SequenceNode) and value.value:
        raise LedgerError(
            "the list is written in brackets.",
            stage=STAGE,
            action="write one request below the other, each after a `-`.",
        )
    else:  # `requests:` or `requests: []`
        kept = new[: value.start_mark.index].rstrip()
        new = kept + new[value.end_mark.index :]
        end, indent = new.find("\n", len(kept)) + 1 or len(new), 2
    fields = {
        key: getattr(request, key) if key in ("date", "due") else value
        for key, value in request.to_json().items()
    }
    item = yaml.safe_dump([fields], sort_keys=False, allow_unicode=True, width=120)
    head = new[:end] if new[:end].endswith("\n") or not new[:end] else f"{new[:end]}\n"
    out = head + "".join(f"{' ' * indent}{line}\n" for line in item.splitlines()) + new[end:]
    after = parse_ledger(out, path)
    if after.requests != (*before.requests, request) or after.faults != before.faults:
        raise LedgerError(
            "it cannot be added without changing other requests.",
            stage=STAGE,
            action="add it with an editor.",
        )
    return out


def _ids(text: str) -> list[str]:
    raw = yaml.load(text, Loader=_Strict) or {}  # noqa: S506 (see parse_ledger)
    return [str(one.get("id")) for one in raw.get("requests") or [] if isinstance(one, dict)]


def _after(text: str, end: int) -> int:
    """Where the list's last line ends: its end mark lies behind the blank lines and comments that follow
    it."""
    lines = text[:end].splitlines(keepends=True)
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return sum(map(len, lines))


class _Strict(yaml.SafeLoader):
    """YAML's own rule, which PyYAML does not hold: a key is said once. A bad merge of two ledgers would lose
    one of them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {name!r} is said twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)
