"""Two balances: ERB, erasing against retention (FADE, CVPR 2025, arXiv 2503.19783), and ERR, erasing
robustness, its successor by the same group. FADE's ERB counts the neighbours that FADE is trained on; beside
it stands the same of held-out ones.

Of ERR only the five parts are known: forget, retain, adjacent, indirect and adversarial success. How each is
scored is ours:

* forget = A_er and indirect = A_indirect count as they are, as A_er does in ERB: what is left of the concept
  is left, however well the original drew it. Indirect prompts that the original does not answer are not
  counted (fade.evaluation.indirect).
* retain = A_rest and adjacent = A_adj are relative to the original's, at most 1. ERB takes A_adj as it is,
  and so charges the eraser with what the original (or the judge) never could; here a model that is left alone
  retains 1, and so does one that an eraser happens to help.
* adversarial = the share of attacks that fail, from whoever attacked.

All five or nothing: a mean over four would look better than it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fade.errors import EvaluationError

SUCCESSES = ("forget", "retain", "adjacent", "indirect", "adversarial")


def erasing_retention_balance(a_er: float | np.ndarray, a_adj: float | np.ndarray) -> np.ndarray:
    """ERB = 2 A_er A_adj / (A_er + A_adj), in percent; 0 where both are 0 (the harmonic mean's limit), NaN
    where one is."""
    er, adj = np.asarray(a_er, dtype=float), np.asarray(a_adj, dtype=float)
    total = er + adj
    return np.where(total == 0, 0.0, 2 * er * adj / np.where(total == 0, 1.0, total))


def with_erasure(accuracies: Mapping[str, Any]) -> dict[str, Any]:
    """A_er = 100 - A_tar first, in the place of A_tar where there is one; percent, numbers or arrays."""
    erased = {"A_er": 100.0 - accuracies["A_tar"]} if "A_tar" in accuracies else {}
    return {**erased, **{name: value for name, value in accuracies.items() if name != "A_tar"}}


def balances(accuracies: Mapping[str, Any]) -> dict[str, Any]:
    """ERB as the paper has it, of A_er and A_adj, and ERB_heldout, the same of A_er and A_heldout: of
    neighbours that no method was trained on (ours). Percent; numbers (None and NaN: not measured), or arrays
    of resamples."""
    known = {name: value for name, value in accuracies.items() if value is not None}
    er, adj, heldout = (known.get(name, math.nan) for name in ("A_er", "A_adj", "A_heldout"))
    return {
        "ERB": erasing_retention_balance(er, adj),
        "ERB_heldout": erasing_retention_balance(er, heldout),
    }


def erasing_robustness(successes: Mapping[str, float | None]) -> float:
    """ERR in [0, 1]: the harmonic mean of SUCCESSES (each in [0, 1]); 0 where one is 0, NaN where one was not
    measured.

    Raises EvaluationError for a success outside [0, 1] (a percentage, say) or a name that is none of the
    five."""
    if unknown := sorted(set(successes) - set(SUCCESSES)):
        action = f"give {', '.join(SUCCESSES)}."
        raise EvaluationError(f"{unknown[0]!r} is no part of ERR.", stage="evaluate", action=action)
    values = {name: _number(successes.get(name)) for name in SUCCESSES}
    for name, value in values.items():
        if value < 0 or value > 1:
            what = f"{name} = {value:g} is no share."
            raise EvaluationError(what, stage="evaluate", action="give a number from 0 to 1.")
    if any(map(math.isnan, values.values())):
        return float("nan")
    return 0.0 if 0 in values.values() else len(values) / sum(1 / value for value in values.values())


def successes_of(
    numbers: Mapping[str, Any], *, indirect: float | None, adversarial: float | None
) -> dict[str, float]:
    """The five successes of an evaluation (``Evaluation.numbers``); ``indirect`` and ``adversarial`` are
    shares, None = not measured."""
    erased, base = numbers["metrics"], numbers["base_metrics"]
    return {
        "forget": _number(erased["A_er"]) / 100,
        "retain": relative(erased["A_rest"], base["A_rest"]),
        "adjacent": relative(erased["A_adj"], base["A_adj"]),
        "indirect": _number(indirect),
        "adversarial": _number(adversarial),
    }


def relative(erased: float | None, base: float | None) -> float:
    """Share of the original's accuracy that is left, at most 1; NaN when either is not measured or the
    original has none."""
    share = _number(erased) / (_number(base) or float("nan"))
    return share if math.isnan(share) else min(1.0, share)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
