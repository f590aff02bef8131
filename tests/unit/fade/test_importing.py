"""The collector of cycles rests while libraries are imported, and is as it was afterwards."""

from __future__ import annotations

import gc
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from fade.importing import importing, without


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


def test_what_a_process_goes_without_is_there_again_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
