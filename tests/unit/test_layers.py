"""Imports run one way, flows -> tasks -> fade, wherever in a file they stand; and some libraries are never imported at all."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PLUMBING = ("prefect", "mlflow", "dvc", "great_expectations")
FORBIDDEN = {
    "fade": (*PLUMBING, "dvc_data", "dvc_objects", "tasks", "flows", "torchvision", "pickle"),
    "tasks": ("flows", "torchvision", "pickle"),
    "flows": ("torchvision", "pickle"),
}
# The command line is the door: it hands a command to the flow that does it, inside the command, and computes nothing itself.
DOOR = {"fade/cli": ("flows", "tasks")}


def imports(source: str) -> set[tuple[str, int]]:
    """Every top-level package that ``source`` imports, at any depth, with its line; ``import_module("x")`` counts."""
    found: set[tuple[str, int]] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {(alias.name.split(".")[0], node.lineno) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add((node.module.split(".")[0], node.lineno))
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant) and isinstance(node.args[0].value, str):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__"):
                found.add((node.args[0].value.split(".")[0], node.lineno))
    return found


def violations(root: Path, package: str) -> list[str]:
    """``path:line imports x`` for every import in ``package`` that its layer forbids."""
    out = []
    for path in sorted((root / package).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        banned = set(FORBIDDEN[package]) - set(DOOR.get(path.parent.relative_to(root).as_posix(), ()))
        out += [f"{name}:{line} imports {what}" for what, line in sorted(imports(path.read_text(encoding="utf-8"))) if what in banned]
    return out


@pytest.mark.parametrize("package", FORBIDDEN)
def test_no_layer_imports_what_lies_above_it(repo: Path, package: str) -> None:
    assert any((repo / package).rglob("*.py")), f"{package}/ holds no file: nothing was checked"
    assert violations(repo, package) == []


def test_the_door_opens_only_inside_its_commands(repo: Path) -> None:
    files = [path for name in DOOR for path in sorted((repo / name).glob("*.py"))]
    assert len(files) > 1
    for path in files:
        body = ast.parse(path.read_text(encoding="utf-8")).body
        top = [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not {what for node in top for what, _ in imports(ast.unparse(node))} & {*PLUMBING, "tasks", "flows", "torch"}


PLANTED = {
    "at the top": "import {0}\n",
    "a submodule": "from {0}.deep.down import thing\n",
    "renamed": "import os, {0}.x as y\n",
    "in a function": "def f():\n    if True:\n        from {0} import thing\n",
    "for types only": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import {0}\n",
    "by name": "import importlib\nm = importlib.import_module('{0}.x')\n",
    "by dunder": "m = __import__('{0}')\n",
}


@pytest.mark.parametrize("how", PLANTED)
@pytest.mark.parametrize("package", FORBIDDEN)
def test_control_a_planted_import_is_caught(tmp_path: Path, package: str, how: str) -> None:
    file = tmp_path / package / "deep" / "planted.py"
    file.parent.mkdir(parents=True)
    for banned in FORBIDDEN[package]:
        file.write_text(PLANTED[how].format(banned))
        found = violations(tmp_path, package)
        assert len(found) == 1 and found[0].startswith(f"{package}/deep/planted.py:") and found[0].endswith(f"imports {banned}")


def test_control_what_only_looks_like_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "fade" / "innocent.py"
    file.parent.mkdir()
    file.write_text(
        '"""import prefect"""\nfrom . import tasks\nfrom .flows import x\nimport dvcish, pickleball\nname = "mlflow"\nprint("dvc")\n'
    )
    assert violations(tmp_path, "fade") == []


def test_control_the_door_is_one_folder(tmp_path: Path) -> None:
    for name in ("fade/cli/erase.py", "fade/report/cli.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def run():\n    from flows.erase import erase\n    import mlflow\n")
    assert violations(tmp_path, "fade") == [
        "fade/cli/erase.py:3 imports mlflow",
        "fade/report/cli.py:2 imports flows",
        "fade/report/cli.py:3 imports mlflow",
    ]
