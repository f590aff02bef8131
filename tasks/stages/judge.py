"""Train a judge, measure it, write it with the record of what it learned from, and record the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fade.config import JudgeTrainingConfig, RegisterConfig
from fade.data.vocabulary import slug
from fade.errors import RegistryError
from fade.judges.making import EVALUATION, REGISTERED
from fade.utils import progress
from fade.utils.files import write_json
from fade.utils.hashing import fingerprint
from fade.utils.locks import lock_folder
from fade.utils.notes import note

STAGE = "judge"
EXPERIMENT = "fade-judge"
CHART = "confusion.svg"


def train_judge(
    folder: Path,
    out: Path,
    start: Path | None,
    config: JudgeTrainingConfig,
    runs: Path,
    register: RegisterConfig,
    *,
    probe: bool = False,
) -> dict[str, Any]:
    """Train a judge on the pictures of ``folder`` (manifest.csv) and write it to the directory ``out``.

    start, probe: see `fade.judges.train_on_set.train_on_set`. Returns what evaluation.json holds, and where
    the judge is. A stopped training continues; its files lie below ``runs/judges``. Raises what the training
    raises, StorageError, and BusyError where the same training is under way."""
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
    losses: list[tuple[int, dict[str, float]]] = []

    def on_stage(stage: str, done: int, total: int, logs: dict[str, float]) -> None:
        text = "  ".join(f"{name} {value:.3g}" for name, value in logs.items())
        progress.report(stage, done, total, text)
        if logs and (done % 25 == 0 or done == total):
            losses.append((done, dict(logs)))

    with lock_folder(work, "this judge is being trained", STAGE):
        trained = train_on_set(
            pictures, start, config, work, probe=probe, device=pick_device(), on_stage=on_stage
        )
        odds, targets = trained.probabilities, pictures.targets[pictures.heldout]
        warning = pictures.warning() if trained.start is not None else ""
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
            "settings": config.model_dump(mode="json", include={trained.mode, "size", "plain_side"}),
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
    if warning:
        note(warning)
    _record(out, record, losses, runs, register)
    return {"out": str(out), **record}


def _start(start: Path | None, source: Any) -> dict[str, Any] | None:
    if start is None or source is None:
        return None
    return {"name": start.name, "layout": source.layout, "files": dict(source.files)}


def _record(
    out: Path,
    record: dict[str, Any],
    losses: list[tuple[int, dict[str, float]]],
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
            for step, logs in losses:
                run.log_metrics(step, {f"train.{name}": value for name, value in logs.items()})
            final = {key: record[key] for key in ("top1", "mean_of_classes", "calibration_error")}
            run.log_metrics(losses[-1][0] if losses else 0, final)
            for name in (EVALUATION, CHART):
                run.log_file(out / name)
            version = register_judge(run, out, tags)
        write_json(out / REGISTERED, version)
    except RegistryError as error:
        note(f"the judge is in {out}, and MLflow has no version of it: {error}")
