"""Does the judge recognise what the original model draws? What was never there cannot be seen to go, or to
stay. Ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fade.errors import EvaluationError
from fade.evaluation.accuracy import mean_accuracy

ACTION = (
    "name a judge that knows the base's pictures (data.judge), or a base that draws the concept (data.base); "
    "evaluate.base_known sets the least share."
)


def require_known(concepts: Sequence[str], hits: Mapping[str, np.ndarray], least: float, stage: str) -> None:
    """Raises EvaluationError when fewer than ``least`` percent of the original's pictures of the concepts are
    recognised; hits: concept -> (n,) bool. No concept is no fault."""
    share = mean_accuracy([hits[name] for name in concepts])
    if share < least:  # False for the NaN of no concept
        named = ", ".join(concepts)
        what = f"the judge recognises {share:.1f} % of the original model's pictures of {named}"
        raise EvaluationError(f"{what}; at least {least:.3g} % are needed.", stage=stage, action=ACTION)
