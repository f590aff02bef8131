"""Self-tests compared: what a model put out for a fixed input, here and where a version was made.

The tolerance, measured on the miniature as the greatest difference of a number: other threads, kernels and
layouts of memory move it by 1e-5; half precision by 0.01 (float16, and TF32 rounds as it does) to 0.08
(bfloat16); a weight tensor that is 5 % off by 0.08 to 0.23, another scale of the autoencoder by 0.06, another
noise schedule by 0.47, another kind of prediction by 2.7."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fade.config import SelfTestConfig
from fade.errors import BaseModelError
from fade.utils.notes import note

STAGE = "self-test"
VERSION = 1
"""Of the fixed inputs: self-tests of another version are not compared."""
HALF_PRECISION = 4.0
"""Times the tolerance where one of two was in half precision."""
FULL = "float32"
SelfTest = Mapping[str, Any]
"""``version``, ``sha256`` of the model, ``dtype``, and ``numbers``: part -> list of floats."""


def make_self_test(numbers: Mapping[str, list[float]], sha256: str, dtype: str) -> SelfTest:
    """A self-test for a record. dtype: of the weights, ``float32``."""
    return {"version": VERSION, "sha256": sha256, "dtype": dtype, "numbers": dict(numbers)}


def deviation(a: SelfTest, b: SelfTest, tolerance: object) -> str:
    """The part of which two self-tests of one model differ most, and by how much; empty where they agree, and
    where they cannot be compared: other weights, or another version of the test. What no self-test can look
    like, in a record that somebody changed, is a difference."""
    try:
        if any(a[key] != b[key] for key in ("version", "sha256")):
            return ""
        limit = float(tolerance) * (1.0 if a["dtype"] == b["dtype"] == FULL else HALF_PRECISION)  # type: ignore[arg-type]
        parts = sorted(a["numbers"].keys() & b["numbers"].keys())
        largest = {part: _difference(a["numbers"][part], b["numbers"][part]) for part in parts}
    except (KeyError, TypeError, AttributeError, ValueError):
        return "record, which cannot be read"
    worst = max(largest, key=lambda part: largest[part], default="")
    if not worst or largest[worst] <= limit:
        return ""
    return f"{worst} by {largest[worst]:.2g} ({limit:.2g} is allowed)"


def require_same(
    before: SelfTest, now: SelfTest, config: SelfTestConfig, *, what: str, where: str, undo: str = ""
) -> None:
    """Raises BaseModelError when a model puts out something else ``now`` than in the record ``before``; with
    ``self_test.difference: warn`` that is a note.

    what: the model; where: the record's place; undo: an action for a record that is wrong."""
    if not (differs := deviation(before, now, config.tolerance)):
        return
    what = f"{what} puts out something else than {where}: the self-test differs in its {differs}."
    if config.difference == "warn":
        note(f"{STAGE}: {what}")
        return
    action = "install the libraries and use the precision of the record"
    way = "--set self_test.difference=warn goes on, but what is made then is no evidence"
    action = f"{', '.join(one for one in (action, undo) if one)}; {way}."
    raise BaseModelError(what, stage=STAGE, action=action)


def _difference(a: list[float], b: list[float]) -> float:
    """The greatest difference of two lists: of values in units of their root mean square, then, relative, of
    that root mean square."""
    if len(a) != len(b) or not a:
        return float("inf")
    size = abs(a[-1] - b[-1]) / max(abs(a[-1]), abs(b[-1]), 1e-12)
    found = [size, *(abs(x - y) for x, y in zip(a[:-1], b[:-1], strict=True))]
    return max(found) if all(map(math.isfinite, found)) else float("inf")  # max() would pass a NaN over
