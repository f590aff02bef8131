"""The Makefile documents itself, prepares once, and refuses with a sentence. make only prints here: nothing
is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def make(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run make in ``folder``, without the variables of a make that may have started these tests."""
    env = {
        key: value
        for key, value in os.environ.items()
        if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "ARGS", "VENV", "PYTHON", "EXTRAS")
    }
    return subprocess.run(
        ["make", "--no-print-directory", *args],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


def targets(repo: Path) -> set[str]:
    """The targets of the Makefile that a person calls."""
    found = re.search(r"^\.PHONY: (.+)$", (repo / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return set(found[1].split())


@pytest.fixture
def clone(repo: Path, tmp_path: Path) -> Path:
    """A folder with what the set-up reads, and an environment that looks made."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(repo / name, tmp_path / name)
    return tmp_path


def test_help_is_the_default_and_lists_every_target(repo: Path) -> None:
    said = make(repo)
    assert said.returncode == 0 and said.stderr == "" and said.stdout == make(repo, "help").stdout
    listed = dict(re.findall(r"^  make (\S+) +(\S.*)$", said.stdout, re.MULTILINE))
    assert set(listed) == targets(repo)
    assert {"help", "setup", "run", "test", "unit", "lint", "ui", "pretrain", "clean"} <= set(listed)


def test_every_rule_with_commands_for_people_is_phony(repo: Path) -> None:
    rules = set(re.findall(r"^([a-z-]+):", (repo / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert rules == targets(repo)


@pytest.mark.parametrize("name", ["README.md", ".ci/run", "docs/installation.md"])
def test_every_make_command_that_is_written_down_exists(repo: Path, name: str) -> None:
    text = (repo / name).read_text(encoding="utf-8")
    alone = re.findall(
        r"^\s*(?:\$ )?make ([a-z-]+)(?: [A-Z]+=\S+)*\s*(?:#.*)?$", text, re.MULTILINE
    )  # not prose that begins with "make"
    named = {*alone, *re.findall(r"`make ([a-z-]+)", text)}
    assert named, f"{name} names no make command"
    assert named <= targets(repo)
    if name == "README.md":
        assert {"run", "test"} <= named


@pytest.mark.parametrize("target", ["run", "test"])
def test_each_command_works_first_it_makes_and_installs_before_it_runs(clone: Path, target: str) -> None:
    plan = make(clone, "-n", target, "PYTHON=python3").stdout
    steps = [
        plan.index(" -m venv .venv"),
        plan.index("--constraint constraints.txt --editable"),
        plan.index("touch .venv/.fade-setup-"),
    ]
    last = plan.index(".venv/bin/fade run" if target == "run" else ".venv/bin/python -m pytest")
    assert steps == sorted(steps) and steps[-1] < last
    assert "--upgrade" not in plan and " -U " not in plan


def stamp(clone: Path, *args: str) -> str:
    found = re.search(
        r"touch (\.venv/\.fade-setup-\d+)", make(clone, "-n", "setup", "PYTHON=python3", *args).stdout
    )
    assert found
    return found[1]


def test_a_second_call_skips_until_a_file_or_an_extra_changes(clone: Path) -> None:
    first = stamp(clone)
    (clone / ".venv").mkdir()
    (clone / first).touch()
    assert "pip install" not in make(clone, "-n", "test").stdout
    os.utime(clone / "pyproject.toml")  # touched, not changed: a fresh checkout of the same commit
    assert "pip install" not in make(clone, "-n", "test").stdout
    assert stamp(clone, "EXTRAS=test") != first
    for name in ("pyproject.toml", "constraints.txt"):
        with (clone / name).open("a") as file:
            file.write("# changed\n")
        assert stamp(clone) != first
        first = stamp(clone)


def test_variables_can_be_overridden(clone: Path) -> None:
    plan = make(
        clone, "-n", "run", "PYTHON=python3", "VENV=elsewhere", "ARGS=--target tulip", "EXTRAS=test"
    ).stdout
    assert (
        "python3 -m venv elsewhere" in plan
        and "elsewhere/bin/fade run --target tulip" in plan
        and "'.[test]'" in plan
    )


@pytest.mark.parametrize("python", ["/nonexistent/python", "false"])
def test_a_python_that_is_missing_or_too_old_is_refused_before_anything_is_made(
    clone: Path, python: str
) -> None:
    said = make(clone, "setup", f"PYTHON={python}")
    assert said.returncode != 0 and f"'{python}' is missing or older than Python 3.11. Next: " in said.stderr
    assert not (clone / ".venv").exists()


def test_clean_removes_no_folder_that_is_not_an_environment(clone: Path) -> None:
    (clone / "precious").mkdir()
    said = make(clone, "clean", "VENV=precious")
    assert (
        said.returncode != 0 and "is no Python environment" in said.stderr and (clone / "precious").is_dir()
    )


def test_constraints_are_portable_and_pin_torch(repo: Path) -> None:
    lines = [
        line
        for line in (repo / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line) for line in lines), (
        "a local suffix, a path or a loose pin"
    )
    pins = dict(line.split("==") for line in lines)
    assert pins["torch"] == "2.13.0" and "torchvision" not in pins and len(pins) == len(lines)


def test_constraints_satisfy_the_ranges_and_pin_every_direct_requirement(repo: Path) -> None:
    import tomllib

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    project = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    texts = [
        *project["dependencies"],
        *(
            text
            for name, extra in project["optional-dependencies"].items()
            if name != "nudity"
            for text in extra
        ),
    ]  # AGPL: never in the default
    lines = [
        line
        for line in (repo / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if "==" in line and not line.startswith("#")
    ]
    pins = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines}
    for requirement in map(Requirement, texts):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin is not None, f"{requirement.name} is not pinned"
        assert requirement.specifier.contains(pin), f"{requirement} against {pin}"
