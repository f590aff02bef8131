"""The data checks as a run asks for them: of the process aside (`tasks.aside`), which has Great Expectations
imported by then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from fade.config import ChecksConfig, DataConfig
from tasks.aside import ask, packed
from tasks.data.validate import Checks


def look_ahead(data: DataConfig, checks: ChecksConfig, root: Path, names: Sequence[str] | None) -> None:
    """Have the data looked at before they are asked for, over there or not at all; nobody waits, and no fault
    is told."""
    ask("tasks.data.validate:look_ahead", **_given(data, checks, root, names))


def check_data(
    data: DataConfig,
    checks: ChecksConfig,
    *,
    out: Path,
    root: Path = Path(),
    names: Sequence[str] | None = None,
) -> Checks:
    """`tasks.data.validate.validate_data`, over there. Raises what it raises."""
    return _checks(
        ask("tasks.data.validate:data_as_json", **_given(data, checks, root, names), out=str(out))()
    )


def _given(data: DataConfig, checks: ChecksConfig, root: Path, names: Sequence[str] | None) -> dict[str, Any]:
    known = None if names is None else list(names)
    return {
        "data": data.model_dump(mode="json"),
        "checks": checks.model_dump(mode="json"),
        "root": str(root),
        "names": known,
    }


def check_mined(
    pictures: np.ndarray, concepts: Sequence[str], counts: Mapping[str, int], confidences: Mapping[str, float], finite: bool,
    checks: ChecksConfig, out: Path,
) -> Checks:  # fmt: skip
    """`tasks.data.validate.validate_mined`, over there. Raises what it raises."""
    given = {
        "concepts": list(concepts),
        "counts": dict(counts),
        "confidences": dict(confidences),
        "finite": finite,
    }
    said = ask(
        "tasks.data.validate:mined_as_json",
        pictures=packed(pictures),
        **given,
        checks=checks.model_dump(mode="json"),
        out=str(out),
    )
    return _checks(said())


def _checks(said: Mapping[str, Any]) -> Checks:
    return Checks(**{**said, "page": Path(said["page"])})


check_data_task = task(name="validate", cache_policy=NO_CACHE)(check_data)
