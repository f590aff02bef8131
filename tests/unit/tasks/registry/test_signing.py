"""Signing with key files that are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fade.errors import StorageError, UsageError
from tasks.registry.signing import is_signed, make_keys, sign, sign_text


def test_a_private_key_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path, "team")
    assert is_signed("text", sign_text("text", private), public.read_text())
    os.truncate(private, 6 << 30)
    with pytest.raises(StorageError, match="larger than 1 MiB"):
        sign_text("text", private)
    with pytest.raises(StorageError, match="larger than 1 MiB"):
        sign({"a.pub": public}, private, tmp_path / "signature.json")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "/tmp/a", "a\n", "a\x1b[31m", "a\u202eb", "-a", " a", "a ", "a" * 101]
)
def test_a_keys_name_is_a_plain_file_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is no name of a key"):
        make_keys(tmp_path / "keys", name)
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("name", ["a", "team-2026.x", "Schl\u00fcssel", "a" * 100])
def test_any_plain_name_is_one(tmp_path: Path, name: str) -> None:
    assert [path.name for path in make_keys(tmp_path, name)] == [f"{name}.pem", f"{name}.pub"]
