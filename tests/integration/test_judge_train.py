"""`fade judge train` on the embedded world's drawings makes a judge that agrees with the shipped one.

A training of the recipe's own length takes minutes on a CPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fade.config import JudgeTrainingConfig, RegisterConfig
from fade.data.images import read_pictures
from fade.data.manifest import MANIFEST, read_manifest
from fade.judges.classifier import Classifier
from fade.utils.hashing import sha256_of
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
