"""`fade judge train` on the embedded world's drawings makes a judge that agrees with the shipped one, and a
version of the registry; two processes make the judge of one.

A training of the recipe's own length takes minutes on a CPU."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from fade.config import JudgeTrainingConfig, RegisterConfig
from fade.data.images import read_pictures
from fade.data.manifest import MANIFEST, read_manifest
from fade.jobs.base import LOG
from fade.jobs.judge import HISTORY, JudgeJob
from fade.judges.classifier import Classifier
from fade.judges.labelled_pictures import LabelledPictures
from fade.judges.making import REGISTERED, making
from fade.judges.train_on_set import train_on_set
from fade.utils.files import read_json
from fade.utils.hashing import sha256_of
from tasks.launch.accelerate import launch
from tasks.launch.run_job import WORKER, run_job
from tasks.registry.connection import connect
from tasks.registry.judges import FOLDER, register_judge
from tasks.registry.models import all_versions
from tasks.registry.runs import download_artifact, open_run
from tasks.registry.snapshot import RegistrySnapshot
from tasks.stages.judge import train_judge
from tests.datasets import make_dataset
from tests.support import make_tiny_judge


@pytest.mark.long
def test_a_judge_of_the_shipped_drawings_agrees_with_the_shipped_judge(repo: Path, tmp_path: Path) -> None:
    out = tmp_path / "judge"
    numbers = train_judge(
        repo / "data/emoji",
        out,
        None,
        JudgeTrainingConfig(),
        tmp_path / "runs",
        RegisterConfig(),
        deadline=7200,
    )
    ours, shipped = Classifier(str(out)), Classifier(str(repo / "data/judge"))
    assert ours.labels == shipped.labels and ours.prepare.size == shipped.prepare.size
    frame = read_manifest(repo / "data/emoji" / MANIFEST)
    drawings = read_pictures([repo / "data/emoji" / name for name in frame["path"]])
    found, theirs = ours(drawings).argmax(1), shipped(drawings).argmax(1)
    same, known = found == theirs, (frame["split"] == "train").to_numpy()
    named = zip(theirs.tolist(), frame["concept"], strict=True)
    right = torch.tensor([shipped.labels[i] == name for i, name in named])
    reads = 100 * float(right[~known].float().mean())  # of the artist whom neither has met
    assert float(same[known].float().mean()) >= 0.97  # of the training drawings
    assert 100 * float(same[~known].float().mean()) >= reads - 17  # other seeds, other mistakes
    written = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert written["top1"] == numbers["top1"] >= reads - 12
    assert written["seed"] == 0 and written["n"] == (~known).sum()
    assert written["data"]["manifest_sha256"] == sha256_of(repo / "data/emoji" / MANIFEST)
    assert (out / "confusion.svg").read_text(encoding="utf-8").startswith("<svg")
    assert making(out)["registered"]["name"] == "judge-judge"


def test_a_judge_is_a_version_that_a_run_s_record_names(tmp_path: Path) -> None:
    judge, runs = tmp_path / "dogs", tmp_path / "runs"
    judge.mkdir()
    (judge / "model.safetensors").write_bytes(b"weights")
    tracking = connect(runs)
    for number in ("1", "2"):
        with open_run(tracking, "fade-judge", "dogs") as run:
            made = register_judge(run, judge, {"judge": number * 64})
        assert (made["name"], made["version"]) == ("judge-dogs", number)
        (judge / REGISTERED).write_text(json.dumps({**made, "more": "x"}), encoding="utf-8")
        assert making(judge) == {"registered": made}
    assert [(str(one.version), one.tags["judge"]) for one in all_versions(tracking, "judge-dogs")] == [
        ("2", "2" * 64),
        ("1", "1" * 64),
    ]
    folder = download_artifact(tracking, made["run_id"], FOLDER, tmp_path / "fetched")
    assert folder is not None and (folder / "model.safetensors").read_bytes() == b"weights"
    assert not RegistrySnapshot.load(tracking, "fade").adapters()  # it is no concept's model


def test_two_processes_killed_and_started_again_train_the_judge_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    make_dataset(tmp_path / "set", size=16)
    start = make_tiny_judge(tmp_path / "pretrained", ["x", "y", "z"])
    (start / "preprocessor_config.json").write_text(
        '{"size": 16, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
    )
    pictures = LabelledPictures.read(tmp_path / "set")

    def config(**numbers: int) -> JudgeTrainingConfig:
        whole = {"steps": 60, "batch_size": 4, "lr": 1e-3, "ema": 0.9, "checkpoint_every": 1}
        return JudgeTrainingConfig.model_validate({"batch_size": 4, "whole": whole, **numbers})

    def weights(numbers: JudgeTrainingConfig, work: Path) -> torch.Tensor:
        model = train_on_set(pictures, start, numbers, work).model
        return torch.cat([one.flatten() for one in model.parameters()])

    work = tmp_path / "two"
    job = JudgeJob(
        pictures=pictures.folder,
        manifest_sha256=pictures.manifest_sha256,
        start=start,
        config=config(processes=2),
        work=work,
        out=work / "job",
    )
    group = launch(WORKER, job.write(), 2, "cpu", job.out / LOG)
    while not (work / "whole" / "checkpoint.safetensors").exists():
        assert group.runs(), (job.out / LOG).read_text()
        time.sleep(0.01)
    group.stop(grace=0)
    assert not job.finished()
    run_job(job, deadline=240, reuse=False)
    history = read_json(job.out / HISTORY)
    assert 1 < history[0][0] <= history[-1][0] == 60  # it went on from a checkpoint
    two, one = weights(job.config, work), weights(config(), tmp_path / "one")
    other = weights(config(seed=1), tmp_path / "other")
    # AdamW takes a whole step by a gradient of rounding alone, so the two are near each other and not equal
    near, far = (two - one).abs().mean(), (other - one).abs().mean()
    assert near < 0.01 * far
