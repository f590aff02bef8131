"""What a site takes over from this machine's files, and hostile folders of a site."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fade.errors import SignatureError, UsageError
from fade.governance.witness import Witness
from tasks.registry.trust import Trust
from tasks.release.site import _own_files


def own_files(report: Path | None = None, public_key: str = "") -> dict[str, bytes]:
    snapshot: Any = SimpleNamespace(witness=Witness(), trust=Trust(public_key=public_key))
    return _own_files(snapshot, report)


def test_a_report_is_published_and_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    report, secret = tmp_path / "report", tmp_path / "secret"
    report.mkdir()
    secret.write_text("of this machine")
    page = report / "benchmark.html"
    page.write_text("<!doctype html>")
    assert own_files(report)["benchmark/benchmark.html"] == b"<!doctype html>"
    (report / "benchmark.md").symlink_to(secret)
    with pytest.raises(UsageError, match=r"benchmark\.md is not published: it is a link"):
        own_files(report)
    page.unlink()
    page.symlink_to(secret)
    with pytest.raises(UsageError, match=r"benchmark\.html is not published: it is a link"):
        own_files(report)
    page.unlink()
    page.touch()
    os.truncate(page, 6 << 30)
    with pytest.raises(UsageError, match=r"benchmark\.html is not published: it is larger"):
        own_files(report)


def test_a_public_key_is_read_up_to_a_limit(tmp_path: Path) -> None:
    key = tmp_path / "team.pub"
    with pytest.raises(SignatureError, match="is not there"):
        own_files(public_key=str(key))
    key.write_text("key")
    assert own_files(public_key=str(key))["evidence/public_key.pem"] == b"key"
    os.truncate(key, 6 << 30)
    with pytest.raises(SignatureError, match="larger than"):
        own_files(public_key=str(key))
