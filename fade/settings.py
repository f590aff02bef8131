"""The parameters of one run: params.yaml, then what defines the chosen method, then what the user set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fade.concepts import Vocabulary
from fade.config import Params, load_params
from fade.errors import ConfigError
from fade.methods import get_method, variants_of


def resolve(path: Path = Path("params.yaml"), overrides: Sequence[str] = ()) -> Params:
    """The parameters under the chosen method's own settings; an override of the same key wins.

    Raises ConfigError, and UnknownNameError for a method or variant that is not registered.
    """
    params = load_params(path, overrides)
    method = get_method(params.method.name, params.method.variant)
    if method.settings:
        params = load_params(path, [*method.settings, *overrides])
    label = f"{method.name}/{method.variant}"
    if params.data.erase == "styles" and params.evaluate.indirect_images:
        action = "set evaluate.indirect_images to 0."
        raise ConfigError("indirect prompts are written for concepts; a style has none.", stage="config", action=action)
    if params.method.anchors != "none" and not method.takes_anchors:
        why = "has its neighbours already" if method.needs_neighbours else "takes none"
        raise ConfigError(f"method.anchors is set, but {label} {why}.", stage="config", action="leave method.anchors at none.")
    if params.method.replacement and not method.takes_replacement:
        what = f"method.replacement is set, but {label} has no alternative to map to."
        raise ConfigError(what, stage="config", action="leave it empty, or use --method surgical.")
    return params


def check_target(params: Params, target: str, vocabulary: Vocabulary) -> None:
    """Raises UnknownNameError for a target or replacement outside the vocabulary, ConfigError when the two are the same."""
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
    name, slash, variant = text.partition("/")
    return [f"method.name={name}", f"method.variant={variant if slash else variants_of(name)[0]}"]
