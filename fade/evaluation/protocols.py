"""Published evaluations as frozen values: every setting with its unit and where it is from, what is needed,
and which flow of this product runs them.

A protocol is data. What a user changes of it (targets, method, a setting) counts as *ours* from then on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from fade.erasers.base import get_eraser, variants_of
from fade.errors import UnknownNameError, UsageError
from fade.evaluation.published import Setting, Source
from fade.utils.parsing import parse_yaml

STAGE = "protocol"
Flow = Literal["erase", "robustness", "nudity"]
"""`fade run` for each target; the same with indirect prompts and attacks; `fade nudity`."""
OTHERS = "A_others"
"""Accuracy on all judged concepts but the target: of neighbours, held-out ones and the rest together."""
CONFIGURED = "configured"
"""The part of a protocol whose targets the user names: on the data that params.yaml names."""
_METHOD = ("method.", "mesh.", "train.")


@dataclass(frozen=True)
class Part:
    """Targets that share a data set and a judge."""

    name: str
    title: str
    targets: tuple[str, ...]
    """As far as they are known."""
    count: int
    """How many the protocol has."""
    source: Source
    """Of the targets."""
    settings: tuple[Setting, ...] = ()
    """Where its pictures and its judge lie, unless the user names others."""

    @property
    def unknown(self) -> int:
        """Targets of the protocol that are not known here."""
        return max(0, self.count - len(self.targets))


@dataclass(frozen=True)
class Protocol:
    """An evaluation as somebody published it."""

    name: str
    title: str
    citation: str
    flow: Flow
    settings: tuple[Setting, ...]
    parts: tuple[Part, ...]
    base: str
    """The base model's name."""
    judge: str
    """What judges the pictures."""
    metrics: tuple[str, ...]
    """Columns of the table: registered metrics, and OTHERS."""
    gaps: tuple[str, ...] = ()
    """What of it is not published, or not measured here."""
    results: tuple[str, ...] = ()
    """Published numbers, to hold the table against."""

    def value(self, name: str) -> Any:
        """The value of a setting by its name; None where there is none."""
        return next((one.value for one in self.settings if one.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """All of it, with the source of each setting and of the targets."""
        parts = [
            {**asdict(part), "targets": list(part.targets), "settings": _json(part.settings)}
            for part in self.parts
        ]
        plain = {"name": self.name, "title": self.title, "citation": self.citation, "flow": self.flow}
        lists = {"metrics": list(self.metrics), "gaps": list(self.gaps), "results": list(self.results)}
        needs = {"base": self.base, "judge": self.judge}
        return {**plain, **needs, "settings": _json(self.settings), "parts": parts, **lists}


_PROTOCOLS: dict[str, Protocol] = {}


def registered_protocols() -> dict[str, Protocol]:
    """Name -> protocol, of those that were registered so far; all: `fade.evaluation.published_protocols`."""
    return dict(_PROTOCOLS)


def register_protocol(protocol: Protocol) -> Protocol:
    """Add a protocol. Raises UsageError when its name is taken, or a setting stands twice."""
    keys = [one.key or one.name for one in protocol.settings]
    twice = next((key for key in keys if keys.count(key) > 1), "")
    if protocol.name in _PROTOCOLS or twice:
        what = f"has {twice} twice" if twice else "is registered twice"
        raise UsageError(f"protocol {protocol.name} {what}.", stage=STAGE, action="correct its declaration.")
    _PROTOCOLS[protocol.name] = protocol
    return protocol


def narrowed(protocol: Protocol, *, part: str = "", targets: Sequence[str] = ()) -> Protocol:
    """One part alone, and other targets, which are *ours* unless their part has them.

    A target is a NAME, of that part or without one of the data that params.yaml names, or a PART:NAME. Parts
    without a target are left out then. Raises UnknownNameError for a part, UsageError where there are no
    targets to name."""
    names = [one.name for one in protocol.parts]
    if targets and not names:
        what = f"protocol {protocol.name} erases nothing: it counts what an erased model draws."
        raise UsageError(what, stage=STAGE, action="leave out --targets, and name the model with --model.")
    if part and part not in names:
        error = UnknownNameError("part", part, names, stage=STAGE)
        error.action = f"choose one of {', '.join(names)}." if names else "leave out --part."
        raise error
    kept = tuple(one for one in protocol.parts if part in ("", one.name))
    if not targets:
        return replace(protocol, parts=kept)
    chosen: dict[str, list[str]] = {}
    for text in targets:
        head, colon, name = text.partition(":")
        inside = bool(colon) and head.strip() in names
        chosen.setdefault(head.strip() if inside else part, []).append((name if inside else text).strip())
    own = Part(CONFIGURED, "the data that params.yaml names", (), 0, "ours")
    parts = [(one.name, one) for one in protocol.parts] + [("", own)]
    return replace(
        protocol, parts=tuple(_with_targets(one, chosen[key]) for key, one in parts if key in chosen)
    )


def _with_targets(part: Part, targets: Sequence[str]) -> Part:
    named = tuple(dict.fromkeys(targets))
    source: Source = part.source if set(named) <= set(part.targets) else "ours"
    return replace(part, targets=named, count=len(named), source=source)


def with_method(protocol: Protocol, text: str) -> Protocol:
    """Another method (NAME or NAME/VARIANT) under its authors' own settings. Raises UnknownNameError."""
    name, slash, variant = text.partition("/")
    method = get_eraser(name, variant if slash else variants_of(name)[0])
    kept = tuple(one for one in protocol.settings if not one.key.startswith(_METHOD))
    named = {"method.name": method.name, "method.variant": method.variant}
    ours = [Setting(key, value, "ours", key=key) for key, value in named.items()]
    return replace(protocol, settings=(*ours, *recipe_settings(method.recipe, "ours"), *kept))


def recipe_settings(recipe: Iterable[str], source: Source, note: str = "") -> list[Setting]:
    """A method's own settings (``section.key=value``), all from one source."""
    pairs = (item.partition("=") for item in recipe)
    return [Setting(key, parse_yaml(text), source, note=note, key=key) for key, _, text in pairs]


def amended(protocol: Protocol, changes: Mapping[str, Any]) -> Protocol:
    """With settings that the user changed, by key of params.yaml; each is *ours*, and names what it stands in
    place of."""
    own = {one.key: one for part in protocol.parts for one in part.settings}
    known = {**own, **{one.key: one for one in protocol.settings if one.key}}
    changed = {}
    for key, value in changes.items():
        before = known.get(key)
        if before is not None and before.value != value:
            note = f"in place of {before.text} ({before.source})"
            changed[key] = replace(before, value=value, source="ours", note=note)
        elif before is None:
            changed[key] = Setting(key, value, "ours", key=key)
    settings = tuple(changed.pop(one.key, one) for one in protocol.settings)
    # what stood in a part's own settings wins over them, and is listed with the others
    parts = tuple(
        replace(part, settings=tuple(one for one in part.settings if one.key not in changes))
        for part in protocol.parts
    )
    return replace(protocol, settings=(*settings, *changed.values()), parts=parts)


def overrides_of(protocol: Protocol, part: Part | None = None) -> list[str]:
    """What a protocol, and one of its parts, sets in params.yaml."""
    settings = (*protocol.settings, *(part.settings if part else ()))
    return [f"{one.key}={_yaml(one.value)}" for one in settings if one.key]


def column(name: str) -> tuple[str, str, int]:
    """Title, unit and digits of a column of the table. Raises UnknownNameError."""
    from fade.evaluation.metrics import metric

    if name == OTHERS:
        return "all others", "%", 1
    one = metric(name)
    return one.title, one.unit, one.digits


def measured_of(protocol: Protocol, record: Mapping[str, Any]) -> dict[str, float | None]:
    """The columns of a target from its record: ``numbers``, the evaluation's JSON, and the blocks of the
    attacks, where they were measured. None for what was not."""
    from fade.evaluation.metrics import at_path, metric

    out: dict[str, float | None] = {}
    for name in protocol.metrics:
        if name == OTHERS:
            out[name] = _others(record["numbers"])
            continue
        one = metric(name)
        out[name] = at_path(record, one.path or (f"numbers.{one.row.value}" if one.row else ""))
    return out


def _others(numbers: Mapping[str, Any]) -> float | None:
    """Mean over the groups beside the target, each by its number of pictures, in percent."""
    groups = {"adjacent": "A_adj", "heldout": "A_heldout", "rest": "A_rest"}
    pairs = [(numbers["metrics"][name], numbers["n"][group]) for group, name in groups.items()]
    known = [(value, n) for value, n in pairs if value is not None and n]
    return float(sum(value * n for value, n in known) / sum(n for _, n in known)) if known else None


def _json(settings: Iterable[Setting]) -> list[dict[str, Any]]:
    return [one.to_json() for one in settings]


def _yaml(value: Any) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else str(value) or '""'
