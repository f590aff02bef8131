"""Settings by trial: the same number of tries for every method, on the tuning targets alone, chosen by one
rule.

The rule: the highest mean over the tuning targets of the harmonic mean of A_er, the neighbours kept and the
held-out ones kept (percent of the original, counted up to 100). It is 0 for a model that erases nothing or
keeps nothing. Of equals the first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fade.benchmark.metrics import derived
from fade.config import BenchConfig
from fade.data.vocabulary import slug
from fade.errors import ConfigError
from fade.utils.files import make_folder, write_whole
from fade.utils.parsing import MalformedError, parse_yaml
from fade.utils.reading import TEXT, read_text

HIGHEST = 100.0
"""Of a score: no other setting can be better."""
RULE = "highest mean of the harmonic mean of A_er, neighbours kept and held-out neighbours kept"
_ACTION = "make it again with `fade bench --tune`."


def score(record: Mapping[str, Any]) -> float:
    """The rule's number (0 to 100) of one cell."""
    shares = derived(record)["kept"]
    parts = [record["numbers"]["metrics"]["A_er"], shares["A_adj"], shares["A_heldout"]]
    known = [min(float(part), 100.0) for part in parts if part is not None]
    return len(known) / sum(1 / part for part in known) if known and min(known) > 0 else 0.0


def trial_of(overrides: Sequence[str], records: Mapping[str, Mapping[str, Any] | None]) -> dict[str, Any]:
    """One setting's outcome. records: target -> its cell, None where training failed (it scores 0)."""
    each = {target: round(score(record), 2) if record else 0.0 for target, record in records.items()}
    trained = [record for record in records.values() if record]
    return {
        "overrides": list(overrides),
        "score": _mean(each.values()),
        "erased": _mean(record["numbers"]["metrics"]["A_er"] for record in trained),
        "retained": _mean(derived(record)["retained"] for record in trained),
        "targets": each,
    }


def _mean(values: Iterable[float | None]) -> float | None:
    """Rounded, of those that are there; None of none."""
    known = [value for value in values if value is not None]
    return round(float(np.mean(known)), 2) if known else None


def choose(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The best of a method's trials, and all of them."""
    best = max(trials, key=lambda trial: float(trial["score"]))  # max takes the first of equals
    return {"overrides": list(best["overrides"]), "score": best["score"], "trials": list(trials)}


def edges(best: Mapping[str, Any]) -> dict[str, str]:
    """Knob -> value of the numbers in which the best of a method's trials (`choose`) lies at the edge of what
    was tried: beyond it nobody looked. Empty for the highest score that there is.

    Of the knobs that the best sets and that the trials vary. A value is inside when smaller and larger ones
    were tried; that of another trial with the same score counts as the best's."""
    score = float(best["score"])
    if score >= HIGHEST:
        return {}
    trials = [(_knobs(trial["overrides"]), float(trial["score"])) for trial in best["trials"]]
    out = {}
    for knob, value in _knobs(best["overrides"]).items():
        tried = [knobs.get(knob) for knobs, _ in trials]
        known = [one for one in tried if one is not None]
        inside = [one for one in known if min(known) < one < max(known)]
        as_good = [knobs.get(knob) for knobs, other in trials if other == score]
        if len(set(tried)) > 1 and not set(inside) & set(as_good):
            out[knob] = f"{value:g}"
    return out


def _knobs(overrides: Iterable[str]) -> dict[str, float]:
    """Knob -> value of the overrides that set a number."""
    out = {}
    for item in overrides:
        knob, _, text = item.partition("=")
        with suppress(ValueError):
            out[knob.strip()] = float(text)
    return out


def edge_sentence(methods: Mapping[str, Mapping[str, Any]]) -> str:
    """Names each method and knob whose best lies at the edge of its sweep; empty when there is none."""
    found = {label: edges(best) for label, best in methods.items()}
    named = [f"{label} ({knob}={value})" for label, own in found.items() for knob, value in own.items()]
    return f"At the edge of what was tried, so not settled: {', '.join(named)}." if named else ""


def write_tuned(
    path: Path, methods: Mapping[str, Mapping[str, Any]], bench: BenchConfig, made: Mapping[str, Any]
) -> Path:
    """Write what was chosen, beside earlier choices for other methods of the same targets, seed and data."""
    facts = {"rule": RULE, "targets": list(bench.tuning), "seed": bench.seeds[0]}
    facts["data_md5"] = made["data_md5"]
    old = _load(path) if path.is_file() else {}
    same = all(old.get(key) == value for key, value in facts.items())
    earlier = old.get("methods", {}) if same else {}
    content = {**facts, "commit": made["commit"], "methods": {**earlier, **methods}}
    make_folder(path.parent)
    text = yaml.safe_dump(content, sort_keys=False, width=140, allow_unicode=True)
    return write_whole(path, text, stage="bench")


def read_tuned(path: Path, targets: Sequence[str], data_md5: str) -> dict[str, dict[str, Any]]:
    """Condition -> what was chosen for it; empty when nothing was tuned yet.

    Raises ConfigError for a file that is none, when it was tuned on one of ``targets``, which are to be
    reported, and when it was tuned on other data than those of ``data_md5``."""
    if not path.is_file():
        return {}
    content = _load(path)
    try:
        both = {slug(name) for name in content["targets"]} & {slug(name) for name in targets}
        chosen = {
            str(label): {**best, "overrides": [str(item) for item in best["overrides"]]}
            for label, best in content["methods"].items()
        }
    except (AttributeError, KeyError, TypeError):
        raise ConfigError(f"{path} holds no tuned settings.", stage="bench", action=_ACTION) from None
    if both:
        what = f"{path} was tuned on {', '.join(sorted(both))}, which would be reported."
        raise ConfigError(what, stage="bench", action="report other targets, or tune on others.")
    if (tuned_on := content.get("data_md5")) != data_md5:
        what = f"{path} was tuned on the data {tuned_on}, not on {data_md5}."
        action = "tune anew (`fade bench --tune`), or name the world that has its data (--world)."
        raise ConfigError(what, stage="bench", action=action)
    return chosen


def _load(path: Path) -> dict[str, Any]:
    try:
        content = parse_yaml(read_text(path, TEXT))
    except (OSError, MalformedError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", stage="bench", action=_ACTION) from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no tuned settings.", stage="bench", action=_ACTION)
    return content
