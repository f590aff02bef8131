"""A second process beside a run's own, for what is slow to import or to draw: Great Expectations' checks,
charts.

A run's start is imports, one after the other under Python's lock, while the other cores wait. What is asked
of this process is a function's name and arguments, and what comes back its result, as lines of JSON on two
pipes. Where there is no such process the function is called here: the same result, later. It ends with its
pipe, so a run that is killed -9 leaves none behind.

    python -m tasks.aside MODULE...     (the modules that it shall have imported by the time it is asked)
"""

from __future__ import annotations

import atexit
import base64
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from fade.errors import FadeError, revive
from fade.importing import importing, lazily, without

UNUSED = ("boto3", "botocore", "google", "psycopg2", "sqlalchemy")
"""Great Expectations would import them for data in databases and clouds, which it is never given here: half a
second."""
SELDOM = ("scipy.stats", "altair")
"""What its renderers and some expectations use that no check here asks for: a second."""
BEHIND = 5
"""How much nicer than the run it is: while all import, on few cores, it is the run that is waited for."""
Wait = Callable[[], Any]
"""Waits for a result, and returns or raises it."""


class Aside:
    """The process. Raises OSError when it cannot be started."""

    def __init__(self, *modules: str) -> None:
        line, pipe = [sys.executable, "-m", "tasks.aside", *modules], subprocess.PIPE
        self._process = subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
        self._asked = 0

    def ask(self, function: str, **arguments: Any) -> Wait:
        """Have ``function`` ("module:name") called with ``arguments``, plain JSON.

        Raises OSError or EOFError, now or when it is waited for, when the process is gone.
        """
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None and answers is not None
        self._asked += 1
        number = self._asked
        questions.write(
            json.dumps({"number": number, "function": function, "arguments": arguments}).encode() + b"\n"
        )
        questions.flush()

        def wait() -> Any:
            while line := answers.readline():
                answer = json.loads(line)
                if answer["number"] == number:  # an earlier one's: whoever asked did not wait
                    return _result(answer)
            raise EOFError

        return wait

    def stop(self) -> None:
        """At once: whatever it does is of no use to anybody then."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):  # what it was not given yet
                if pipe:
                    pipe.close()


def _result(answer: dict[str, Any]) -> Any:
    """Raises what the function raised: a FadeError, or anything else as RuntimeError with the other process's
    traceback."""
    if error := answer.get("error"):
        raise revive(**error)
    if fault := answer.get("fault"):
        raise RuntimeError(fault)
    return answer["result"]


_aside: Aside | None = None


def begin(*modules: str) -> None:
    """Start it, unless it runs, or cannot be started; it ends with this process."""
    global _aside
    if _aside is None:
        with contextlib.suppress(OSError):
            _aside = Aside(*modules)
            atexit.register(end)


def end() -> None:
    """Stop it, if it was begun."""
    global _aside
    if _aside is not None:
        atexit.unregister(end)
        _aside.stop()
        _aside = None


def ask(function: str, **arguments: Any) -> Wait:
    """Have it begin with ``function`` ("module:name"); where it was not begun, or is gone, waiting for the
    result calls it here."""

    def here() -> Any:
        return _named(function)(**arguments)

    if _aside is None:
        return here
    try:
        wait = _aside.ask(function, **arguments)
    except OSError:
        end()
        return here

    def there() -> Any:
        try:
            return wait()
        except (OSError, EOFError):  # killed for its memory, say
            end()
            return here()

    return there


def packed(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON."""
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "base64": base64.b64encode(array.tobytes()).decode("ascii"),
    }


def unpacked(said: dict[str, Any]) -> np.ndarray:
    """The array of `packed`, read-only."""
    return np.frombuffer(base64.b64decode(said["base64"]), said["dtype"]).reshape(said["shape"])


def _named(function: str) -> Callable[..., Any]:
    module, _, name = function.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found


def _answer(line: bytes) -> dict[str, Any]:
    asked = json.loads(line)
    out = {"number": asked["number"]}
    try:
        return {**out, "result": _named(asked["function"])(**asked["arguments"])}
    except FadeError as error:
        return {
            **out,
            "error": {
                "kind": type(error).__name__,
                "what": error.what,
                "stage": error.stage,
                "action": error.action,
            },
        }
    except Exception:
        return {**out, "fault": traceback.format_exc()}


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there are no more questions, or nobody to answer."""
    with contextlib.suppress(BrokenPipeError):
        for line in questions:
            answers.write(json.dumps(_answer(line)).encode() + b"\n")
            answers.flush()


def main(modules: list[str]) -> None:
    """Import, then answer what stdin asks on stdout, where nothing else may write."""
    # A terminal sends Ctrl-C to the whole group: the run decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(BEHIND)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with importing(), without(*UNUSED), lazily(*SELDOM):
        for name in modules:
            with contextlib.suppress(Exception):  # it fails again, with its message, where it is needed
                importlib.import_module(name)
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main(sys.argv[1:])
    os._exit(0)  # nothing is left to take apart
