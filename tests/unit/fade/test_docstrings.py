"""Every public function of a room has a docstring that names the errors which the function raises."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FADE = Path(__file__).parents[3] / "fade"
ROOMS = ("utils", "data")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def faults(source: str) -> list[str]:
    """The public functions and methods of a module without a docstring, or whose docstring lacks an error."""
    tree = ast.parse(source)
    helpers = {node.name: node for node in ast.walk(tree) if isinstance(node, Function)}
    out = []
    for name, function, owner in public(tree):
        text = ast.get_docstring(function) or ""
        if name.endswith(("__init__", "__post_init__")):
            text += ast.get_docstring(owner) or ""
        elif not text and not name.rpartition(".")[2].startswith("__"):
            out.append(f"{name} has no docstring")
        out += [f"{name} raises {error}" for error in sorted(raised(function, helpers)) if error not in text]
    return out


def public(tree: ast.Module) -> Iterator[tuple[str, Function, ast.AST]]:
    """Qualified name, definition and owner of every function that other modules may call."""
    for node in tree.body:
        if isinstance(node, Function) and not node.name.startswith("_"):
            yield node.name, node, tree
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for method in node.body:
                hidden = (
                    isinstance(method, Function)
                    and method.name.startswith("_")
                    and not method.name.endswith("__")
                )
                if isinstance(method, Function) and not hidden:
                    yield f"{node.name}.{method.name}", method, node


def raised(function: Function, helpers: dict[str, Function], known: frozenset[str] = frozenset()) -> set[str]:
    """The errors that a function raises itself, or through a function of its own module."""
    errors: set[str] = set()
    for node, caught in uncaught(function):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            errors |= classes(node.exc, helpers) - caught
        name = called(node)
        if name in helpers and name not in known:
            errors |= raised(helpers[name], helpers, known | {name}) - caught
    return errors


def uncaught(node: ast.AST, caught: frozenset[str] = frozenset()) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """Every node below ``node`` with the errors that a ``try`` around it catches."""
    yield node, caught
    inside = caught
    if isinstance(node, ast.Try):
        types = [ast.walk(handler.type) for handler in node.handlers if handler.type is not None]
        inside = caught | {name.id for walk in types for name in walk if isinstance(name, ast.Name)}
    for child in ast.iter_child_nodes(node):
        body = isinstance(node, ast.Try) and child in node.body
        yield from uncaught(child, inside if body else caught)


def called(node: ast.AST) -> str:
    """The plain name of a call, or of a method of self; "" for anything else."""
    if not isinstance(node, ast.Call):
        return ""
    if (
        isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "self"
    ):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def classes(call: ast.Call, helpers: dict[str, Function]) -> set[str]:
    """The class of the error that a call makes: the called class, or what a called helper returns."""
    name = called(call)
    returns = helpers[name].returns if name in helpers else None
    if returns is not None:
        return {ast.unparse(returns)}
    if name in ("storage_error", "disk_full"):
        return {"StorageError"}
    return {name} if name.endswith("Error") else set()


MODULES = sorted(path for room in ROOMS for path in (FADE / room).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(FADE).as_posix())
def test_docstrings_name_the_errors(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


def test_the_check_finds_what_is_missing() -> None:
    source = """
def bare(): pass
def direct():
    '''Words.'''
    raise DataError("x")
def indirect():
    '''Raises DataError.'''
    return _helper()
def _helper():
    raise fault("x")
def fault(x) -> RemoteError:
    '''Words.'''
class Thing:
    '''Raises BusyError.'''
    def __init__(self): raise BusyError("x")
    def method(self): return self._other()
    def _other(self): raise StorageError("x")
def complete():
    '''Raises OSError.'''
    try:
        raise ValueError("x")
    except (ValueError, TypeError):
        raise OSError("x")
"""
    assert faults(source) == [
        "bare has no docstring",
        "direct raises DataError",
        "indirect raises RemoteError",
        "Thing.method has no docstring",
        "Thing.method raises StorageError",
    ]
