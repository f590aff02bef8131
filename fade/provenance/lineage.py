"""What went into a run and what came out (hashes, seeds, versions), and where two runs differ."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fade.config import Params
from fade.errors import FadeError
from fade.provenance.fingerprints import installed, versions
from fade.provenance.git import changes, git, is_top, why_unknown
from fade.provenance.self_tests import deviation
from fade.utils.files import write_whole
from fade.utils.hashing import canonical, sha256_of
from fade.utils.notes import note
from fade.utils.parsing import parse_json
from fade.utils.reading import RECORD, read_text

SCHEMA = 4
CHECK = ("name", "severity", "success")
READABLE = (1, 2, 3, 4)
"""Schema 2 added environment.packages, outputs.metrics and checks; schema 3 the audit's tolerance; schema 4
the models, hashes the base, the CLIP and the judge by what is loaded, and added self_tests, which has its
own."""
FILE = "lineage.json"
STACK = (
    *("accelerate", "diffusers", "dvc", "fade-pipeline", "great-expectations", "mlflow", "numpy", "pandas"),
    *("peft", "pillow", "prefect", "safetensors", "tokenizers", "torch", "transformers"),
)
SELF_TESTS = "self_tests"
"""Section of what each model put out for a fixed input (`fade.provenance.self_tests`)."""
VOLATILE = frozenset({"orchestration", "training", "models"})
"""Sections that name a run without changing its result; `compare` leaves them out."""
REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Difference:
    """One place where two lineages disagree. ``path`` is dotted; a side that lacks the key holds None."""

    path: str
    a: Any
    b: Any

    def __str__(self) -> str:
        return f"{self.path}: {_short(self.a)} -> {_short(self.b)}"


@dataclass(frozen=True)
class Lineage:
    """The record of one run, as plain JSON data (sections: see `collect`)."""

    content: Mapping[str, Any]

    def finish(
        self,
        inputs_after: Mapping[str, str],
        adapter_sha256: str,
        *,
        metrics: Mapping[str, float | None] | None = None,
        base_metrics: Mapping[str, float | None] | None = None,
        checks: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> Lineage:
        """The record closed after the run: the inputs hashed again, and what came out.

        ``checks``: stage -> its data checks, of which name, severity and success are kept; ``metrics`` and
        ``base_metrics``: the evaluation's, in percent."""
        before, after = self.content["inputs"]["before"], dict(inputs_after)
        closed: dict[str, Any] = {"inputs": {"before": before, "after": after, "unchanged": after == before}}
        closed["checks"] = {
            stage: [{key: one[key] for key in CHECK} for one in some]
            for stage, some in (checks or {}).items()
        }
        numbers = {"metrics": dict(metrics or {}), "base_metrics": dict(base_metrics or {})}
        closed["outputs"] = {"adapter_sha256": adapter_sha256, **numbers}
        return Lineage({**self.content, **closed})

    def changed_inputs(self) -> list[str]:
        """Inputs whose bytes are not the same after the run as before it; none while the run is open."""
        before, after = self.content["inputs"]["before"], self.content["inputs"]["after"]
        if after is None:
            return []
        return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no blanks, no NaN; the same content gives the same bytes."""
        return canonical(self.content)

    def sha256(self) -> str:
        """Hash of the canonical JSON."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def save(self, path: Path) -> Path:
        """Write the record under a temporary name, then rename. Raises StorageError."""
        return write_whole(path, self.to_json() + "\n", stage="lineage", sync=True)

    @classmethod
    def load(cls, path: Path) -> Lineage:
        """Read a record. Raises FadeError when it is missing, damaged or of another schema."""
        action = "name the run's folder, or run it again."
        try:
            content = parse_json(read_text(path, RECORD))
        except (OSError, ValueError) as error:
            raise FadeError(f"{path} cannot be read: {error}.", stage="lineage", action=action) from error
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema not in READABLE:
            what = f"{path}: schema {schema!r}, this version reads {' and '.join(map(str, READABLE))}."
            raise FadeError(what, stage="lineage", action=action)
        return cls(content)


def collect(
    params: Params,
    *,
    overrides: Sequence[str] = (),
    data_md5: str,
    data_files: Mapping[str, str],
    data_size: int = 0,
    dvc_files: Mapping[str, str] | None = None,
    base_sha256: str,
    judge_sha256: str,
    models: Mapping[str, Mapping[str, Any]] | None = None,
    neighbourhood: Mapping[str, Any],
    inputs: Mapping[str, str],
    device: str,
    precision: str,
    world_size: int = 1,
    flow_run_id: str | None = None,
    training: Mapping[str, Any] | None = None,
    code: Mapping[str, Any] | None = None,
    self_tests: Mapping[str, Any] | None = None,
    repository: Path = REPOSITORY,
) -> Lineage:
    """What goes in, recorded before the run; `Lineage.finish` closes the record.

    ``data_files`` maps relative paths to md5; ``dvc_files``, .dvc files to theirs, is recorded where it
    is not one that has the pictures alone, whose md5 ``data_md5`` is; ``inputs`` maps names to sha256 (see
    `hash_inputs`);
    ``neighbourhood`` holds at least target, neighbours, heldout and cache_key; ``training`` says how the
    adapter was trained, which may have been in an earlier run (`reused`); ``precision`` is the one in use,
    not "auto"; ``code`` is the state that the adapter's header names; ``models``: role -> hashes (that of
    earlier versions, too), files, hub id, revision, licence, as far as known; ``self_tests``: the tolerance,
    and base, clip and judge."""
    alone = dvc_files is None or [*dvc_files.values()] == [data_md5]
    several = {} if alone else {"dvc_files": dict(dvc_files or {})}
    return Lineage(
        {
            "schema": SCHEMA,
            "code": dict(code or code_state(repository)),
            "environment": environment(device=device, precision=precision, world_size=world_size),
            "data": {"md5": data_md5, "size": data_size, "files": dict(data_files), **several},
            "base": {"sha256": base_sha256},
            "judge": {"sha256": judge_sha256},
            "models": {role: dict(model) for role, model in (models or {}).items()},
            SELF_TESTS: dict(self_tests or {}),
            "params": {
                "values": params.recorded(),
                "sha256": params.sha256(),
                "overrides": list(overrides),
            },
            "seeds": {
                "mine": params.neighborhood.seed,
                "train": params.train.seed,
                "evaluate": params.evaluate.seed,
            },
            "neighbourhood": dict(neighbourhood),
            "inputs": {"before": dict(inputs), "after": None, "unchanged": None},
            "training": dict(training or {}),
            "checks": {},
            "outputs": {"adapter_sha256": None, "metrics": {}, "base_metrics": {}},
            "audit": {"tolerance": params.audit.tolerance},
            "orchestration": {"flow_run_id": flow_run_id},
        }
    )


def environment(*, device: str, precision: str, world_size: int) -> dict[str, Any]:
    """Where it ran: library versions, the lock of all installed packages, platform, threads, device,
    processes, precision. All of them can move the last bits."""
    import torch

    on_gpu = device.startswith("cuda") and torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "libraries": versions(STACK),
        "packages": installed(),
        "torch_threads": torch.get_num_threads(),
        "device": device,
        "device_name": torch.cuda.get_device_name() if on_gpu else device,
        "precision": precision,
        "world_size": world_size,
    }


def code_state(repository: Path = REPOSITORY) -> dict[str, Any]:
    """``{"version", "commit", "dirty"}`` of the code; commit and dirty are None without git or outside a
    checkout of it. An image has no checkout: it names the commit that it was built from in FADE_COMMIT."""
    commit, dirty = os.environ.get("FADE_COMMIT") or None, None
    if is_top(repository):
        head, found = git(repository, "rev-parse", "--verify", "HEAD"), changes(repository)
        commit = head.strip() if head else None
        shown, unlisted = found or ([], [])
        dirty = None if found is None else bool(shown or unlisted)
        if unlisted:
            names = ", ".join(unlisted[:5]) + (f" and {len(unlisted) - 5} more" if unlisted[5:] else "")
            note(f"the code is not that of its commit, though `git status` may be silent: {names}.")
    elif commit is not None:
        dirty = False
    if commit is None and (reason := why_unknown(repository)):
        note(reason)
    return {"version": versions(("fade-pipeline",))["fade-pipeline"], "commit": commit, "dirty": dirty}


def hash_inputs(paths: Mapping[str, Path]) -> dict[str, str]:
    """sha256 of each named file or folder. Raises FadeError that names an input which does not exist."""
    return {name: hash_path(path, name) for name, path in sorted(paths.items())}


def hash_path(path: Path, name: str = "") -> str:
    """sha256 of a file, or of a folder's sorted (relative path, sha256) pairs; links are followed."""
    if path.is_file():
        return sha256_of(path)
    if not path.is_dir():
        what = f"input {name or path} is missing: {path}."
        raise FadeError(what, stage="lineage", action="run `fade pull` again.")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode())
    return digest.hexdigest()


def compare(a: Lineage, b: Lineage) -> list[Difference]:
    """Where two runs differ outside `VOLATILE`, in the order of their keys; self-tests differ only beyond the
    tolerance of the first."""
    left_out = {*VOLATILE, SELF_TESTS}
    left, right = ({k: v for k, v in one.content.items() if k not in left_out} for one in (a, b))
    return [*_differences(left, right, ""), *_self_tests(a, b)]


def _self_tests(a: Lineage, b: Lineage) -> Iterator[Difference]:
    before, after = a.content.get(SELF_TESTS) or {}, b.content.get(SELF_TESTS) or {}
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        yield Difference(f"{SELF_TESTS}.base", before, after)
        return
    for name in sorted((before.keys() & after.keys()) - {"tolerance"}):
        if differs := deviation(before[name], after[name], before.get("tolerance")):
            yield Difference(f"{SELF_TESTS}.{name}", "as recorded", f"differs in its {differs}")


def _differences(a: Any, b: Any, at: str) -> Iterator[Difference]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted({*a, *b}):
            yield from _differences(a.get(key), b.get(key), f"{at}.{key}" if at else str(key))
    elif canonical(a) != canonical(b):
        yield Difference(at, a, b)


def _short(value: Any, limit: int = 60) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else canonical(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
