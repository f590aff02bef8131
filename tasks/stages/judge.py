"""Train a judge, measure it, write it with the record of what it learned from, and record the run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import JudgeTrainingConfig, RegisterConfig
from fade.data.vocabulary import slug
from fade.errors import ConfigError, RegistryError
from fade.judges.making import EVALUATION, REGISTERED
from fade.utils import progress
from fade.utils.files import read_json, write_json
from fade.utils.hashing import fingerprint
from fade.utils.locks import lock_folder
from fade.utils.notes import note
from tasks.launch.run_job import run_job

if TYPE_CHECKING:
    from fade.judges.labelled_pictures import LabelledPictures

STAGE = "judge"
EVERY = 25
"""Steps of a training whose numbers are logged; the last one's are, too."""
EXPERIMENT = "fade-judge"
CHART = "confusion.svg"
JOB = "job"
"""Folder of the processes' files in the training's."""
_Losses = list[tuple[int, dict[str, float]]]
"""Numbers of a step, by name."""


def train_judge(
    folder: Path,
    out: Path,
    start: Path | None,
    config: JudgeTrainingConfig,
    runs: Path,
    register: RegisterConfig,
    *,
    deadline: float,
    probe: bool = False,
) -> dict[str, Any]:
    """Train a judge on the pictures of ``folder`` (manifest.csv) and write it to the directory ``out``.

    start, probe: see `fade.judges.train_on_set.train_on_set`. deadline: seconds that several processes
    (``judge.processes``) may take. Returns what evaluation.json holds, and where the judge is. A stopped
    training continues; its files lie below ``runs/judges``. Raises what the training raises, ConfigError for
    more processes than GPUs, StorageError, and BusyError where the same training is under way."""
    from fade.judges.judge_folder import require_free, write_judge
    from fade.judges.labelled_pictures import LabelledPictures
    from fade.judges.measure import confusion_matrix, measure
    from fade.judges.train_on_set import remove_work, train_on_set
    from fade.models.loading import pick_device, suppress_library_output
    from fade.reporting.judge_page import confusion_chart

    require_free(out)
    pictures = LabelledPictures.read(folder)
    suppress_library_output()
    facts = [pictures.manifest_sha256, str(start), config.size, probe]
    work = runs / "judges" / f"{slug(out.name)}-{fingerprint(facts)[:8]}"
    losses: _Losses = []

    def on_stage(stage: str, done: int, total: int, logs: dict[str, float]) -> None:
        text = "  ".join(f"{name} {value:.3g}" for name, value in logs.items())
        progress.report(stage, done, total, text)
        if logs:
            losses.append((done, dict(logs)))

    with lock_folder(work, "this judge is being trained", STAGE):
        if config.processes > 1 and not probe:
            losses += _train_in_workers(pictures, start, config, work, deadline)
        trained = train_on_set(
            pictures, start, config, work, probe=probe, device=pick_device(), on_stage=on_stage
        )
        odds, targets = trained.probabilities, pictures.targets[pictures.heldout]
        warning = pictures.warning() if trained.start is not None else ""
        used = {trained.mode, "size", "plain_side", *(() if probe else ("processes",))}
        record: dict[str, Any] = {
            "mode": trained.mode,
            "seed": config.seed,
            "data": {
                "name": folder.resolve().name,
                "manifest_sha256": pictures.manifest_sha256,
                "train": int((~pictures.heldout).sum()),
                "heldout": len(targets),
                "concepts": len(pictures.labels),
                "origin": pictures.origin,
            },
            "start": _start(start, trained.start),
            "settings": config.model_dump(mode="json", include=used),
            "resize": trained.preparation.resize,
            "crop": trained.preparation.crop,
            "warning": warning,
            **measure(odds, targets, pictures.labels),
        }
        matrix = confusion_matrix(odds.argmax(1), targets, len(pictures.labels))
        chart = confusion_chart(
            matrix, pictures.labels, f"What the judge of {record['data']['name']} confuses"
        )
        files = {EVALUATION: record, CHART: chart.file("Confusion of concepts")}
        write_judge(out, trained.model, pictures.labels, trained.preparation, files)
        remove_work(work)
        shutil.rmtree(work / JOB, ignore_errors=True)
    if warning:
        note(warning)
    _record(out, record, losses, runs, register)
    return {"out": str(out), **record}


def _train_in_workers(
    pictures: LabelledPictures, start: Path | None, config: JudgeTrainingConfig, work: Path, deadline: float
) -> _Losses:
    """Have ``judge.processes`` processes train the network up to its last checkpoint in ``work``; a network
    from nothing is small and stays on the CPU. Raises as `train_judge`."""
    import torch

    from fade.jobs.judge import HISTORY, JudgeJob
    from fade.models.loading import pick_device

    device = "cpu" if start is None else pick_device()
    if device == "cuda" and config.processes > (devices := torch.cuda.device_count()):
        what = f"judge.processes = {config.processes}, and this machine has {devices} GPU(s)."
        raise ConfigError(what, stage="config", action=f"set judge.processes to {devices} or less.")
    job = JudgeJob(
        pictures=pictures.folder,
        manifest_sha256=pictures.manifest_sha256,
        start=start,
        config=config,
        work=work,
        out=work / JOB,
    )

    def on_progress(done: int, total: int, text: str) -> None:
        progress.report("train", done, total, text)

    # its marker is of the job, and the checkpoint alone says what is left to do
    run_job(job, on_progress, deadline=deadline, device=device, reuse=False)
    return [(int(step), dict(logs)) for step, logs in read_json(job.out / HISTORY) or []]


def _start(start: Path | None, source: Any) -> dict[str, Any] | None:
    if start is None or source is None:
        return None
    return {"name": start.name, "layout": source.layout, "files": dict(source.files)}


def _record(
    out: Path,
    record: dict[str, Any],
    losses: _Losses,
    runs: Path,
    register: RegisterConfig,
) -> None:
    """A run of MLflow: settings, losses, accuracy, and the files that say so; the judge as a version, which
    runs that use it name. A tracking server that is not there costs no judge: that is a note."""
    from fade.models.layout import JUDGE, model_sha256
    from fade.provenance.lineage import code_state
    from tasks.registry.connection import connect
    from tasks.registry.judges import register_judge
    from tasks.registry.runs import flatten, open_run

    tags = {
        "judge": model_sha256(out, JUDGE),
        "manifest": record["data"]["manifest_sha256"],
        "start": fingerprint(record["start"]) if record["start"] else "none",
        "commit": str(code_state()["commit"] or "unknown"),
    }
    try:
        tracking = connect(runs, timeout=register.timeout_seconds)
        with open_run(tracking, EXPERIMENT, out.name, tags) as run:
            run.log_params(flatten({"mode": record["mode"], "seed": record["seed"], **record["settings"]}))
            for step, logs in (one for one in losses if one[0] % EVERY == 0 or one is losses[-1]):
                run.log_metrics(step, {f"train.{name}": value for name, value in logs.items()})
            final = {key: record[key] for key in ("top1", "mean_of_classes", "calibration_error")}
            run.log_metrics(losses[-1][0] if losses else 0, final)
            for name in (EVALUATION, CHART):
                run.log_file(out / name)
            version = register_judge(run, out, tags)
        write_json(out / REGISTERED, version)
    except RegistryError as error:
        note(f"the judge is in {out}, and MLflow has no version of it: {error}")
