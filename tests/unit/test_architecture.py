"""docs/architecture.md: every place that it names is there, and its recipes work as written."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fade.config import ChecksConfig
from tasks.data.expectations import Rule, picture_rules
from tasks.data.verdicts import verdict_key

NEW_METHOD = '''
"""A further method: the target's prediction becomes the null prompt's."""

from fade.config.method import MethodOptions
from fade.erasers.base import Eraser, register


class Config(MethodOptions):
    """Its knob."""

    null_weight: float = 2.0
    """Weight of the only term."""


def null(eps, batch, config):
    n = len(batch.x)
    goal = eps.teacher(batch.x, batch.t, batch.null.expand(n, -1, -1))
    loss = ((eps.student(batch.x, batch.t, batch.target.expand(n, -1, -1)) - goal) ** 2).mean()
    return config.null_weight * loss, {"null": loss.detach()}


register(Eraser("vanish", "plain", "a test", Config, null))
'''


@pytest.fixture(scope="module")
def page(repo: Path) -> str:
    return (repo / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_file_and_name_of_the_map_is_there(repo: Path, page: str) -> None:
    paths = set(re.findall(r"`((?:fade|tasks|flows|tests)/[\w/.-]+)`", page))
    assert (
        len(paths) > 15
        and [path for path in paths if "NAME" not in path and not (repo / path).exists()] == []
    )
    rows = re.findall(r"^\| .* \| (.+) \|$", page, re.MULTILINE)
    named = [
        found for row in rows for found in re.findall(r"((?:`[\w.]+`(?: and )?)+) in `([\w/]+\.py)`", row)
    ]
    assert len(named) > 4
    for names, path in named:
        tree = ast.parse((repo / path).read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        assert {
            part for name in re.findall(r"[\w.]+", names.replace(" and ", " ")) for part in name.split(".")
        } <= defined, path


def test_every_room_is_on_the_page(repo: Path, page: str) -> None:
    for top in ("fade", "tasks", "flows"):
        rooms = {path.parent.name for path in (repo / top).glob("*/__init__.py")}
        assert [room for room in sorted(rooms) if f"{room}/" not in page] == []


def test_a_method_is_added_by_one_file(repo: Path, tmp_path: Path) -> None:
    for name in ("fade", "flows", "tasks"):
        shutil.copytree(repo / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "fade" / "erasers" / "vanish.py").write_text(NEW_METHOD, encoding="utf-8")
    params = (
        (repo / "params.yaml")
        .read_text(encoding="utf-8")
        .replace("  erase_weight:", "  null_weight: 3.0\n  erase_weight:")
    )
    (tmp_path / "params.yaml").write_text(params, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    listed = subprocess.run(
        [sys.executable, "-m", "flows.cli", "methods"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert "vanish/plain" in listed.stdout
    code = (
        "from pathlib import Path; from fade.run.resolve_params import resolve; from fade.erasers.base "
        "import get_eraser;"
        "p = resolve(Path('params.yaml'), ['method.name=vanish', 'method.variant=plain']);"
        "print(get_eraser('vanish', 'plain').config_of(p.method).null_weight)"
    )
    used = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert used.stdout.strip() == "3.0", used.stderr


def test_a_further_data_check_leaves_no_kept_verdict_in_force() -> None:
    """tests/integration/test_validate.py runs a further rule."""
    rules = picture_rules(ChecksConfig())
    columns = {"column_A": "width", "column_B": "height"}
    further = Rule("square", "Every picture is square", "ColumnPairValuesToBeEqual", columns)
    keys = [verdict_key({"pictures": some}, content="c") for some in (rules, rules, [*rules, further])]
    assert keys[0] == keys[1] != keys[2]
