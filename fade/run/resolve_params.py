"""The parameters of one run: params.yaml, then what defines the chosen eraser, then what the user set."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fade.config import Params, Section
from fade.data.vocabulary import Vocabulary
from fade.erasers.base import Eraser, get_eraser, variants_of
from fade.errors import ConfigError
from fade.utils.parsing import MalformedError, parse_yaml
from fade.utils.reading import SETTINGS, read_text

ERASER_SECTIONS = ("mesh", "train", "method")
"""Sections of which an eraser may set keys itself."""
MAX_PARTS = 8
"""Sections and key of an override; params.yaml has three at most."""
SHOWN = 200
"""Characters of a wrong value or key in an error."""
_EXPONENT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")  # YAML 1.1 reads 3e-3 as text


def load_params(path: Path = Path("params.yaml"), overrides: Sequence[str] = ()) -> Params:
    """Read params.yaml and apply ``section.key=value`` overrides (values are YAML).

    Raises ConfigError for a missing or malformed file, an unknown key (its nearest valid name is offered), a
    wrong type or a value out of range."""
    return _load(path, _read(path), overrides)


def _load(path: Path, text: str, overrides: Sequence[str]) -> Params:
    raw = _parsed(path, text)
    for item in overrides:
        override(raw, item)
    return parse_params(raw, str(path))


def read_params(path: Path) -> dict[str, Any]:
    """The content of params.yaml as it stands there, unchecked. Raises ConfigError for a missing, foreign or
    malformed file."""
    return _parsed(path, _read(path))


def _read(path: Path) -> str:
    try:
        return read_text(path, SETTINGS)
    except FileNotFoundError:
        action = "run in the project's folder, or name the file with --params."
        raise _error(f"{path} does not exist.", action) from None
    except OSError as error:
        raise _error(f"{path} cannot be read: {error}.", "mend the file.") from None


def _parsed(path: Path, text: str) -> dict[str, Any]:
    try:
        raw = parse_yaml(text)
    except MalformedError as error:
        raise _error(f"{path} cannot be read: {error}.", "mend the file.") from None
    if raw is not None and not isinstance(raw, dict):
        raise _error(f"{path} holds no mapping.", "start from the shipped params.yaml.")
    return raw or {}


def _completed(raw: Mapping[str, Any], default: Section) -> dict[str, Any]:
    """``raw`` with the required keys that a section in it lacks, as the default has them: a project's file,
    or one override, may name some keys of a training's section."""
    out = dict(raw)
    for name, field in type(default).model_fields.items():
        key, value = field.alias or name, getattr(default, name)
        if isinstance(value, Section) and isinstance(out.get(key), Mapping):
            stated = value.model_dump(mode="json", by_alias=True)
            needed = {one for one, inner in type(value).model_fields.items() if inner.is_required()}
            filled = {one: stated[one] for one in needed if one not in out[key]}
            out[key] = {**filled, **_completed(out[key], value)}
    return out


def parse_params(raw: Mapping[str, Any], origin: str = "params") -> Params:
    """Validate a mapping. Raises ConfigError that names the first bad key, why, and the nearest name."""
    _known_keys(raw, Params, (), origin)
    try:
        params = Params.model_validate(_completed(raw, Params()))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])[:SHOWN] or "(top)"
        reason = first["msg"].removeprefix("Value error, ")
        raise _error(
            f"{origin}: {key} = {_shown(first.get('input'))}: {reason}.", f"correct {key}."
        ) from None
    for key, value in _leaves(params.model_dump(by_alias=True)):
        if isinstance(value, float) and not math.isfinite(value):  # no job, record or hash can hold it
            raise _error(f"{origin}: {key} = {value}: it is not finite.", f"give {key} a number.")
        if "\0" in str(value):
            raise _error(f"{origin}: {key} = {str(value)!r} holds a NUL character.", f"correct {key}.")
    return params


def _leaves(value: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Every value at any depth that is no mapping or sequence, by its dotted name."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{at}.{key}" if at else str(key))
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _leaves(inner, at)
    else:
        yield at, value


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _error(what: str, action: str) -> ConfigError:
    return ConfigError(what, stage="config", action=action)


def override_path(item: str) -> tuple[str, ...]:
    """The sections and the key that an override ``section.key=value`` sets, without blanks around them.
    Raises ConfigError for any other text.

    Every rule about what may be set goes by this path: it is where the value goes."""
    key, sep, _ = item.partition("=")
    parts = tuple(part.strip() for part in key.split("."))
    if not sep or not all(parts) or len(parts) > MAX_PARTS:
        raise _error(f"{_shown(item)} is no section.key=value.", "write --set train.steps=200.")
    return parts


def override(raw: dict[str, Any], item: str) -> None:
    parts, text = override_path(item), item.partition("=")[2]
    key = ".".join(parts)[:SHOWN]
    try:
        value = parse_yaml(text)
    except MalformedError as error:
        what = f"the value of {key} cannot be read: {_shown(text)}: {error}."
        raise _error(what, "quote it.") from None
    if isinstance(value, str) and len(value) < SHOWN and _EXPONENT.fullmatch(value):
        value = float(value)
    node = raw
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise _error(f"{part} of {key} is no section.", "see params.yaml for the sections.")
    node[parts[-1]] = value


def _known_keys(raw: Any, model: type[Section], at: tuple[str, ...], origin: str) -> None:
    if not isinstance(raw, Mapping):
        raise _error(f"{origin}: {'.'.join(at) or 'params'} must be a mapping.", "see params.yaml.")
    fields = model.known_keys()
    for key, value in raw.items():
        if key not in fields:
            name = str(key)[:SHOWN]
            near = difflib.get_close_matches(name, fields, n=1, cutoff=0.0)
            offer = f"did you mean {'.'.join((*at, *near))}?" if near else f"known keys: {', '.join(fields)}."
            raise _error(f"{origin}: unknown key {'.'.join((*at, name))}.", offer)
        inner = fields[key].annotation
        if isinstance(inner, type) and issubclass(inner, Section) and isinstance(value, Mapping):
            _known_keys(value, inner, (*at, str(key)), origin)


def resolve(path: Path = Path("params.yaml"), overrides: Sequence[str] = ()) -> Params:
    """The parameters under the chosen method's own settings, those under params.yaml's ``settings`` for it,
    those under ``overrides``.

    Raises ConfigError, and UnknownNameError for a method or variant that is not registered.
    """
    return _resolve(path, _read(path), tuple(overrides))


@lru_cache(maxsize=1024)
def _resolve(path: Path, text: str, overrides: tuple[str, ...]) -> Params:
    """A queue of hundreds of requests is resolved at every step of a pass, most of them alike."""
    params = _load(path, text, overrides)
    method = get_eraser(params.method.name, params.method.variant)
    own = [*method.settings, *_settings_for(method, params.settings)]
    if own:
        params = _load(path, text, [*own, *overrides])
    label = f"{method.name}/{method.variant}"
    if params.data.erase == "styles" and params.evaluate.indirect_images:
        what = "indirect prompts are written for concepts; a style has none."
        raise _error(what, "set evaluate.indirect_images to 0.")
    if params.method.anchors != "none" and not method.accepts_anchors:
        why = "has its neighbours already" if method.requires_neighbours else "takes none"
        raise _error(f"method.anchors is set, but {label} {why}.", "leave method.anchors at none.")
    if params.method.replacement and not method.accepts_replacement:
        what = f"method.replacement is set, but {label} has no alternative to map to."
        raise _error(what, "leave it empty, or use --method surgical.")
    return params


def _settings_for(method: Eraser, settings: Mapping[str, Sequence[str]]) -> list[str]:
    """What params.yaml's ``settings`` hold for a method, by its name, then by its variant.

    Raises UnknownNameError for a name that is no method's, ConfigError for a key that no method sets.
    """
    for named, items in settings.items():
        get_eraser(*_named(named))
        for item in items:
            section, *key = override_path(item)
            if section not in ERASER_SECTIONS or key in (["name"], ["variant"], []):
                what = f"settings.{named}: {item!r} is no setting of a method."
                raise _error(what, "keep to mesh, train, and method without its name and variant.")
    return [item for named in (method.name, *method.labels) for item in settings.get(named, ())]


def ignored_settings(path: Path = Path("params.yaml"), overrides: Sequence[str] = ()) -> list[str]:
    """A sentence for each change of params.yaml that the chosen method's own settings outdo."""
    stated, used = load_params(path), resolve(path, overrides)
    changed, shipped, effective = _flat(stated), _flat(Params()), _flat(used)
    method = get_eraser(used.method.name, used.method.variant)
    explicit = [*_settings_for(method, stated.settings), *overrides]
    overruled = {".".join(override_path(item)) for item in explicit}
    own = [key for item in method.settings if (key := ".".join(override_path(item))) not in overruled]
    return [
        f"{path}: {key} = {changed[key]} has no effect: {method.name}/{method.variant} has its own, "
        f"{effective[key]}. Next: write {key}={changed[key]} under settings: {method.name}."
        for key in own
        if changed[key] not in (shipped[key], effective[key])
    ]


def _flat(params: Params) -> dict[str, Any]:
    """Values of ``mesh``, ``train`` and ``method`` by their dotted names."""
    sections = params.model_dump(mode="json", include=set(ERASER_SECTIONS))
    return {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}


def check_target(params: Params, target: str, vocabulary: Vocabulary) -> None:
    """Raises UnknownNameError for a target or replacement outside the vocabulary, ConfigError if equal."""
    vocabulary.index(target)
    if not params.method.replacement:
        return
    vocabulary.index(params.method.replacement, stage="method.replacement")
    if params.method.replacement == target:
        what = f"{target!r} cannot be replaced by itself."
        raise _error(what, "name another concept with --replacement, or none.")


def method_overrides(text: str | None) -> list[str]:
    """``--method``: NAME (its first variant) or NAME/VARIANT, as overrides."""
    if text is None:
        return []
    name, variant = _named(text)
    return [f"method.name={name}", f"method.variant={variant}"]


def _named(text: str) -> tuple[str, str]:
    """NAME (its first variant) or NAME/VARIANT. Raises UnknownNameError for NAME that is no method."""
    name, slash, variant = text.partition("/")
    return name, variant if slash else variants_of(name)[0]
