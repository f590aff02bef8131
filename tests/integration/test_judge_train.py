"""`fade judge train` on the embedded world's drawings makes a judge that agrees with the shipped one, and a
version of the registry.

A training of the recipe's own length takes minutes on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fade.config import JudgeTrainingConfig, RegisterConfig
from fade.data.images import read_pictures
from fade.data.manifest import MANIFEST, read_manifest
from fade.judges.classifier import Classifier
from fade.judges.making import REGISTERED, making
from fade.utils.hashing import sha256_of
from tasks.registry.connection import connect
from tasks.registry.judges import FOLDER, register_judge
from tasks.registry.models import all_versions
from tasks.registry.runs import download_artifact, open_run
from tasks.registry.snapshot import RegistrySnapshot
from tasks.stages.judge import train_judge


@pytest.mark.long
def test_a_judge_of_the_shipped_drawings_agrees_with_the_shipped_judge(repo: Path, tmp_path: Path) -> None:
    out = tmp_path / "judge"
    numbers = train_judge(
        repo / "data/emoji", out, None, JudgeTrainingConfig(), tmp_path / "runs", RegisterConfig()
    )
    ours, shipped = Classifier(str(out)), Classifier(str(repo / "data/judge"))
    assert ours.labels == shipped.labels and ours.prepare.size == shipped.prepare.size
    frame = read_manifest(repo / "data/emoji" / MANIFEST)
    drawings = read_pictures([repo / "data/emoji" / name for name in frame["path"]])
    same = ours(drawings).argmax(1) == shipped(drawings).argmax(1)
    known = (frame["split"] == "train").to_numpy()
    assert float(same[known].float().mean()) >= 0.97  # of the training drawings
    assert float(same[~known].float().mean()) >= 0.6  # of the artist whom neither has met
    written = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert written["top1"] == numbers["top1"] >= 65 and written["seed"] == 0 and written["n"] == 79
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
