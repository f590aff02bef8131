"""A job: one frozen JSON value, the folder of its files, and a marker of each rank that has done its part.

Ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ValidationError

from fade.config import Section
from fade.config.section import Positive
from fade.errors import JobError
from fade.provenance.fingerprints import code_sha256, versions
from fade.utils.files import read_json, write_json
from fade.utils.hashing import fingerprint

JOB, ERROR, LOG = "job.json", "error.json", "workers.log"
"""The files of an out folder, beside one ``progress-RANK.json`` and one ``done-RANK.json`` a rank."""


class Job(Section):
    """What every job has; a kind of job adds its fields."""

    CODE: ClassVar[tuple[str, ...]] = ()
    """The code (components of `fade.provenance.fingerprints`) that decides the result."""
    LIBRARIES: ClassVar[tuple[str, ...]] = ()
    """The distributions that decide it, too."""
    NOT_IN_KEY: ClassVar[frozenset[str]] = frozenset({"out", "processes"})
    """Fields that do not decide the result: paths (the hashes of what they name are fields, too) and the
    number of processes."""

    processes: Positive = 1
    """Number of processes that share the work; a worker refuses any other."""
    out: Path
    """Folder of the job's files."""

    def key(self) -> str:
        """Hash of all that decides the result: the fields outside NOT_IN_KEY, the code and the libraries."""
        fields = self.model_dump(mode="json", exclude=set(self.NOT_IN_KEY))
        return fingerprint(
            {"job": fields, "code": code_sha256(*self.CODE), "libraries": versions(self.LIBRARIES)}
        )

    def write(self) -> Path:
        """Write ``out/job.json``, its key included, and delete what an earlier attempt left beside it.

        Returns its path. Raises OSError, StorageError."""
        self.out.mkdir(parents=True, exist_ok=True)
        for pattern in (ERROR, LOG, "progress-*.json", "done-*.json"):
            for stale in self.out.glob(pattern):
                stale.unlink(missing_ok=True)
        return write_json(self.out / JOB, {"key": self.key(), **self.model_dump(mode="json")})

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises JobError when the file is missing, no JSON, or no job of this kind."""
        action = "start the run again, which writes the job."
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls.model_validate({name: value for name, value in content.items() if name != "key"})
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        except OSError as error:
            why = f"cannot be read: {error.strerror}"
        except (ValueError, AttributeError) as error:
            why = f"is no JSON: {error}"
        raise JobError(f"{path}: {why}.", stage="job", action=action)

    def progress(self, rank: int) -> Path:
        """The file with one rank's progress: ``done`` of ``total`` pictures."""
        return self.out / f"progress-{rank}.json"

    def finish(self, rank: int, made: int) -> None:
        """Write the marker of one rank, with the number of results that it made. Raises StorageError."""
        write_json(self.out / f"done-{rank}.json", {"key": self.key(), "made": made})

    def made(self) -> int | None:
        """The number of results that all ranks made together; None until each has written the marker of
        this job's key."""
        markers = [read_json(self.out / f"done-{rank}.json") for rank in range(self.processes)]
        key = self.key()
        if not all(isinstance(marker, dict) and marker.get("key") == key for marker in markers):
            return None
        return sum(int(marker["made"]) for marker in markers)
