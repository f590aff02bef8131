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


def why_unknown(share: float, least: float, what: str) -> str:
    """Why pictures of the original model prove nothing, as a sentence without its dot: their accuracy
    ``share`` is below ``least``, percent; "" for one that is not, and for NaN."""
    if not share < least:
        return ""
    found = f"the judge recognises {share:.1f} % of the original model's pictures of {what}"
    return f"{found}; at least {least:.3g} % are needed"


def require_known(concepts: Sequence[str], hits: Mapping[str, np.ndarray], least: float, stage: str) -> None:
    """Raises EvaluationError when fewer than ``least`` percent of the original's pictures of the concepts are
    recognised; hits: concept -> (n,) bool. No concept is no fault."""
    share = mean_accuracy([hits[name] for name in concepts])
    if why := why_unknown(share, least, ", ".join(concepts)):
        raise EvaluationError(f"{why}.", stage=stage, action=ACTION)
