"""docs/your-own.md, typed: from a folder of pictures to a judged erasure, on the embedded base."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fade.data.dvcfile import read_dvc_file
from fade.data.manifest import MANIFEST, read_manifest
from fade.data.vocabulary import slug
from tests.e2e.support import REPO, environment, small

TARGET, KIN, OTHERS = "panda", 7, 6
"""What stands for the target of the guide's last line; how many of its family and of others are beside it."""
JUDGE = ("judge.scratch.steps=400", "judge.scratch.checkpoint_every=200")


def guide() -> list[list[str]]:
    """The commands of the first block of the page, as words."""
    text = (REPO / "docs" / "your-own.md").read_text(encoding="utf-8")
    block = re.search(r"```\n(.*?)```", text, re.DOTALL)
    assert block
    return [shlex.split(line) for line in block[1].splitlines()]


def own_folder(folder: Path) -> Path:
    """Drawings that the base knows, one folder a concept below its family, without any manifest."""
    frame = read_manifest(REPO / "data" / "emoji" / MANIFEST)
    own = frame["family"] == frame.loc[frame["concept"] == TARGET, "family"].iloc[0]
    kin = [name for name in frame.loc[own, "concept"].unique() if name != TARGET][:KIN]
    others = frame.loc[~own, "concept"].unique()[:OTHERS]
    assert (len(kin), len(others)) == (KIN, OTHERS)
    for row in frame[frame["concept"].isin([TARGET, *kin, *others])].itertuples():
        place = folder / str(row.family) / str(row.concept).replace(" ", "_")
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / "data" / "emoji" / str(row.path), place / f"{slug(str(row.style))}.png")
    return folder


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_guide_s_commands_lead_to_a_judged_erasure(tmp_path: Path) -> None:
    stands_for = {
        "~/pictures": str(own_folder(tmp_path / "pictures")),
        "models/base": str(REPO / "data" / "base"),
        "models/clip": str(REPO / "data" / "base" / "clip"),
        "golden retriever": TARGET,
    }
    cwd, outputs = tmp_path, []
    for words in guide():
        if words[0] == "cd":
            cwd /= words[1]
            continue
        line = [stands_for.get(word, word) for word in words]
        if line[1:3] == ["judge", "train"]:  # drawings: without a pretrained judge, as the page has it
            start = line.index("--from")
            line[start : start + 3] = []
            line += [part for item in JUDGE for part in ("--set", item)]
        if line[1] == "run":  # the embedded base was taught "a panda", not "a photo of a panda"
            line += [*small("train.steps=200", "sampler.prompt=a {concept}"), "--json"]
        command = [sys.executable, "-m", "flows.cli", *line[1:]]
        done = subprocess.run(
            command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=900, check=False
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        outputs.append(done.stdout)
    result = json.loads(outputs[-1])
    lineage = json.loads(next(cwd.rglob("lineage.json")).read_text(encoding="utf-8"))
    assert "manifest.csv" in lineage["data"]["files"]  # its own pictures, not the embedded world's
    assert lineage["data"]["md5"] != read_dvc_file(REPO / "data.dvc").md5
    assert result["metrics"]["A_er"] > 50
