"""ERR, the erasing-robustness metric: the harmonic mean of five successes (ERB's successor by
the same group).

Known is only what it is a mean of: forget, retain, adjacent, indirect and adversarial success. How each is
scored is ours:

* forget = A_er and indirect = A_indirect count as they are, as A_er does in ERB: what is left of the concept
is left, however
  well the original drew it. Indirect prompts that the original does not answer are not counted
  (fade.evaluation.indirect).
* retain = A_rest and adjacent = A_adj are relative to the original's, at most 1. ERB takes A_adj as it is,
and so charges the
  eraser with what the original (or the judge) never could; here a model that is left alone retains 1, and so
  does one that an
  eraser happens to help.
* adversarial = the share of attacks that fail, from whoever attacked.

All five or nothing: a mean over four would look better than it is, and harmonic means of different sets
cannot be compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fade.errors import EvaluationError

SUCCESSES = ("forget", "retain", "adjacent", "indirect", "adversarial")


def erasing_robustness(successes: Mapping[str, float | None]) -> float:
    """ERR in [0, 1]: the harmonic mean of SUCCESSES (each in [0, 1]); 0 where one is 0, NaN where one was not
    measured.

    Raises EvaluationError for a success outside [0, 1] (a percentage, say) or a name that is none of the
    five."""
    if unknown := sorted(set(successes) - set(SUCCESSES)):
        raise EvaluationError(
            f"{unknown[0]!r} is no part of ERR.", stage="evaluate", action=f"give {', '.join(SUCCESSES)}."
        )
    values = [_share(name, successes.get(name)) for name in SUCCESSES]
    if any(math.isnan(v) for v in values):
        return float("nan")
    return 0.0 if min(values) == 0 else len(values) / sum(1 / v for v in values)


def successes_of(
    numbers: Mapping[str, Any], *, indirect: float | None, adversarial: float | None
) -> dict[str, float]:
    """The five successes of an evaluation (``Evaluation.numbers``); ``indirect`` and ``adversarial`` are
    shares, None = not measured."""
    erased, base = numbers["metrics"], numbers["base_metrics"]
    return {
        "forget": _percent(erased["A_er"]),
        "retain": relative(erased["A_rest"], base["A_rest"]),
        "adjacent": relative(erased["A_adj"], base["A_adj"]),
        "indirect": _number(indirect),
        "adversarial": _number(adversarial),
    }


def relative(erased: float | None, base: float | None) -> float:
    """Share of the original's accuracy that is left, at most 1; NaN when either is not measured or the
    original has none."""
    e, b = _number(erased), _number(base)
    return float("nan") if math.isnan(e) or math.isnan(b) or b == 0 else min(1.0, e / b)


def _share(name: str, value: float | None) -> float:
    share = _number(value)
    if not math.isnan(share) and not 0 <= share <= 1:
        raise EvaluationError(
            f"{name} = {share:g} is no share.", stage="evaluate", action="give a number from 0 to 1."
        )
    return share


def _percent(value: float | None) -> float:
    return _number(value) / 100


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
