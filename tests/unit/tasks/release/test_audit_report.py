"""The evidence of an audit about the data: what the .dvc files named at the recorded commit."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks.release.audit_report import _data

FIRST, SECOND = "1" * 32 + ".dir", "2" * 32 + ".dir"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A repository with two .dvc files."""
    (tmp_path / "worlds").mkdir()
    for name, md5 in (("data.dvc", FIRST), ("worlds/sdxl.dvc", SECOND)):
        (tmp_path / name).write_text(f"outs:\n- md5: {md5}\n  hash: md5\n  path: x\n")
    for line in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "one")):
        who = ("-c", "user.name=ann", "-c", "user.email=ann@example.org")
        subprocess.run(["git", *who, *line], cwd=tmp_path, check=True)
    return tmp_path


def record(code: Path, md5: str, dvc_files: dict[str, str] | None = None) -> dict[str, Any]:
    line = ["git", "rev-parse", "HEAD"]
    head = subprocess.run(line, cwd=code, check=True, capture_output=True, text=True).stdout.strip()
    data = {"md5": md5, **({"dvc_files": dvc_files} if dvc_files else {})}
    named: Any = [*dvc_files] if dvc_files else "data.dvc"
    return {"code": {"commit": head}, "data": data, "params": {"values": {"data": {"dvc_file": named}}}}


def test_one_file_is_compared_with_the_recorded_md5(code: Path) -> None:
    assert _data(record(code, FIRST), code) == (
        True,
        f"data.dvc at that commit names the recorded {FIRST[:12]}",
    )
    holds, found = _data(record(code, SECOND), code)
    assert holds is None and "data.dvc at that commit names other data" in found


def test_of_several_files_each_is_compared(code: Path) -> None:
    both = {"data.dvc": FIRST, "worlds/sdxl.dvc": SECOND}
    holds, found = _data(record(code, FIRST, both), code)
    assert holds is True and "data.dvc and worlds/sdxl.dvc" in found and SECOND[:12] in found
    holds, found = _data(record(code, FIRST, {**both, "worlds/sdxl.dvc": FIRST}), code)
    assert holds is None and "worlds/sdxl.dvc at that commit names other data" in found
    holds, found = _data(record(code, FIRST, {**both, "worlds/sd3.dvc": FIRST}), code)
    assert holds is None and "worlds/sd3.dvc at that commit is not here" in found
