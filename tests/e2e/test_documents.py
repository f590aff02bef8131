"""The commands of the documents, typed as they stand there, in a clone of its own whose params.yaml has small
numbers."""

from __future__ import annotations

import datetime as dt
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from fade.provenance.lineage import code_state
from tests.e2e.support import REPO, SMALL, environment

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        code_state()["commit"] is None, reason="the code is no checkout of git: it cannot be cloned"
    ),
]


class Team(NamedTuple):
    """A clone, and a runs folder in which three versions of ``fade-panda`` are registered."""

    project: Path
    runs: Path
    first: dict[str, Any]

    def copied(self, to: Path, *parts: str) -> Path:
        """Some of the runs folder, or all of it: what a page decides or audits stays on that page."""
        for part in parts or (".",):
            shutil.copytree(self.runs / part, to / part, symlinks=True, dirs_exist_ok=True)
        return to

    def type(self, line: str, runs: Path) -> str:
        """What a command says that ends well."""
        words = [sys.executable, "-m", "flows.cli", *shlex.split(line, comments=True)[1:]]
        env = environment({"FADE_RUNS_DIR": str(runs)})
        done = subprocess.run(words, cwd=self.project, env=env, capture_output=True, text=True, timeout=1800)
        assert done.returncode == 0, f"{line}: {done.stderr}{done.stdout}"
        return done.stdout


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    home = tmp_path_factory.mktemp("team")
    project = home / "clone"
    git = ["git", "-c", "user.name=ann", "-c", "user.email=ann@localhost"]
    subprocess.run([*git, "clone", "--quiet", str(REPO), str(project)], check=True, capture_output=True)
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    for item in SMALL:
        key, _, value = item.partition("=")
        section, _, name = key.partition(".")
        params[section][name] = yaml.safe_load(value)
    params["gate"] = dict.fromkeys(params["gate"], 0)  # six steps erase nothing
    params["settings"] = {params["method"]["name"]: ["train.steps=6"]}
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    subprocess.run(
        [*git, "commit", "--quiet", "--all", "--message", "Small numbers"],
        cwd=project,
        check=True,
        capture_output=True,
    )
    found = Team(project, home / "runs", {})
    said = [
        json.loads(found.type(f"fade run --target panda --seed {seed} --json", found.runs))
        for seed in (0, 1, 2)
    ]
    assert [one["model_version"] for one in said] == ["1", "2", "3"]
    return found._replace(first=said[0])


def lines(page: str, changes: Mapping[str, str], section: str = "") -> list[str]:
    """The commands of a page, or of one of its sections, in their order; what is but an example there is what
    it is here."""
    text = (REPO / "docs" / page).read_text(encoding="utf-8")
    if section:
        text = text.split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = [line for line in text.splitlines() if line.startswith("fade ")]
    for example, real in changes.items():
        assert any(example in line for line in found), f"{page} no longer says {example}"
        found = [line.replace(example, real) for line in found]
    return found


def test_registry(team: Team, tmp_path: Path) -> None:
    runs, said = team.copied(tmp_path / "runs"), team.first
    known = {
        "--data": said["data_md5"][:8],
        "--base": said["base_sha256"][:8],
        "--neighbour": f'"{said["neighbours"][0]}"',
    }
    page = "\n".join(lines("registry.md", {}))
    changes = {
        f"{key} {one}": f"{key} {known[key]}"
        for key, one in re.findall(r"(--\w+) (\w+)", page)
        if key in known
    }
    assert len(changes) == len(known)
    asked = [line for line in lines("registry.md", changes) if "keys" not in line]
    heard = {line: team.type(line, runs) for line in asked}
    assert len(heard) == 8
    found = [line for line in asked if line.startswith("fade lineage --")]
    assert len(found) == 2 and all(
        "fade-panda/1" in heard[line] and "fade-panda/3" in heard[line] for line in found
    )
    decided = heard[asked[-1]]
    assert [
        word
        for word in ("promote", "reject", "revoke", "court order, due today", "the bears look alike")
        if word not in decided
    ] == []


def test_signatures(team: Team, tmp_path: Path) -> None:
    runs = team.copied(tmp_path / "runs", "cache", "prefect")
    asked = lines("registry.md", {}, section="Signatures")
    assert [line.split()[1] for line in asked] == ["keys", "run", "verify", "promote"]
    heard = [team.type(line, runs) for line in asked]
    assert "fade-panda" in heard[2] and (team.project / "keys" / "team.pem").stat().st_mode & 0o077 == 0


def test_audit(team: Team, tmp_path: Path) -> None:
    runs = team.copied(tmp_path / "runs")
    team.type("fade promote fade-panda/2 --by ann", runs)
    asked = lines("audit.md", {})
    assert len(asked) == 5
    heard = [team.type(line, runs) for line in asked]
    assert "identical" in heard[-1] and "evidence holds" in heard[-1]


def test_schedule(team: Team, tmp_path: Path) -> None:
    runs, today = team.copied(tmp_path / "runs", "cache", "prefect"), dt.datetime.now(dt.UTC).date()
    dates = {"panda-20261126": f"panda-{today:%Y%m%d}", "2026-12-31": str(today + dt.timedelta(days=30))}
    asked = [
        line for line in lines("schedule.md", dates) if not line.startswith("fade serve ")
    ]  # until Ctrl-C: test_requests.py
    heard = [team.type(line, runs) for line in asked]
    assert [line.split()[1:3] for line in asked[:4]] == [
        ["requests", "add"],
        ["requests", "#"],
        ["requests", "run"],
        ["requests", "run"],
    ]
    assert "open" in heard[1] and "fade-panda/1" in heard[-1]
