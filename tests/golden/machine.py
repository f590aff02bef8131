"""What of a machine decides the last bits of a computation, and how two recorded numbers are compared where
it differs."""

from __future__ import annotations

import json
import math
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
LIBRARIES = ("accelerate", "diffusers", "numpy", "peft", "torch", "transformers")


def facts(threads: int) -> dict[str, Any]:
    """Processor, instruction set, threads and libraries. MKL and oneDNN choose their kernels by the
    processor's model."""
    import torch

    return {
        "processor": _processor(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
        **{name: version(name) for name in LIBRARIES},
    }


def _processor() -> str:
    """Name, family, model, stepping and cache: a virtual machine's name alone may stand for several kinds."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    values: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        values.setdefault(key.strip(), value.strip())
    named = ("model name", "cpu family", "model", "stepping", "cache size")
    return ", ".join(values.get(key, "unknown") for key in named)


def read(name: str) -> Any:
    """The content of a golden file."""
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def write(name: str, content: Any) -> None:
    """A golden file: one line a value, a list of numbers on one line."""
    text = json.dumps(content, indent=1, ensure_ascii=False)
    text = re.sub(
        r"\[[-\d.,e\s]+\]",
        lambda numbers: re.sub(r"\s+", " ", numbers[0]).replace("[ ", "[").replace(" ]", "]"),
        text,
    )
    assert json.loads(text) == content
    (FOLDER / name).write_text(text + "\n", encoding="utf-8")


def differences(expected: Any, actual: Any, *, relative: float, absolute: float, at: str = "") -> list[str]:
    """Where two values of JSON differ: types, keys, lengths and texts exactly, numbers beyond both
    tolerances."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        if set(expected) != set(actual):
            return [f"{at}: keys {sorted(set(expected) ^ set(actual))} are on one side only"]
        pairs = [(f"{at}.{key}", expected[key], actual[key]) for key in expected]
    elif isinstance(expected, list) and isinstance(actual, list):
        if len(expected) != len(actual):
            return [f"{at}: {len(expected)} items, now {len(actual)}"]
        pairs = [(f"{at}[{i}]", one, two) for i, (one, two) in enumerate(zip(expected, actual, strict=True))]
    elif _is_number(expected) and _is_number(actual):
        near = math.isclose(expected, actual, rel_tol=relative, abs_tol=absolute) or (
            expected != expected and actual != actual
        )
        return [] if near else [f"{at}: {expected!r}, now {actual!r}"]
    else:
        return (
            []
            if expected == actual and type(expected) is type(actual)
            else [f"{at}: {expected!r}, now {actual!r}"]
        )
    return [
        line
        for name, one, two in pairs
        for line in differences(one, two, relative=relative, absolute=absolute, at=name.lstrip("."))
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
