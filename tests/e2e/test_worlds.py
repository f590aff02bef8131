"""The default world is replaced: a version of the old one loads, verifies and audits against its own data,
and is refused by name once that data is gone."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fade.data.dvcfile import read_dvc_file
from fade.provenance.lineage import code_state
from tasks.data.publish import publish
from tests.e2e.support import REPO, fade, fade_each, small

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(code_state()["commit"] is None, reason="the code is no checkout of git"),
    # DVC's `add` reads a property that pygtrie is about to drop
    pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning"),
]
OLD = "replaced"
"""A name that no world of the repository has."""
UNET = "base/unet/diffusion_pytorch_model.safetensors"


@dataclass(frozen=True)
class Project:
    """A clone of this repository whose data.dvc was switched after panda was erased."""

    root: Path
    runs: Path
    remote: Path
    """Outside of the repository, as a team's is: no commit brings its objects back."""
    old_md5: str
    run: dict[str, Any]
    """What the run on the old world printed."""

    def each(self, *lines: Sequence[str]) -> list[subprocess.CompletedProcess[str]]:
        return fade_each(*lines, runs=self.runs, cwd=self.root)


def git(at: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.hooksPath=/dev/null"]
    subprocess.run(["git", *who, *words], cwd=at, check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    home = tmp_path_factory.mktemp("switched")
    root, runs, remote = home / "project", home / "runs", home / "remote"
    git(home, "clone", "-q", "--shared", str(REPO), str(root))
    shutil.copytree(REPO / "remote", remote)
    config = root / ".dvc" / "config"
    config.write_text(config.read_text().replace("../remote", str(remote)))
    git(root, "commit", "-qam", "a remote of the team's")
    done = fade("run", "--target", "panda", "--json", *small(), runs=runs, cwd=root)
    assert done.returncode == 0, done.stderr
    old_md5 = read_dvc_file(root / "data.dvc").md5
    switch(root, runs, old_md5)
    return Project(root, runs, remote, old_md5, json.loads(done.stdout))


def switch(root: Path, runs: Path, old_md5: str) -> None:
    """As docs/world.md has it: the old world gets a .dvc file of its own, data.dvc the new one."""
    from safetensors.torch import load_file, save_file

    kept = (root / "data.dvc").read_text().replace("path: data", f"path: {OLD}")
    (root / "worlds" / f"{OLD}.dvc").write_text(kept)
    weights = load_file(root / "data" / UNET)
    first = sorted(weights)[0]
    (root / "data" / UNET).unlink()  # it may be a link into DVC's cache
    save_file({**weights, first: weights[first] * 1.01}, root / "data" / UNET, metadata={"format": "pt"})
    publish(root, runs)
    new_md5 = read_dvc_file(root / "data.dvc").md5
    assert new_md5 != old_md5
    params = yaml.safe_load((root / "params.yaml").read_text())
    world = next(iter(params["worlds"].values()))  # the default
    moved = [item.replace("=data/", f"=worlds/{OLD}/") for item in world["settings"]]
    params["worlds"][OLD] = {"dvc_files": {f"worlds/{OLD}.dvc": old_md5}, "settings": moved}
    world["dvc_files"] = {"data.dvc": new_md5}
    (root / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    git(root, "add", "-A")
    git(root, "commit", "-qm", "another world is the default")


def test_a_version_of_the_old_world_verifies_and_loads_where_its_world_is_named(
    project: Project, tmp_path: Path
) -> None:
    draw = ["generate", "a panda", "-n", "2", "--set", "sampler.steps=2", "--model", "fade-panda/1"]
    pictures = [tmp_path / f"{i}.png" for i in range(4)]
    verified, other, absent, typo, pulled, drawn, mixed = project.each(
        ["verify", "fade-panda/1", "--json"],
        [*draw, "--out", str(pictures[0])],
        [*draw, "--out", str(pictures[1]), "--world", OLD],
        [*draw, "--out", str(pictures[2]), "--world", f"{OLD}x"],
        ["pull", "--world", OLD],
        [*draw, "--out", str(pictures[3]), "--world", OLD],
        ["run", "--world", OLD, "--style", "noto"],
    )
    assert verified.returncode == 0, verified.stderr
    assert any(row["what"] == "header and record" for row in json.loads(verified.stdout))
    assert other.returncode == 1 and "of another world" in other.stderr, other.stderr
    assert f"Next: add --world {OLD} (`fade pull --world {OLD}` fetches it)." in " ".join(
        other.stderr.split()
    )
    assert absent.returncode == 1 and f"Next: fetch it with `fade pull --world {OLD}`" in absent.stderr
    assert typo.returncode == 2 and f"did you mean '{OLD}'" in typo.stderr
    assert pulled.returncode == 0 and project.old_md5 in pulled.stdout, pulled.stderr
    assert drawn.returncode == 0, drawn.stderr
    assert [path.exists() for path in pictures] == [False, False, False, True]
    assert mixed.returncode == 2 and f"is no part of the world '{OLD}'" in mixed.stderr, mixed.stderr


def test_an_audit_of_it_replays_it_on_the_old_data(project: Project) -> None:
    done = fade("audit", "fade-panda/1", "--no-control", "--json", runs=project.runs, cwd=project.root)
    assert done.returncode == 0, done.stderr + done.stdout
    (found,) = json.loads(done.stdout)
    assert found["verdict"]["name"] == "identical"
    assert found["again"]["data"]["md5"] == project.old_md5 == project.run["data_md5"]
    assert found["again"]["outputs"]["adapter_sha256"] == project.run["adapter_sha256"]
    held = {row["what"]: row["holds"] for row in found["evidence"]}
    assert held["data"] is True and held["code"] is True


def test_once_the_old_world_is_gone_from_remote_and_disk_it_is_refused_by_name(project: Project) -> None:
    md5 = project.old_md5
    (project.remote / "files" / "md5" / md5[:2] / md5[2:]).unlink()
    shutil.rmtree(project.root / "worlds" / OLD, ignore_errors=True)
    shutil.rmtree(project.root / ".dvc" / "cache")
    pulled, drawn, verified = project.each(
        ["pull", "--world", OLD],
        ["generate", "a panda", "--model", "fade-panda/1", "--world", OLD],
        ["verify", "fade-panda/1"],
    )
    assert pulled.returncode == 1 and f"missing: object {md5}" in pulled.stderr, pulled.stderr
    assert drawn.returncode == 1 and f"the world '{OLD}' is not here" in drawn.stderr, drawn.stderr
    assert verified.returncode == 0, "its record and its bytes need no data"
    audited = fade("audit", "fade-panda/1", "--no-control", "--json", runs=project.runs, cwd=project.root)
    assert audited.returncode == 1, audited.stdout
    (found,) = json.loads(audited.stdout)
    assert found["verdict"]["name"] == "not reproducible"
    said = found["verdict"]["said"]
    assert f"missing: object {md5}" in said and f"`fade pull --world {OLD}`" in said, said
