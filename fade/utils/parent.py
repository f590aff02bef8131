"""The process that waits for this one: a training must not go on when nobody waits for it."""

from __future__ import annotations

import os
import threading
import time

import psutil

from fade.errors import TrainingError

PARENT = "FADE_PARENT_PID"
"""Environment variable: the id of the process that waits for this one."""
_launcher = os.getppid()


def raise_if_orphaned() -> None:
    """Raises TrainingError when the waiting process, or the launcher between the two, was killed."""
    pid = int(os.environ.get(PARENT, "0"))
    if pid and (os.getppid() != _launcher or not psutil.pid_exists(pid)):
        what = "the process that started this training is gone."
        raise TrainingError(what, stage="train", action="start it again: it resumes.")


def exit_with_parent() -> None:
    """In a worker process: end when the process that started it is gone, however it went."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
