"""A fingerprint of code follows what the code computes, not how or where it is written."""

from __future__ import annotations

import ast
import random
import re
import shutil
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fade.provenance.fingerprints
from fade.benchmark import record
from fade.evaluation.attacks import run as attacks
from fade.generation import generator as generator
from fade.mining import neighborhood
from fade.provenance.fingerprints import (
    COMPONENTS,
    HOME,
    code_sha256,
    component_files,
    files_sha256,
    method_components,
)
from fade.training import settings as training

FILES = (
    "training/loop.py",
    "adapters/lora.py",
    "erasers/esd.py",
    "erasers/nullspace.py",
    "models/sampling.py",
    "training/batches.py",
    "judges/classifier.py",
)
Change = Callable[[str], str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that a test may change; `code_sha256.cache_clear()` after each change."""
    copy = tmp_path / "fade"
    shutil.copytree(HOME, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fade.provenance.fingerprints, "HOME", copy)
    code_sha256.cache_clear()
    method_components.cache_clear()
    yield copy
    code_sha256.cache_clear()
    method_components.cache_clear()


def other_docstrings(text: str) -> str:
    tree = ast.parse(text)
    lines = text.splitlines()
    for node in sorted(ast.walk(tree), key=lambda n: getattr(n, "lineno", 0), reverse=True):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            indent = " " * node.col_offset
            lines[node.lineno - 1 : node.end_lineno] = [f'{indent}"""Another text."""']
    return "\n".join(lines) + "\n"


def no_docstrings(text: str) -> str:
    return re.sub(r'^"""Another text\."""\n', "", other_docstrings(text), flags=re.MULTILINE)


def comments(text: str) -> str:
    """A comment before every statement at the top, and behind the last line."""
    return re.sub(r"^(?=(def|class|[A-Z_]+ =) )", "# a comment\n", text, flags=re.MULTILINE) + "# the end\n"


def layout(text: str) -> str:
    """Every blank, quote, bracket and line break as ast.unparse has it."""
    return ast.unparse(ast.parse(text)) + "\n"


def moved_imports(text: str) -> str:
    """As after the modules it imports were moved to other folders."""
    return re.sub(r"\bfade\.(\w+)(?=[\w.]* import)", r"fade.elsewhere.\1", text)


def no_signatures(text: str) -> str:
    """Without annotations of arguments and results."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(tree)


def reversed_definitions(text: str) -> str:
    """The functions and classes at the top in the reverse order, as after a split and a merge."""
    tree = ast.parse(text)
    kinds = (ast.FunctionDef, ast.ClassDef)
    some = [n for n in tree.body if isinstance(n, kinds)]
    tree.body = [n for n in tree.body if not isinstance(n, kinds)] + some[::-1]
    return ast.unparse(tree)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    "change",
    [other_docstrings, no_docstrings, comments, layout, moved_imports, no_signatures, reversed_definitions],
    ids=lambda c: c.__name__,
)
def test_what_changes_the_text_alone_leaves_the_fingerprint(
    tmp_path: Path, file: str, change: Change
) -> None:
    text = (HOME / file).read_text(encoding="utf-8")
    path = tmp_path / "module.py"
    path.write_text(change(text), encoding="utf-8")
    assert path.read_text() != text, "nothing was changed"
    assert files_sha256([path]) == files_sha256([HOME / file])


def test_names_folders_and_order_of_files_do_not_count(tmp_path: Path) -> None:
    files = [HOME / name for name in FILES]
    renamed = []
    for i, path in enumerate(files):
        (tmp_path / f"folder{i}").mkdir()
        renamed.append(tmp_path / f"folder{i}" / f"another{i}.py")
        renamed[-1].write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    random.Random(0).shuffle(renamed)
    assert files_sha256(renamed) == files_sha256(files) != files_sha256(files[1:])


def test_a_module_may_be_split_within_its_component(tmp_path: Path) -> None:
    tree = ast.parse((HOME / "mining/neighborhood.py").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    moved = [node for node in tree.body if getattr(node, "name", "") in ("joint", "training_latents")]
    rest = [node for node in tree.body if node not in moved and node not in imports]
    assert len(moved) == 2
    for name, body in (("one", moved), ("two", rest)):
        (tmp_path / f"{name}.py").write_text(ast.unparse(ast.Module([*imports, *body], [])), encoding="utf-8")
    assert files_sha256(tmp_path.glob("*.py")) == files_sha256([HOME / "mining/neighborhood.py"])


def test_a_package_that_is_rearranged_keeps_its_keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules in other folders under other names, their import lines rewritten, the table corrected."""
    names = (*COMPONENTS, *method_components("nullspace"))
    before = {name: code_sha256(name) for name in names}
    (home / "erasers").rename(home / "methods")
    (home / "loops").mkdir()
    for name in COMPONENTS["training"]:
        (home / name).rename(home / "loops" / f"new_{Path(name).name}")
    for path in home.rglob("*.py"):
        text = path.read_text(encoding="utf-8").replace("fade.erasers", "fade.methods")
        text = re.sub(r"fade\.training\.(batches|checkpoint|loop)\b", r"fade.loops.new_\1", text)
        path.write_text(text, encoding="utf-8")
    there = {**COMPONENTS, "training": ("loops",), "erasers": ("methods/base.py",)}
    monkeypatch.setattr(fade.provenance.fingerprints, "COMPONENTS", dict(reversed(there.items())))
    monkeypatch.setattr(fade.provenance.fingerprints, "ERASERS", "methods")
    code_sha256.cache_clear()
    method_components.cache_clear()
    assert {"erasers", "erasers/esd", "erasers/nullspace"} <= set(method_components("nullspace"))
    assert {name: code_sha256(name) for name in names} == before


def test_the_order_of_components_does_not_count_and_their_names_do() -> None:
    assert code_sha256("models", "seeds") == code_sha256("seeds", "models") != code_sha256("models")
    with pytest.raises(KeyError):
        code_sha256("modles")


CODE = textwrap.dedent(
    '''
    """A module."""
    from __future__ import annotations
    from math import floor
    from typing import Literal
    from pydantic import BaseModel, Field
    from fade.utils.files import write_whole
    RATE = 0.5
    NAMES = ("a", "b")
    class Config(BaseModel):
        """A section."""
        k: int = 5
        """A field."""
        kind: Literal["x", "y"] = "x"
    def loss(a: int, b: int = 2, *, scale: float = 1.0) -> float:
        """The loss."""
        from fade.utils.seeds import named_seed
        if a < b and not scale:
            write_whole(a)
            return floor(a)
        for i in range(3):
            a += i
        total: float = a * b + scale
        return total
    @property
    def sampled(self):
        return f"{self.x:.2f}", [1, True, None], {**self.y}
    '''
)
CHANGED = [
    ("a constant", "RATE = 0.5", "RATE = 0.25"),
    ("its type", "[1, True", "[1, 1"),
    ("an entry", '("a", "b")', '("a",)'),
    ("the order of entries", '("a", "b")', '("b", "a")'),
    ("a default", "b: int = 2", "b: int = 3"),
    ("no default", "b: int = 2", "b: int"),
    ("a keyword's default", "scale: float = 1.0", "scale: float = 2.0"),
    ("a keyword without default", "scale: float = 1.0", "scale: float"),
    ("a positional argument", ", *, scale", ", scale"),
    ("a comparison", "a < b", "a <= b"),
    ("a connective", "and not", "or not"),
    ("a negation", "and not scale", "and scale"),
    ("an operator", "a * b", "a / b"),
    ("an assignment's operator", "a += i", "a -= i"),
    ("a statement less", "        a += i\n", "        pass\n"),
    ("a call less", "        write_whole(a)\n", ""),
    (
        "statements in another order",
        "        write_whole(a)\n        return floor(a)\n",
        "        return floor(a)\n        write_whole(a)\n",
    ),
    ("a name that is used", "return total", "return scale"),
    ("an argument", "range(3)", "range(4)"),
    ("no value", "return total", "return"),
    ("None for no value", "return total", "return None"),
    ("another library's function of the same name", "from math import floor", "from numpy import floor"),
    ("a format", ":.2f", ":.3f"),
    ("a field's default", "k: int = 5", "k: int = 6"),
    ("a field's type", "k: int", "k: float"),
    ("a field's choices", 'Literal["x", "y"]', 'Literal["x"]'),
    ("a field less", "    k: int = 5\n", ""),
    ("a base class", "Config(BaseModel)", "Config"),
    ("a decorator", "@property\n", ""),
    ("a function's name", "def sampled", "def drawn"),
    ("unpacking", "{**self.y}", "{'y': self.y}"),
]


@pytest.mark.parametrize(("old", "new"), [case[1:] for case in CHANGED], ids=[case[0] for case in CHANGED])
def test_what_changes_the_computation_changes_the_fingerprint(tmp_path: Path, old: str, new: str) -> None:
    assert CODE.count(old) == 1
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text(CODE)
    two.write_text(CODE.replace(old, new))
    assert files_sha256([one]) != files_sha256([two])


def test_no_two_of_these_changes_are_taken_for_one_another(tmp_path: Path) -> None:
    path, found = tmp_path / "one.py", set()
    for _, old, new in CHANGED:
        path.write_text(CODE.replace(old, new))
        found.add(files_sha256([path]))
    assert len(found) == len(CHANGED)


SAME = [
    ("an annotation", "b: int = 2", "b: float = 2"),
    ("a variable's annotation", "total: float = ", "total = "),
    ("a result's annotation", " -> float", ""),
    (
        "where a library is imported",
        "from math import floor\n",
        "from typing import Any\nfrom math import floor\n",
    ),
    (
        "from where our own is imported",
        "from fade.utils.files import write_whole",
        "from fade.utils.files import write_whole",
    ),
    ("a lazy import of our own", "    from fade.utils.seeds import named_seed\n", ""),
    ("the text of a field", '"""A field."""', '"""Another."""'),
    ("types only", "RATE = 0.5", "if TYPE_CHECKING:\n    from torch import Tensor\nRATE = 0.5"),
    ("exports", "RATE = 0.5", "__all__ = ['RATE']\nRATE = 0.5"),
]


@pytest.mark.parametrize(("old", "new"), [case[1:] for case in SAME], ids=[case[0] for case in SAME])
def test_annotations_and_imports_of_our_own_do_not_count(tmp_path: Path, old: str, new: str) -> None:
    assert CODE.count(old) == 1
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    one.write_text(CODE)
    two.write_text(CODE.replace(old, new))
    assert files_sha256([one]) == files_sha256([two])


class Mutation(ast.NodeTransformer):
    """Change the n-th number, comparison or operator of a module."""

    def __init__(self, n: int) -> None:
        self.left = n

    def _now(self) -> bool:
        self.left -= 1
        return self.left == -1

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return node
        return ast.Constant(node.value + 1) if self._now() else node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        if self._now():
            node.ops[0] = ast.NotEq() if not isinstance(node.ops[0], ast.NotEq) else ast.Eq()
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if self._now():
            node.op = ast.Sub() if not isinstance(node.op, ast.Sub) else ast.Add()
        return node


@pytest.mark.parametrize("file", FILES)
def test_every_number_comparison_and_operator_of_a_real_module_counts(tmp_path: Path, file: str) -> None:
    text = "\n".join(line for line in (HOME / file).read_text(encoding="utf-8").splitlines())
    seen, n = {files_sha256([HOME / file])}, 0
    while n < 25:
        mutation = Mutation(n)
        tree = mutation.visit(ast.parse(_bare(text)))
        if mutation.left >= 0:
            break
        path = tmp_path / "module.py"
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)), encoding="utf-8")
        fingerprint = files_sha256([path])
        assert fingerprint not in seen, f"mutation {n} was not noticed"
        seen.add(fingerprint)
        n += 1
    assert n > 5


def _bare(text: str) -> str:
    """Without annotations of functions, so that a mutation does not hit one."""
    return no_signatures(text)


def test_comments_of_data_do_not_count_and_their_values_do(home: Path) -> None:
    before, path = code_sha256("evaluation"), home / "evaluation" / "indirect.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(f"# a comment\n{text}", encoding="utf-8")
    code_sha256.cache_clear()
    assert code_sha256("evaluation") == before
    path.write_text(f"{text}\nmore: 1\n", encoding="utf-8")
    code_sha256.cache_clear()
    assert code_sha256("evaluation") != before


def test_every_file_of_the_table_exists_and_is_in_one_component() -> None:
    assert all((HOME / entry).exists() for entries in COMPONENTS.values() for entry in entries)
    files = [path for name in COMPONENTS for path in component_files(name)]
    assert all(component_files(name) for name in COMPONENTS) and max(Counter(files).values()) == 1
    every = {path for folder in ("models", "evaluation") for path in (HOME / folder).rglob("*.py")}
    assert every <= set(files)


NO_PART = (
    "config/",
    "data/manifest.py",
    "errors.py",
    "redact.py",
    "generation/cache.py",
    "generation/picture_checks.py",
    "models/judge_checks.py",
    "models/prompts.py",
    "provenance/",
    "training/settings.py",
    "utils/",
)
"""Settings (their values are in the keys), errors, refusals, files and the keys themselves: they decide no
weight and no pixel. How a blank picture is judged is a component of what judges."""
KEYS = {
    "adapters": ("training/loop.py", (*training.CODE, "erasers")),
    "pictures": ("generation/generator.py", generator.CODE),
    "neighbourhoods": ("mining/neighborhood.py", (*generator.CODE, *neighborhood.CODE)),
    "timed encoders": ("mining/image_encoder.py", (*generator.CODE, *neighborhood.CODE)),
    "attacks": ("evaluation/attacks/run.py", attacks.CODE),
    "cells": ("evaluation/evaluate.py", (*record.SHARED, "erasers")),
    "cells' indirect prompts": ("evaluation/indirect.py", (*record.SHARED, "erasers")),
}


@pytest.mark.parametrize("what", KEYS)
def test_a_key_covers_every_module_behind_its_result(what: str) -> None:
    first, components = KEYS[what]
    covered = {path for name in components for path in component_files(name)}
    found = {
        path for path in imported(HOME / first) if path.name != "__init__.py" or path.stat().st_size > 300
    }
    decide = {path for path in found if not path.relative_to(HOME).as_posix().startswith(NO_PART)}
    reached = decide | (found & {HOME / "utils/seeds.py"})
    assert HOME / first in reached and reached <= covered, sorted(
        str(path.relative_to(HOME)) for path in reached - covered
    )


def test_what_makes_a_process_repeat_itself_is_in_the_keys() -> None:
    """Nothing that trains imports it: it is called once a process, before the base is loaded."""
    assert all("determinism" in code for code in (training.CODE, generator.CODE, attacks.CODE, record.SHARED))


def imported(first: Path) -> set[Path]:
    """The modules of the package that a file imports, at any depth, itself included."""
    found, todo = set(), [first]
    while todo:
        path = todo.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "fade":
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name.startswith("fade.")]
            for name in names:
                place = HOME.joinpath(*name.split(".")[1:])
                todo += [
                    path
                    for path in (place / "__init__.py", place.with_suffix(".py"))
                    if path.is_file() and name != "fade"
                ]
    return found


def test_no_module_of_a_key_binds_a_top_level_name_twice() -> None:
    """What lets the order of top-level statements be left out of a fingerprint."""
    files = [path for name in COMPONENTS for path in component_files(name)] + sorted(
        (HOME / "erasers").glob("*.py")
    )
    for path in {path for path in files if path.suffix == ".py"}:
        names = []
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign | ast.AugAssign)
                else []
            )
            names += [ast.unparse(target) for target in targets]
            names += [node.name] if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        assert max(Counter(names).values(), default=1) == 1, (path, names)


def test_what_a_method_imports_from_another_is_its_code_too(home: Path) -> None:
    text = "from fade.erasers.base import Batch, esd\nfrom fade.erasers.uce import uce\nfrom . import spm\n"
    (home / "erasers" / "novel.py").write_text(text)
    assert method_components("novel") == (
        "erasers",
        "erasers/esd",
        "erasers/novel",
        "erasers/spm",
        "erasers/uce",
    )
    every = method_components("without-a-file")
    assert set(every) == {
        "erasers",
        *(f"erasers/{path.stem}" for path in (home / "erasers").glob("[a-z]*.py") if path.stem != "base"),
    }


def test_another_methods_code_and_a_new_method_change_no_other_methods_code(home: Path) -> None:
    def esd() -> str:
        code_sha256.cache_clear()
        method_components.cache_clear()
        return code_sha256(*method_components("esd"))

    before = esd()
    (home / "erasers" / "novel.py").write_text("x = 1\n")
    fade_module = home / "erasers" / "fade.py"
    fade_module.write_text(fade_module.read_text(encoding="utf-8") + "\nx = 1\n", encoding="utf-8")
    assert esd() == before
    own = home / "erasers" / "esd.py"
    own.write_text(own.read_text(encoding="utf-8") + "\nx = 1\n", encoding="utf-8")
    assert esd() != before
