"""A release is built again as it was built; only other bytes under the same circumstances accuse it."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fade.governance.audit import DIFFERENT, IDENTICAL, MISSING
from fade.provenance.lineage import Lineage, code_state, environment
from tasks.release import audit_release as module
from tests.unit.fade.adapters.text_model import settings
from tests.unit.fade.reporting import samples

BASE = "b" * 64
PARTS = {"fade-lemon/1": {}, "fade-panda/1": {}}


def record(mode: str, **circumstances: Any) -> Lineage:
    content = copy.deepcopy(samples.lineage())
    content |= {"parts": PARTS, "base": {"sha256": BASE}, "code": code_state()}
    content |= {"release": {"settings": settings(["lemon", "panda"], mode=mode).to_json()}}
    content["environment"] = {**environment(device="cpu", precision="float32", world_size=1), **circumstances}
    content["outputs"]["adapter_sha256"] = "a" * 64
    return Lineage(content)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What a build gives: ``sha256`` of all parts, and the ``threads`` that each build had."""
    found: dict[str, Any] = {"sha256": "a" * 64, "control": "c" * 64, "threads": []}
    base = SimpleNamespace(sha256=BASE, is_base=BASE.__eq__, device=torch.device("cpu"), dtype=torch.float32)
    run = SimpleNamespace(models=SimpleNamespace(base=base))

    def rebuild(tracking: Any, run: Any, parts: list[str], *_: Any) -> Any:
        found["threads"].append(torch.get_num_threads())
        return found["sha256"] if len(parts) == len(PARTS) else found["control"]

    monkeypatch.setattr(module, "RunContext", lambda *_: run)
    monkeypatch.setattr(module, "other_world", lambda *_: "")
    monkeypatch.setattr(module, "rebuild_versions", rebuild)
    return found


def audited(of: Lineage, folder: Path) -> Any:
    options: Any = SimpleNamespace(params=None, root=None, runs=folder, with_control=True)
    tracking: Any = None
    return module.audit_release(tracking, of, folder, options)


def test_it_is_built_with_the_recorded_threads(built: dict[str, Any], tmp_path: Path) -> None:
    before = torch.get_num_threads()
    outcome = audited(record("solve", torch_threads=before + 1), tmp_path)
    assert (outcome.verdict.name, outcome.control) == (IDENTICAL, DIFFERENT)
    assert built["threads"] == [before + 1] * 2 and torch.get_num_threads() == before
    assert "built again from fade-lemon/1, fade-panda/1" in outcome.verdict.note
    built["control"] = built["sha256"]
    assert "cannot tell two apart" in str(audited(record("sum"), tmp_path).verdict)


@pytest.mark.parametrize(
    ("mode", "circumstances", "verdict"),
    [
        ("solve", {}, DIFFERENT),
        ("solve", {"device": "cuda"}, MISSING),
        ("solve", {"libraries": {"torch": "0"}}, MISSING),
        ("solve", {"packages": {"rich": "0"}}, DIFFERENT),  # no number goes through it
        ("solve", {"world_size": 4}, DIFFERENT),  # nor is a release built by several processes
        ("sum", {"device": "cuda"}, DIFFERENT),  # a sum copies weights
    ],
)
def test_other_bytes_accuse_a_release_only_where_nothing_else_can_have_changed_them(
    built: dict[str, Any], tmp_path: Path, mode: str, circumstances: dict[str, Any], verdict: str
) -> None:
    built["sha256"] = "d" * 64
    found = audited(record(mode, **circumstances), tmp_path).verdict
    assert found.name == verdict and [one.path for one in found.differences] == ["outputs.adapter_sha256"]
    for name in circumstances if verdict == MISSING else ():
        assert f"environment.{name}" in str(found)


@pytest.mark.parametrize(
    ("mode", "field", "verdict"),
    [("solve", "commit", MISSING), ("sum", "commit", DIFFERENT), ("sum", "version", MISSING)],
)
def test_other_code_may_compute_other_bytes_and_the_header_has_its_version(
    built: dict[str, Any], tmp_path: Path, mode: str, field: str, verdict: str
) -> None:
    built["sha256"], then = "d" * 64, record(mode)
    content = {**then.content, "code": {**then.content["code"], field: "0"}}
    assert audited(Lineage(content), tmp_path).verdict.name == verdict
