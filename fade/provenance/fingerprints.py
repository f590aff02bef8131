"""Fingerprints of code and versions of libraries, for the keys under which results are reused. Ours.

A key must change when the code computes something else, and must not when only its text changed. So what is
hashed is the syntax tree without docstrings, comments, layout and positions, under the names of logical
components (COMPONENTS), not of files: a module that is renamed, moved or split within its component leaves
the fingerprint as it was."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import fade
from fade.utils.hashing import fingerprint
from fade.utils.parsing import parse_yaml

HOME = Path(fade.__file__).parent
ERASERS = "erasers"
"""Folder of the erasers: ``base.py`` is the component ``erasers``, NAME.py is ``erasers/NAME``."""
COMPONENTS: dict[str, tuple[str, ...]] = {
    "adapters": (
        "adapters/adapter_file.py",
        "adapters/adapter_header.py",
        "adapters/change.py",
        "adapters/layers.py",
        "adapters/lora.py",
    ),
    "attacks": ("evaluation/attacks", "mining/real_pictures.py"),
    "determinism": ("training/determinism.py",),
    "erasers": (f"{ERASERS}/base.py",),
    "evaluation": ("evaluation", "evaluation/indirect.yaml"),
    "evaluation/accuracy": ("evaluation/accuracy.py",),
    "evaluation/nudity": (
        "evaluation/nudity.py",
        "evaluation/nudity_pictures.py",
        "evaluation/nudity_protocols.py",
    ),
    "evaluation/protocols": (
        "evaluation/protocols.py",
        "evaluation/published.py",
        "evaluation/published_protocols.py",
    ),
    "generation": ("generation/claims.py", "generation/generator.py"),
    "generation/checks": ("generation/picture_checks.py",),
    "images": ("data/images.py",),
    "judges": ("judges/classifier.py",),
    "metrics": ("evaluation/metrics.py",),
    "mining": ("mining/image_encoder.py", "mining/neighborhood.py"),
    "models": ("models",),
    "models/checks": ("models/judge_checks.py", "models/prompts.py", "models/self_test.py"),
    "moments": ("adapters/moments.py",),
    "pictures": ("data/pictures.py",),
    "seeds": ("utils/seeds.py",),
    "tables": ("data/manifest.py", "data/measurements.py", "data/tables.py"),
    "training": (
        "training/accelerator.py",
        "training/batches.py",
        "training/checkpoint.py",
        "training/denoiser.py",
        "training/loop.py",
        "training/memory.py",
        "training/shared_latents.py",
    ),
    "vocabulary": ("data/vocabulary.py",),
}
"""Logical name -> its files, relative to the package. A folder stands for the modules below it that no other
component names.

The names on the left are in the keys and stay; what moves is corrected on the right.
"""
SHARED = {"__init__", "base"}
"""Modules of the erasers' folder that are no eraser's own."""
OURS = ("fade", "flows", "tasks")
"""Packages whose imports, which name files, are left out. What is imported is in the tree by its name."""


@cache
def code_sha256(*components: str) -> str:
    """Fingerprint of logical components in any order. Raises KeyError for one outside COMPONENTS."""
    return fingerprint({name: files_sha256(component_files(name)) for name in set(components)})


def component_files(component: str) -> list[Path]:
    """The files of a component, sorted. ``erasers/NAME`` need not be in COMPONENTS. Raises KeyError."""
    folder, _, module = component.partition("/")
    if folder == "erasers" and module:
        return [HOME / ERASERS / f"{module}.py"]
    named = {HOME / entry for entries in COMPONENTS.values() for entry in entries}
    files: set[Path] = set()
    for path in (HOME / entry for entry in COMPONENTS[component]):
        inner = {other for other in named if path in other.parents}
        modules = path.rglob("*.py") if path.is_dir() else [path]
        files |= {module for module in modules if not inner & {module, *module.parents}}
    return sorted(files)


@cache
def method_components(name: str) -> tuple[str, ...]:
    """The components of one method: what all share, its own module, and the sibling modules that this one
    imports.

    A method without a module of its name gets the whole folder. A new method leaves the keys of the others as
    they are."""
    components, todo = {"erasers"}, [name]
    while todo:
        module = todo.pop()
        file = HOME / ERASERS / f"{module}.py"
        if not file.is_file():
            every = sorted(path.stem for path in file.parent.glob("*.py") if path.stem not in SHARED)
            return ("erasers", *(f"erasers/{stem}" for stem in every))
        if f"erasers/{module}" not in components:
            components.add(f"erasers/{module}")
            todo += _siblings(file)
    return tuple(sorted(components))


def _siblings(file: Path) -> list[str]:
    """Modules of the methods' package that a file of it imports."""
    package = f"fade.{ERASERS.replace('/', '.')}"
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = ".".join(part for part in (package if node.level else "", node.module) if part)
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    prefix = f"{package}."
    stems = {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}
    return sorted(stem for stem in stems - SHARED if (file.parent / f"{stem}.py").is_file())


def files_sha256(files: Iterable[Path]) -> str:
    """Fingerprint of Python modules and YAML files by content: neither their names nor their order count."""
    statements, imports, data = [], set(), []
    for file in files:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".py":
            module = _Bare.of(text)
            statements += [_dump(statement) for statement in module.body]
            imports |= module.imports
        else:
            data.append(fingerprint(parse_yaml(text)))
    return fingerprint({"statements": sorted(statements), "imports": sorted(imports), "data": sorted(data)})


class _Bare(ast.NodeTransformer):
    """A module without what changes no result.

    Left out: strings that stand alone (docstrings), annotations of functions and variables, ``__all__``, and
    ``if TYPE_CHECKING``. Fields of classes keep their annotations: pydantic and dataclasses act on them.
    Imports are taken out of the tree wherever they stand; those of other packages whose names are used count
    as a set.

    The order of top-level statements is not part of the fingerprint, so that a module can be split. (A test
    refuses modules that bind a top-level name twice.)"""

    def __init__(self) -> None:
        self._bound: dict[str, set[str]] = {}
        self._fields: set[ast.stmt] = set()
        self.body: list[ast.stmt] = []
        self.imports: set[str] = set()

    @classmethod
    def of(cls, text: str) -> _Bare:
        """Raises SyntaxError."""
        self = cls()
        self.body = self.visit(ast.parse(text)).body
        nodes = (node for statement in self.body for node in ast.walk(statement))
        used = {node.id for node in nodes if isinstance(node, ast.Name)}
        self.imports = {origin for name, origins in self._bound.items() if name in used for origin in origins}
        return self

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            if alias.name.partition(".")[0] not in OURS:
                self._bound.setdefault(name, set()).add(f"{name} = {alias.name}")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if not node.level and (node.module or "").partition(".")[0] not in (*OURS, "__future__"):
            for alias in node.names:
                name = alias.asname or alias.name
                self._bound.setdefault(name, set()).add(f"{name} = {node.module}.{alias.name}")

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        alone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if alone else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> Any:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            visited = [self.visit(statement) for statement in node.orelse]
            return [statement for statement in visited if statement is not None]
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if ast.unparse(node.targets[0]) == "__all__" else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node in self._fields:
            return self.generic_visit(node)
        return self.generic_visit(ast.Assign([node.target], node.value)) if node.value is not None else None

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self._fields |= {statement for statement in node.body if isinstance(statement, ast.AnnAssign)}
        return self.generic_visit(node)


def _dump(node: Any) -> str:
    """As ast.dump, but the same on every Python: without what is empty and the parser's hints."""
    if isinstance(node, list):
        return f"[{', '.join(map(_dump, node))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    hints = ("ctx", "kind", "type_comment")
    pairs = ((name, getattr(node, name, None)) for name in node._fields if name not in hints)
    shown = (f"{name}={_dump(value)}" for name, value in pairs if value is not None and value != [])
    return f"{type(node).__name__}({', '.join(shown)})"


def installed() -> dict[str, str]:
    """Every installed distribution and its version, sorted: the lock of this environment."""
    metadata_of = (dist.metadata for dist in metadata.distributions())  # each look at it reads the file
    entries = {entry["Name"]: entry["Version"] for entry in metadata_of if entry["Name"]}
    return dict(sorted(entries.items(), key=lambda item: item[0].lower()))


def versions(names: Sequence[str]) -> dict[str, str | None]:
    """Installed version of each distribution; None when it is not installed."""
    return {name: _version(name) for name in names}


@cache
def _version(name: str) -> str | None:
    # Read once: keys of pictures ask for the same few, hundreds of times a run.
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
