"""The parameters of one run: params.yaml, then what defines the chosen method, then what the user set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fade.config import Params, load_params
from fade.data.vocabulary import Vocabulary
from fade.erasers.base import Method, get_method, variants_of
from fade.errors import ConfigError

METHODS_OWN = ("mesh", "train", "method")
"""Sections of which a method may set keys itself."""


def resolve(path: Path = Path("params.yaml"), overrides: Sequence[str] = ()) -> Params:
    """The parameters under the chosen method's own settings, those under params.yaml's ``settings`` for it,
    those under ``overrides``.

    Raises ConfigError, and UnknownNameError for a method or variant that is not registered.
    """
    params = load_params(path, overrides)
    method = get_method(params.method.name, params.method.variant)
    own = [*method.settings, *_settings_for(method, params.settings)]
    if own:
        params = load_params(path, [*own, *overrides])
    label = f"{method.name}/{method.variant}"
    if params.data.erase == "styles" and params.evaluate.indirect_images:
        action = "set evaluate.indirect_images to 0."
        raise ConfigError(
            "indirect prompts are written for concepts; a style has none.", stage="config", action=action
        )
    if params.method.anchors != "none" and not method.takes_anchors:
        why = "has its neighbours already" if method.needs_neighbours else "takes none"
        raise ConfigError(
            f"method.anchors is set, but {label} {why}.",
            stage="config",
            action="leave method.anchors at none.",
        )
    if params.method.replacement and not method.takes_replacement:
        what = f"method.replacement is set, but {label} has no alternative to map to."
        raise ConfigError(what, stage="config", action="leave it empty, or use --method surgical.")
    return params


def _settings_for(method: Method, settings: Mapping[str, Sequence[str]]) -> list[str]:
    """What params.yaml's ``settings`` hold for a method, by its name, then by its variant.

    Raises UnknownNameError for a name that is no method's, ConfigError for a key that a method has no say in.
    """
    for named, items in settings.items():
        get_method(*_named(named))
        for item in items:
            section, _, key = item.partition("=")[0].strip().partition(".")
            if section not in METHODS_OWN or key in ("name", "variant"):
                action = "keep to mesh, train, and method without its name and variant."
                raise ConfigError(
                    f"settings.{named}: {item!r} is no setting of a method.", stage="config", action=action
                )
    return [
        item for named in (method.name, f"{method.name}/{method.variant}") for item in settings.get(named, ())
    ]


def ignored_settings(path: Path = Path("params.yaml"), overrides: Sequence[str] = ()) -> list[str]:
    """What params.yaml says otherwise than shipped, and the chosen method's own settings outdo: a sentence
    each."""
    there, used = load_params(path), resolve(path, overrides)
    said, shipped, heard = _flat(there), _flat(Params()), _flat(used)
    method = get_method(used.method.name, used.method.variant)
    asked = {item.partition("=")[0].strip() for item in (*_settings_for(method, there.settings), *overrides)}
    own = [key for key in (item.partition("=")[0] for item in method.settings) if key not in asked]
    return [
        f"{path}: {key} = {said[key]} is not heard: {method.name}/{method.variant} has its own, {heard[key]}. "
        f"Next: write {key}={said[key]} under settings: {method.name}."
        for key in own
        if said[key] not in (shipped[key], heard[key])
    ]


def _flat(params: Params) -> dict[str, Any]:
    """Values of ``mesh``, ``train`` and ``method`` by their dotted names."""
    sections = params.model_dump(mode="json", include=set(METHODS_OWN))
    return {f"{name}.{key}": value for name, section in sections.items() for key, value in section.items()}


def check_target(params: Params, target: str, vocabulary: Vocabulary) -> None:
    """Raises UnknownNameError for a target or replacement outside the vocabulary, ConfigError when the two
    are the same."""
    vocabulary.index(target)
    if not params.method.replacement:
        return
    vocabulary.index(params.method.replacement, stage="method.replacement")
    if params.method.replacement == target:
        what = f"{target!r} cannot be replaced by itself."
        raise ConfigError(what, stage="config", action="name another concept with --replacement, or none.")


def method_overrides(text: str | None) -> list[str]:
    """``--method``: NAME (its first variant) or NAME/VARIANT, as overrides."""
    if text is None:
        return []
    name, variant = _named(text)
    return [f"method.name={name}", f"method.variant={variant}"]


def _named(text: str) -> tuple[str, str]:
    """NAME (its first variant) or NAME/VARIANT. Raises UnknownNameError for a name that is no method's, where
    the variant is left out."""
    name, slash, variant = text.partition("/")
    return name, variant if slash else variants_of(name)[0]
