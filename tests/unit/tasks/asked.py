"""What the tests of the process aside ask it for. It imports little, as that process does."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from fade.errors import DataError


def add(a: float, b: float) -> dict[str, Any]:
    sys.stdout.write("no answer may be garbled by it")
    sys.stdout.flush()
    return {"sum": a + b, "pid": os.getpid()}


def refuse(what: str) -> None:
    raise DataError(what, stage="validate", action="mend it.")


def fault() -> None:
    raise ZeroDivisionError("by zero")


def die() -> None:
    os._exit(3)


def pause(seconds: float) -> None:
    time.sleep(seconds)
