"""Versions that were registered before the rebuild load, verify and audit; their decisions, audits and
requests are still read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.registry.signing import make_keys
from tasks.registry.versions import load_version
from tests.e2e.support import fade_each
from tests.golden import old_runs

HERE = {"code", "data", "environment"}
"""What an audit finds out about the checkout and the machine, not about the version."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return old_runs.unpack(tmp_path_factory.mktemp("old") / "runs")


@pytest.fixture(scope="module")
def answers(folder: Path) -> dict[str, Any]:
    """The exit code, output and errors of each command, all in one process; the audit comes last, as it adds
    to the log."""
    key = ["--set", f"signing.public_key={folder / 'team.pub'}"]
    lines = {
        **{f"verify {version}": ["verify", version, "--json"] for version in old_runs.ADAPTERS},
        "verify with a key": ["verify", "fade-panda/2", "--json", *key],
        "decisions": ["decisions", "fade-panda", "--json"],
        "audits": ["audits", "fade-panda", "--json"],
        "lineage": ["lineage", "fade-panda@champion", "--json"],
        "tree": ["lineage", "fade-panda/1"],
        "found": ["lineage", "--neighbour", "koala", "--json"],
        "requests": ["requests", "--json", "--set", f"schedule.requests={folder / 'requests.yaml'}"],
        "audit": ["audit", "fade-panda/2", "--evidence-only", "--by", "ann", "--json"],
        "audits after": ["audits", "fade-panda", "--json"],
    }
    return dict(zip(lines, fade_each(*lines.values(), runs=folder), strict=True))


@pytest.fixture
def answer(answers: dict[str, Any]) -> Callable[[str], Any]:
    def read(name: str) -> Any:
        done = answers[name]
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return read


@pytest.mark.parametrize("version", old_runs.ADAPTERS)
def test_an_old_version_loads_with_its_bytes(folder: Path, version: str) -> None:
    assert (
        hashlib.sha256(load_version(version, folder).read_bytes()).hexdigest() == old_runs.ADAPTERS[version]
    )


@pytest.mark.parametrize("version", old_runs.ADAPTERS)
def test_an_old_version_verifies(answer: Callable[[str], Any], version: str) -> None:
    rows = {row["what"]: row["found"] for row in answer(f"verify {version}")}
    assert list(rows) == ["tags and record", "adapter", "header and record", "signature", "decisions"]
    assert old_runs.ADAPTERS[version][:12] in rows["adapter"]


def test_with_a_key_an_old_version_is_refused_until_the_team_adopts_it(
    answers: dict[str, Any], tmp_path: Path
) -> None:
    refused = answers["verify with a key"]
    assert refused.returncode == 1 and "fade keys adopt fade-panda" in refused.stderr
    runs = old_runs.unpack(tmp_path / "runs")
    private, public = make_keys(tmp_path, "new")
    ring = tmp_path / "team.pub"
    ring.write_text((runs / "team.pub").read_text() + public.read_text())
    keys = ["--set", f"signing.public_key={ring}", "--set", f"signing.private_key={private}"]
    lines = [["keys", "adopt", "fade-panda"], *(["verify", f"fade-panda/{n}", "--json"] for n in (1, 2))]
    adopted, *verified = fade_each(*([*line, *keys] for line in lines), runs=runs)
    assert "2 version(s) registered" in adopted.stdout, adopted.stderr
    for done in verified:  # the second by the signature of then, whose key the team still has
        rows = {row["what"]: row["found"] for row in json.loads(done.stdout)}
        assert "team.pub" in rows["signature"]


def test_the_old_decisions_are_one_unbroken_log(answer: Callable[[str], Any]) -> None:
    told = answer("decisions")
    assert (told["champion"], told["states"]) == ("2", {"1": "rejected", "2": "champion"})
    assert [(one["version"], one["action"], one["overridden"]) for one in told["decisions"]] == [
        ("1", "promote", True),
        ("2", "promote", True),
        ("1", "reject", False),
    ]
    assert told["decisions"][0]["sha256"] == old_runs.FIRST_DECISION
    assert told["void"] == []


def test_an_old_record_is_found_and_shown(answers: dict[str, Any], answer: Callable[[str], Any]) -> None:
    traced = answer("lineage")
    assert (traced["name"], traced["version"]) == ("fade-panda", "2")
    assert traced["lineage"]["outputs"]["adapter_sha256"] == old_runs.ADAPTERS["fade-panda/2"]
    assert answers["tree"].returncode == 0 and old_runs.ADAPTERS["fade-panda/1"] in answers["tree"].stdout
    assert {"fade-panda/1", "fade-panda/2"} <= {f"{one['name']}/{one['version']}" for one in answer("found")}


def test_an_old_request_has_its_state(answer: Callable[[str], Any]) -> None:
    (one,) = answer("requests")["requests"]
    assert (one["id"], one["state"], one["version"], one["failures"]) == (
        "lemon-2026",
        "failed",
        "fade-lemon/1",
        0,
    )
    assert "erased 0.0 (asked 97)" in one["detail"]


def test_an_old_version_can_be_audited_and_its_old_audit_is_followed(
    answers: dict[str, Any], answer: Callable[[str], Any]
) -> None:
    (before,) = answer("audits")
    assert (before["version"], before["verdict"], before["sha256"]) == (
        "2",
        "evidence holds",
        old_runs.FIRST_AUDIT,
    )
    (done,) = json.loads(answers["audit"].stdout)
    held = {row["what"]: row["holds"] for row in done["evidence"] if row["what"] not in HERE}
    compared = ["tags and record", "adapter", "header and record", "decisions", "audits"]
    assert held == {**dict.fromkeys(compared, True), "signature": None}
    assert [(one["number"], one["previous_sha256"]) for one in answer("audits after")] == [
        (1, ""),
        (2, old_runs.FIRST_AUDIT),
    ]


def test_control_a_changed_adapter_does_not_load(tmp_path: Path) -> None:
    runs = old_runs.unpack(tmp_path / "runs")
    for file in runs.rglob("*.safetensors"):
        body = bytearray(file.read_bytes())
        body[-1] ^= 1
        file.write_bytes(body)
    (done,) = fade_each(["verify", "fade-panda/2"], runs=runs)
    assert done.returncode == 1 and "fade-panda/2" in done.stderr, done.stderr
