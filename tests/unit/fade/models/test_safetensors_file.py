"""The head of a safetensors file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fade.errors import BaseModelError
from fade.models.part_files import tensor_entries
from fade.models.safetensors_file import canonical_safetensors, read_header
from fade.utils import reading


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.safetensors"
    path.write_bytes(canonical_safetensors({"a": torch.ones(3), "b": torch.zeros(2, 2)}, {"k": "v"}))
    return path


def test_the_head_names_the_tensors_and_where_the_weights_begin(file: Path) -> None:
    header = read_header(file, None)
    assert header.metadata == {"k": "v"} and header.tensors["b"]["shape"] == [2, 2]
    assert header.end + 7 * 4 == file.stat().st_size
    assert file.read_bytes()[header.end :][:4] == torch.ones(1).numpy().tobytes()


@pytest.mark.parametrize("more", [-1, 1])
def test_a_file_that_is_cut_or_longer_is_refused(file: Path, more: int) -> None:
    assert list(tensor_entries(file, "base")) == ["a", "b"]  # the control
    body = file.read_bytes()
    file.write_bytes(body[:more] if more < 0 else body + b"\0")
    with pytest.raises(BaseModelError, match=f"it has {len(body) + more} bytes, its head names {len(body)}"):
        tensor_entries(file, "base")


def test_a_file_is_opened_once_for_its_head(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, real = [], reading.os.open
    monkeypatch.setattr(reading.os, "open", lambda *a, **k: (opened.append(a[0]), real(*a, **k))[1])
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("opened again"))
    tensor_entries(file, "base")
    assert opened == [file]
