"""The content-addressed store."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fade.errors import StorageError
from fade.generation.cache import Cache


def test_what_was_stored_comes_back_and_the_key_is_its_inputs(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    key = Cache.key(prompt="a panda", seeds=[1, 2])
    assert key == Cache.key(seeds=[1, 2], prompt="a panda") != Cache.key(prompt="a panda", seeds=[2, 1])
    assert cache.get("pictures", key) is None
    value = {"x": torch.arange(6.0).view(2, 3), "n": torch.tensor([1], dtype=torch.uint8)}
    cache.put("pictures", key, value)
    back = cache.get("pictures", key)
    assert back is not None and all(torch.equal(back[k], value[k]) for k in value)


def test_a_changed_or_truncated_entry_is_not_trusted(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    path = cache.put("pictures", "k", {"x": torch.ones(100)})
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert cache.get("pictures", "k") is None
    path.write_bytes(whole[:50])
    assert cache.get("pictures", "k") is None
    path.write_bytes(whole)
    assert cache.get("pictures", "k") is not None  # the control: the untouched bytes are accepted


def test_an_entry_under_another_name_is_not_trusted(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    path = cache.put("pictures", "one", {"x": torch.ones(2)})
    path.rename(path.with_name("two.safetensors"))
    assert cache.get("pictures", "two") is None


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "pictures").write_text("a file stands where the folder should be")
    with pytest.raises(StorageError, match="pictures"):
        Cache(tmp_path).put("pictures", "k", {"x": torch.ones(1)})
    assert (tmp_path / "pictures").read_text().startswith("a file")
