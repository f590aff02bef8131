"""A job: one frozen JSON value, the folder of its files, and a marker of each rank that has done its part.

Our design. A kind of job is one file in this folder: its fields, `key` (all that decides the result), and
`run`, which does one rank's part. Whether the job runs in the caller's process, in several workers or on
another machine is decided by `tasks.launch.run_job` alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, ValidationError

from fade.config import Section, SelfTestConfig
from fade.config.section import Affects
from fade.errors import FadeError, JobError, StorageError
from fade.provenance.fingerprints import code_sha256, versions
from fade.provenance.self_tests import SelfTest, require_same
from fade.utils.files import read_json, write_json
from fade.utils.hashing import fingerprint
from fade.utils.parsing import parse_json
from fade.utils.reading import RECORD, read_text

JOB, ERROR, LOG = "job.json", "error.json", "job.log"
"""The files of an out folder, beside one ``progress-RANK.json`` and one ``done-RANK.json`` a rank."""
OnProgress = Callable[[int, int, str], object]
"""Called with the steps (or pictures, or attacks) done, those in all, and a note on the current one."""


def no_progress(done: int, total: int, text: str = "") -> None:
    """The callback of a caller that shows nothing."""


class Job(Section):
    """What every job has; a kind of job adds its fields and `run`."""

    KIND: ClassVar[str] = ""
    """Name of the kind, in the JSON."""
    STAGE: ClassVar[str] = "job"
    """Stage that an error of the job names."""
    FAILURE: ClassVar[type[FadeError]] = JobError
    """Class of an error that is none of ours: a worker that died, a deadline, a fault of the code."""
    OUT_OF_MEMORY: ClassVar[str] = "lower sampler.batch_size."
    """Next action when the device's memory does not suffice."""
    RESUME: ClassVar[str] = "run it again: what is done already is not repeated."
    """Next action after any other failure."""
    CODE: ClassVar[tuple[str, ...]] = ()
    """The code (components of `fade.provenance.fingerprints`) that decides the result."""
    LIBRARIES: ClassVar[tuple[str, ...]] = ("diffusers", "peft", "torch", "transformers")
    """The distributions that decide it, too."""

    MODELS: ClassVar[tuple[str, ...]] = ("base",)
    """Fields that hold a model's directory or hub id."""

    out: Annotated[Path, Affects("nothing")]
    """Folder of the job's files."""
    self_tests: Annotated[dict[str, dict[str, Any]], Affects("nothing")] = Field(default_factory=dict)
    """By field of MODELS, the self-test of the model where the job was written."""
    self_test: Annotated[SelfTestConfig, Affects("nothing")] = SelfTestConfig()
    """What follows where this process's model differs from it."""

    @property
    def world_size(self) -> int:
        """Number of processes that share the work."""
        raise NotImplementedError

    def run(self, rank: int, world: int, on_progress: OnProgress, *, device: str, **loaded: Any) -> None:
        """Do the part of process ``rank`` of ``world``, and write its marker last.

        device: ``cpu`` or ``cuda``; a worker takes the GPU of its LOCAL_RANK. loaded: models that the caller
        has in memory (``base``, ``judge``), left as they were; the job loads what is not given."""
        raise NotImplementedError

    def key(self) -> str:
        """Hash of all that decides the result: the fields (but paths, whose files' hashes are fields, and the
        number of processes), the code and the libraries."""
        facts = {"kind": self.KIND, "job": self.key_fields("training"), "code": code_sha256(*self.CODE)}
        return fingerprint({**facts, "libraries": versions(self.LIBRARIES)})

    def absolute(self) -> Self:
        """The same job with absolute paths, for a process with another working directory; a hub id stays."""
        values: dict[str, Any] = {name: value.resolve() for name, value in self if isinstance(value, Path)}
        texts = {name: value for name, value in self if name in self.MODELS and Path(value).is_dir()}
        return self.model_copy(update={**values, **{k: str(Path(v).resolve()) for k, v in texts.items()}})

    def write(self) -> Path:
        """Write ``out/job.json``, its key included, and delete what an earlier attempt left beside it.

        Returns its path. Raises OSError, StorageError."""
        self.out.mkdir(parents=True, exist_ok=True)
        for pattern in (ERROR, LOG, "progress-*.json", "done-*.json"):
            for stale in self.out.glob(pattern):
                stale.unlink(missing_ok=True)
        content = {"kind": self.KIND, "key": self.key(), **self.model_dump(mode="json")}
        return write_json(self.out / JOB, content)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises JobError when the file is missing, no JSON, or no job of this kind."""
        try:
            content = _content(path)
            return cls.model_validate(
                {name: content[name] for name in content if name not in ("key", "kind")}
            )
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
            raise _unreadable(path, why) from error

    def progress(self, rank: int) -> Path:
        """The file with one rank's progress: ``done``, ``total`` and ``text`` of OnProgress."""
        return self.out / f"progress-{rank}.json"

    def finish(self, rank: int, made: int) -> None:
        """Write the marker of one rank, with the number of results that it made. Raises StorageError."""
        write_json(self.out / f"done-{rank}.json", {"key": self.key(), "made": made})

    def made(self) -> int | None:
        """The number of results that all ranks made together; None until each has written the marker of
        this job's key."""
        markers = [read_json(self.out / f"done-{rank}.json") for rank in range(self.world_size)]
        key = self.key()
        if not all(isinstance(marker, dict) and marker.get("key") == key for marker in markers):
            return None
        return sum(int(marker["made"]) for marker in markers)

    def finished(self) -> bool:
        """Whether every rank has done its part of this very job (its key). Raises CacheError when the result
        was changed since."""
        return self.made() is not None

    def check_self_test(self, name: str, measure: Callable[[], SelfTest]) -> None:
        """Compare a model that this process loaded, a field of MODELS, with the one that the job was written
        with. Raises BaseModelError as `fade.provenance.self_tests.require_same`; a job without its self-test
        compares nothing."""
        if recorded := self.self_tests.get(name):
            what, where = f"{getattr(self, name)} ({name})", "where the job was written"
            require_same(recorded, measure(), self.self_test, what=what, where=where)

    def check_rank(self, rank: int, world: int) -> None:
        """Raises JobError for another number of processes than the job's."""
        if world != self.world_size or not 0 <= rank < world:
            what = f"process {rank} of {world} started where the job is for {self.world_size} process(es)."
            action = (
                "start it by torchrun; `accelerate launch --cpu --num_processes N` starts only one process."
            )
            raise JobError(what, stage=self.STAGE, action=action)


def kind_of(path: Path) -> str:
    """The kind of the job in the file at ``path``. Raises JobError when it is missing or no JSON."""
    return str(_content(path).get("kind", ""))


def _content(path: Path) -> dict[str, Any]:
    try:
        return dict(parse_json(read_text(path, RECORD)).items())
    except OSError as error:
        raise _unreadable(path, f"cannot be read: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise _unreadable(path, f"is no JSON: {error}") from error


def _unreadable(path: Path, why: str) -> JobError:
    action = "start the run again with `fade run`, which writes the job."
    return JobError(f"{path}: {why}.", stage="job", action=action)


def worker_device(device: str) -> str:
    """``device``, or this process's own GPU by LOCAL_RANK."""
    if device != "cuda":
        return device
    import torch

    return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"


def explain(error: Exception, kind: type[Job]) -> FadeError:
    """An error of this package as it is; one of the machine (memory, disk) or the code as the kind's FAILURE
    or StorageError."""
    import torch

    if isinstance(error, FadeError):
        return error
    if isinstance(error, torch.OutOfMemoryError):
        return kind.FAILURE("the device ran out of memory.", stage=kind.STAGE, action=kind.OUT_OF_MEMORY)
    if isinstance(error, OSError) and error.errno is not None:
        what = f"{error.filename or 'the out folder'}: {error.strerror}."
        return StorageError(what, stage=kind.STAGE, action=f"free some space; {kind.RESUME}")
    what = f"the work stopped: {type(error).__name__}: {error}."
    return kind.FAILURE(what, stage=kind.STAGE, action=kind.RESUME)
