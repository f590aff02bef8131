"""Imports run one way, flows -> tasks -> fade, and through the floors of each: the contracts in
pyproject.toml, without an exception."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PLUMBING = ("prefect", "mlflow", "dvc", "great_expectations")
BANNED = ("torchvision", "pickle")
PACKAGES = ("fade", "flows", "tasks")


def check_contracts(root: Path) -> subprocess.CompletedProcess[str]:
    """import-linter over the packages below ``root``, with the contracts of its pyproject.toml."""
    line = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as main; main()",
        "--no-cache",
    ]
    return subprocess.run(
        line, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True
    )


def test_the_contracts_hold(repo: Path) -> None:
    done = check_contracts(repo)
    assert done.returncode == 0, done.stdout


def test_no_contract_has_an_exception(repo: Path) -> None:
    contracts = tomllib.loads((repo / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    assert {"floors", "fade", "tasks", "flows", "science", "banned", "circles"} <= {
        contract["id"] for contract in contracts
    }
    loose = {
        "ignore_imports",
        "unmatched_ignore_imports_alerting",
        "allow_indirect_imports",
        "skip_descendants",
        "exhaustive_ignores",
    }
    assert [contract["id"] for contract in contracts if loose & set(contract)] == []
    assert all(contract["exhaustive"] for contract in contracts if "containers" in contract)


def test_no_module_lies_outside_a_room(repo: Path) -> None:
    flat = {
        name: {path.name for path in (repo / name).glob("*.py")} - {"__init__.py"}
        for name in ("fade", "tasks")
    }
    assert flat == {"fade": {"errors.py", "redact.py"}, "tasks": set()}


@pytest.fixture(scope="module")
def copy(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("planted")
    for name in PACKAGES:
        shutil.copytree(repo / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repo / "pyproject.toml", root)
    return root


PLANTED = {
    "a lower package imports a higher one": ("tasks/launch/planted.py", "from flows.server import runtime"),
    "the science imports an adapter": (
        "fade/utils/planted.py",
        "def f():\n    from tasks.launch import environment",
    ),
    "the science imports plumbing": ("fade/config/planted.py", "import mlflow.entities"),
    "a lower floor imports a higher one": ("fade/utils/planted.py", "from fade.reporting import html"),
    "for types only": (
        "fade/models/planted.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fade.run import context",
    ),
    "two rooms of one floor": ("fade/mining/planted.py", "from fade.training import loop"),
    "a circle": ("fade/utils/planted/a.py", "from fade.utils.planted import b"),
    "a banned library": ("flows/planted.py", "import pickle"),
    "a room without a floor": ("fade/planted/a.py", "x = 1"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_control_a_planted_import_is_caught(copy: Path, what: str) -> None:
    name, text = PLANTED[what]
    file = copy / name
    new = not file.parent.exists()
    file.parent.mkdir(exist_ok=True)
    try:
        file.write_text(text + "\n")
        if new:
            (file.parent / "__init__.py").write_text("")
            file.with_name("b.py").write_text(
                f"from {'.'.join(file.parent.relative_to(copy).parts)} import a\n"
            )
        done = check_contracts(copy)
        assert done.returncode == 1 and "planted" in done.stdout
    finally:
        shutil.rmtree(file.parent) if new else file.unlink()


# import-linter does not see an import by name.
BY_NAME = {"fade": (*PLUMBING, *BANNED, "tasks", "flows"), "tasks": ("flows", *BANNED), "flows": BANNED}


def imports_by_name(source: str) -> set[tuple[str, int]]:
    """Top-level packages that ``import_module("x")`` and ``__import__("x")`` name, with the line."""
    found: set[tuple[str, int]] = set()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, str)
        ):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__"):
                found.add((node.args[0].value.split(".")[0], node.lineno))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_is_imported_by_name_that_must_not_be_imported(repo: Path, package: str) -> None:
    named = {
        path: imports_by_name(path.read_text(encoding="utf-8"))
        for path in sorted((repo / package).rglob("*.py"))
    }
    assert [
        (path, line, what)
        for path, found in named.items()
        for what, line in found
        if what in BY_NAME[package]
    ] == []


def test_control_an_import_by_name_is_seen() -> None:
    assert imports_by_name(
        "import importlib\nm = importlib.import_module('mlflow.x')\nn = __import__('flows')\nprint('dvc')\n"
    ) == {
        ("mlflow", 2),
        ("flows", 3),
    }


def test_the_command_line_imports_the_flows_inside_its_commands(repo: Path) -> None:
    files = sorted((repo / "flows" / "cli").glob("*.py"))
    assert len(files) > 1
    for path in files:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            heavy = [
                m
                for m in modules
                if m.split(".")[0] in (*PLUMBING, "tasks", "torch")
                or (m.startswith("flows.") and not m.startswith("flows.cli"))
            ]
            assert not heavy, (path.name, heavy)
