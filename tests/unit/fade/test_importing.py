"""The collector of cycles rests while libraries are imported, and is as it was afterwards."""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fade.importing import importing, lazily, without


def test_it_rests_inside_and_leaves_alone_what_came_meanwhile() -> None:
    assert gc.isenabled()
    before = gc.get_freeze_count()
    with importing():
        assert not gc.isenabled()
        kept = [[i] for i in range(1000)]
    assert gc.isenabled() and gc.get_freeze_count() >= before + len(kept)


def test_where_it_was_off_it_stays_off() -> None:
    gc.disable()
    try:
        with importing():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_a_process_goes_without_is_there_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "heavy_one.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    with without("heavy_one", "json"):
        assert importlib.util.find_spec("heavy_one") is None  # how the libraries ask
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("heavy_one")
        assert importlib.import_module("json") is json, "what is there already stays"
    assert importlib.util.find_spec("heavy_one") is not None
    monkeypatch.delitem(sys.modules, importlib.import_module("heavy_one").__name__)


def test_it_is_there_again_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), without("no_such_library"):
        raise ZeroDivisionError
    assert "no_such_library" not in sys.modules


def slow_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str = "loaded.append(1)\nvalue = 7\n"
) -> list[int]:
    """A module ``slow_one.inner`` that says when it is loaded."""
    loaded: list[int] = []
    monkeypatch.setitem(sys.modules, "loaded_here", SimpleNamespace(loaded=loaded))
    (folder / "slow_one").mkdir()
    (folder / "slow_one" / "__init__.py").write_text("")
    (folder / "slow_one" / "inner.py").write_text(f"from loaded_here import loaded\n{text}")
    monkeypatch.syspath_prepend(folder)
    for name in ("slow_one", "slow_one.inner"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return loaded


def test_what_is_imported_lazily_is_loaded_when_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, however often it is imported."""
    loaded = slow_one(tmp_path, monkeypatch)
    before = list(sys.meta_path)
    with lazily("slow_one.inner"):
        for _ in range(2):
            inner = importlib.import_module("slow_one.inner")
        assert __import__("slow_one", fromlist=["inner"]).inner is inner  # from slow_one import inner
    assert loaded == [] and sys.meta_path == before
    assert (inner.value, inner.value, loaded) == (7, 7, [1])
    assert type(inner) is ModuleType and inner.__file__ == str(tmp_path / "slow_one" / "inner.py")
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = inner.other


def test_two_threads_that_use_it_load_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = slow_one(tmp_path, monkeypatch, "import time\ntime.sleep(0.05)\nloaded.append(1)\nvalue = 7\n")
    with lazily("slow_one.inner"):
        inner = importlib.import_module("slow_one.inner")
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: inner.value, range(4))) == [7] * 4
    assert loaded == [1]


def test_a_lazy_module_s_fault_is_told_when_it_is_used_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow_one(tmp_path, monkeypatch, "1 / 0\n")
    with lazily("slow_one.inner", "no_such_library"):
        inner = importlib.import_module("slow_one.inner")
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module("no_such_library")
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = inner.value


def test_packages_are_listed_once_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = metadata.packages_distributions, []
    monkeypatch.setattr("fade.importing._listed", cache(lambda: asked.append(1) or {"numpy": ["numpy"]}))
    for _ in range(2):
        with importing():
            assert (
                metadata.packages_distributions() == metadata.packages_distributions() == {"numpy": ["numpy"]}
            )
        assert metadata.packages_distributions is real
    assert asked == [1]


def test_a_module_that_asks_for_its_own_while_it_is_loaded_is_not_loaded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import sys\nloaded.append(1)\nearly = getattr(sys.modules[__name__], 'value', None)\nvalue = 7\n"
    loaded = slow_one(tmp_path, monkeypatch, text)
    with lazily("slow_one.inner"):
        inner = importlib.import_module("slow_one.inner")
    assert (inner.early, inner.value, loaded) == (None, 7, [1])
