"""The process that waits for this one: a training must not go on when nobody waits for it."""

from __future__ import annotations

import os

from fade.errors import TrainingError

PARENT = "FADE_PARENT_PID"
"""Environment variable: the id of the process that waits for this one."""
_launcher = os.getppid()


def raise_if_orphaned() -> None:
    """Raises TrainingError when the waiting process, or the launcher between the two, is gone (killed -9,
    say)."""
    pid = int(os.environ.get(PARENT, "0"))
    if pid and (os.getppid() != _launcher or not _alive(pid)):
        what = "the process that started this training is gone."
        raise TrainingError(what, stage="train", action="start it again: it resumes.")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
