"""Faster imports: without the collector of cycles, without listing all installed packages again and again,
and without what a library would only use if it happened to be there, or not before it is used. Ours."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

_LISTS = metadata.packages_distributions
_listed = cache(_LISTS)


@contextmanager
def importing() -> Iterator[None]:
    """The collector rests inside; afterwards it leaves alone what is there, and goes on with what is new.
    Packages are listed once.

    Left on, it walks through all that was imported so far, again and again, and finds nothing: a tenth to a
    sixth of the time of big imports. Whatever cycle was garbage inside stays in memory: enter it at a
    process's start. The list of packages, a third of a second, is asked for by transformers and diffusers
    each."""
    was = gc.isenabled()
    gc.disable()
    metadata.packages_distributions = _listed
    try:
        yield
    finally:
        metadata.packages_distributions = _LISTS
        gc.freeze()
        if was:
            gc.enable()


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Libraries that count as not installed inside; one that is imported already stays.

    Whoever asks for one inside goes without it for as long as the process lives, so this is for processes
    that do one thing. For the whole process: another thread that imports meanwhile is refused, too."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None is Python's own way to say that there is none
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)


class _Later(ModuleType):
    """A module before it is loaded: that happens when something is asked of it that it has not."""

    def __getattr__(self, name: str) -> Any:
        with _loading:
            if type(self) is _Later and name not in _BEFORE and self not in _begun:
                _begun.append(self)
                try:
                    assert self.__spec__ is not None
                    self.__spec__.loader_state.exec_module(self)
                    object.__setattr__(self, "__class__", ModuleType)
                finally:
                    _begun.remove(self)
            return object.__getattribute__(self, name)


_loading = threading.RLock()
_begun: list[ModuleType] = []
_BEFORE = ("__path__", "__file__", "__cached__", "__warningregistry__")
"""What Python itself asks of any module, and gets along without."""


class _Finder(MetaPathFinder, Loader):
    """Finds the named modules, and loads them later.

    Python's own LazyLoader loads a module that is imported twice.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in self._names else None
        if spec is not None:
            spec.loader_state, spec.loader = spec.loader, self
        return spec

    def exec_module(self, module: ModuleType) -> None:
        module.__class__ = _Later


@contextmanager
def lazily(*names: str) -> Iterator[None]:
    """Modules that are loaded only when something of theirs is used, if they are imported inside.

    What is wrong with one is found then, too. ``from module import name`` uses it at once.
    """
    finder = _Finder(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
