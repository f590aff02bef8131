"""Two processes that do the same at the same moment, again and again: for tests of what is written by more
than one process."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch

from fade.errors import FadeError
from fade.generation.cache import Cache
from fade.utils.files import write_json, write_whole
from tasks.data.verdicts import Verdict, VerdictStore
from tasks.registry.connection import connect
from tasks.registry.signing import make_keys
from tasks.requests.project import Project, add_request

Action = Callable[[Path, int, int], None]
PATIENCE = 60.0
"""Seconds that one process waits for the other."""


def whole_file(folder: Path, writer: int, turn: int) -> None:
    write_whole(folder / f"{turn}.txt", f"{writer}" * 200_000)


def json_file(folder: Path, writer: int, turn: int) -> None:
    write_json(folder / f"{turn}.json", {"writer": [writer] * 20_000})


def cache_entry(folder: Path, writer: int, turn: int) -> None:
    Cache(folder).put("pictures", f"{turn:032d}", {"x": torch.arange(50_000)})


def verdict(folder: Path, writer: int, turn: int) -> None:
    VerdictStore(folder).put(
        f"{turn}",
        Verdict([{"name": "a", "severity": "warning", "success": True, "error": ""}], {"writer": writer}),
    )


def keys(folder: Path, writer: int, turn: int) -> None:
    make_keys(folder, f"team-{turn}")


def database(folder: Path, writer: int, turn: int) -> None:
    connect(folder / f"runs-{turn}")


def request(folder: Path, writer: int, turn: int) -> None:
    """Each writer with a runs folder of its own, and the same request file."""
    fields = {"concept": "panda", "reason": "a test", "requested_by": "ann", "id": f"r-{turn}-{writer}"}
    add_request(Project(folder / "params.yaml", folder / f"runs-{writer}"), fields)


def same_request(folder: Path, writer: int, turn: int) -> None:
    fields = {"concept": "panda", "reason": f"by {writer}", "requested_by": "ann", "id": f"r-{turn}"}
    add_request(Project(folder / "params.yaml", folder / "runs"), fields)


class Pair:
    """Two processes, started once; each does what it is given at the same moment as the other."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._results: Any = context.Queue()
        self._tasks: list[Any] = [context.Queue() for _ in range(2)]
        self._barrier = context.Barrier(2)  # the processes open it by name, while it is alive
        self._writers = [
            context.Process(target=_write, args=(number, self._tasks[number], self._barrier, self._results))
            for number in range(2)
        ]
        for writer in self._writers:
            writer.start()

    def race(self, action: Action, folder: Path, turns: int) -> list[list[str]]:
        """Do ``action(folder, writer, turn)`` for each turn; returns what became of both writers in each:
        empty for a write that worked, or the error."""
        for tasks in self._tasks:
            tasks.put((action, folder, turns))
        rows = [["", ""] for _ in range(turns)]
        for _ in range(2 * turns):
            turn, number, result = self._results.get(timeout=PATIENCE)
            rows[turn][number] = result
        return rows

    def close(self) -> None:
        for tasks in self._tasks:
            tasks.put(None)
        for writer in self._writers:
            writer.join(PATIENCE)


def _write(number: int, tasks: Any, barrier: Barrier, results: Any) -> None:
    while (task := tasks.get()) is not None:
        action, folder, turns = task
        for turn in range(turns):
            barrier.wait(PATIENCE)
            try:
                action(folder, number, turn)
                result = ""
            except FadeError as error:
                result = str(error)
            except Exception as error:
                result = f"unexpected {type(error).__name__}: {error}"
            results.put((turn, number, result))
