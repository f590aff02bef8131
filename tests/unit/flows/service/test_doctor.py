"""`fade doctor` on a new project says what is missing, and what to type, without a look at the network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.service.doctor import Finding, examine
from flows.service.new_project import ProjectOptions, create_project
from tests.datasets import make_dataset


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new project of which nothing is there yet."""

    def fetched(*_: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("fade.models.layout.fetch", fetched)
    monkeypatch.setattr("flows.service.doctor._prefect", lambda: "not asked here")
    options = ProjectOptions("models/base", Path("sets/mine"), "judges/mine", "models/clip", family="sd")
    create_project(tmp_path / "project", options)
    return tmp_path / "project"


def findings(project: Path) -> dict[str, Finding]:
    return {one.name: one for one in examine(project / "params.yaml", project / "runs")}


def test_a_new_project_s_missing_parts_are_named_with_the_next_command(project: Path) -> None:
    found = findings(project)
    assert {name for name, one in found.items() if not one.ok} == {"pictures", "base", "clip", "judge"}
    assert "fade data import" in found["pictures"].text
    assert "fade judge train sets/mine" in found["judge"].text
    assert all("is not there" in found[name].text for name in ("base", "clip", "judge"))


def test_a_judge_of_other_names_is_named(project: Path) -> None:
    make_dataset(project / "sets" / "mine")
    judge = project / "judges" / "mine"
    judge.mkdir(parents=True)
    (judge / "config.json").write_text(json.dumps({"id2label": {"0": "panda", "1": "tulip"}}), "utf-8")
    found = findings(project)
    assert found["pictures"].ok and not found["names"].ok
    assert "does not know 2 of the 4 concepts: 'koala', 'rose'" in found["names"].text
