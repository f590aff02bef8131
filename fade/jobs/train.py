"""The training of one adapter as a job: by one process, or by several with batches of their own (DDP)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from fade.errors import CacheError, FadeError, TrainingError
from fade.jobs.base import ERROR, JOB, LOG, Job, OnProgress, worker_device
from fade.training.settings import ADAPTER, CHECKPOINTS, DONE, HISTORY, TrainingSettings
from fade.utils.files import read_json, storage_error
from fade.utils.hashing import sha256_of

if TYPE_CHECKING:
    from fade.models.base import DiffusionModel


class TrainJob(TrainingSettings, Job):
    """`fade.training.settings.TrainingSettings` in a folder, where checkpoints let it resume."""

    KIND: ClassVar[str] = "train"
    STAGE: ClassVar[str] = "train"
    FAILURE: ClassVar[type[FadeError]] = TrainingError
    OUT_OF_MEMORY: ClassVar[str] = "lower model.memory_gb, or train.batch_target and train.batch_neighbours."
    RESUME: ClassVar[str] = "running it again resumes."

    @property
    def world_size(self) -> int:
        return self.train.processes

    def run(self, rank: int, world: int, on_progress: OnProgress, *, device: str, **loaded: Any) -> None:
        """Train from the newest checkpoint on; rank 0 alone reports. Raises what
        `fade.training.loop.train` raises."""
        from fade.training.loop import train

        base: DiffusionModel = loaded.get("base") or self._load_base(device)
        train(self, base, on_progress=lambda now: on_progress(now["step"], now["steps"], _note(now)))

    def _load_base(self, device: str) -> DiffusionModel:
        """Raises as `fade.models.memory.load_fitting` and `Job.check_self_test`."""
        from fade.jobs.self_tests import base_self_test
        from fade.models.loading import suppress_library_output
        from fade.models.memory import load_fitting
        from fade.training.determinism import enable_determinism

        suppress_library_output()  # the log is shown when a worker dies: it should hold the reason, not bars
        device = worker_device(device)
        if device != "cpu":
            enable_determinism()  # before the first product on the GPU
        base = load_fitting(self.base, self.model, device=device)
        self.check_self_test("base", lambda: base_self_test(base))
        return base

    def finished(self) -> bool:
        """Whether ``out`` holds the adapter of this very job. Raises CacheError when it was changed since."""
        done, adapter = read_json(self.out / DONE), self.out / ADAPTER
        if not isinstance(done, dict) or done.get("key") != self.key() or not adapter.is_file():
            return False
        if sha256_of(adapter) != done["adapter_sha256"]:
            what = f"{adapter} is not the adapter that was trained (its sha256 differs)."
            action = f"delete {self.out / DONE} to train it again."
            raise CacheError(what, stage=self.STAGE, action=action)
        return True

    def write(self) -> Path:
        """As `Job.write`; what another job left in the folder is moved to ``superseded-KEY``, not deleted."""
        old = read_json(self.out / JOB)
        if isinstance(old, dict) and old.get("key") != self.key():
            try:
                self._supersede(str(old.get("key", "unknown")))  # as written then: the code may have changed
            except OSError as error:
                raise storage_error(error, self.out, self.STAGE) from error
        return super().write()

    def _supersede(self, key: str) -> None:
        folder = self.out / f"superseded-{key[:12]}"
        while folder.exists():
            folder = folder.with_name(f"{folder.name}+")
        folder.mkdir()
        for name in (JOB, ADAPTER, HISTORY, DONE, ERROR, LOG, CHECKPOINTS):
            if (self.out / name).exists():
                shutil.move(str(self.out / name), str(folder / name))


def _note(now: Mapping[str, Any]) -> str:
    """Losses and speed as text; ``now``: see `fade.training.loop.OnProgress`."""
    losses = now["losses"].items()
    shown = "  ".join(f"{name} {value:.3g}" for name, value in losses if name not in ("lr", "grad_norm"))
    return f"{shown}  {now['it_per_s']:.1f} steps/s"
