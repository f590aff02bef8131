"""Signing with key files that are none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fade.errors import StorageError
from tasks.registry.signing import is_signed, make_keys, sign, sign_text


def test_a_private_key_of_gigabytes_is_refused_unread(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path, "team")
    assert is_signed("text", sign_text("text", private), public.read_text())
    os.truncate(private, 6 << 30)
    with pytest.raises(StorageError, match="larger than 1 MiB"):
        sign_text("text", private)
    with pytest.raises(StorageError, match="larger than 1 MiB"):
        sign({"a.pub": public}, private, tmp_path / "signature.json")
