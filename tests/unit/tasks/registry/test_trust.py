"""The files that the registry is verified against: where they lie, and that the witness is written whole."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from fade.config import SigningConfig
from fade.errors import ConfigError, SignatureError
from tasks.registry.connection import Tracking
from tasks.registry.signing import make_keys, sign_text
from tasks.registry.trust import Trust
from tests.unit.fade.governance.logs import chain

LOG = "fade-panda.decisions"


def store(runs: Path, uri: str = "") -> Tracking:
    return Tracking(uri or f"sqlite:///{runs.absolute() / 'mlflow.db'}", cast(Any, None), runs)


def test_files_are_relative_to_params_yaml_and_empty_ones_stay_empty() -> None:
    signing = SigningConfig(private_key="a.pem", witness="registry.json")
    assert Trust.of(signing, Path("/project")) == Trust("", "/project/a.pem", "/project/registry.json")
    assert Trust.of(SigningConfig(), Path("/project")) == Trust()


def test_without_a_file_of_the_team_each_store_has_its_own_in_the_runs_folder(tmp_path: Path) -> None:
    own, server, other = (
        Trust().witness_file(store(tmp_path, uri)).path for uri in ("", "http://one:5000", "http://two:5000")
    )
    assert own == tmp_path / "registry.witness.json" and len({own, server, other}) == 3
    assert {path.parent for path in (own, server, other)} == {tmp_path}
    assert Trust(witness="w.json").witness_file(store(tmp_path)).path == Path("w.json")


def test_anchors_of_earlier_versions_are_read_and_the_witness_counts_before_them(tmp_path: Path) -> None:
    tracking = store(tmp_path)
    (tmp_path / "audit").mkdir()
    old, new = f"1:{'0' * 64}", f"2:{'1' * 64}"
    marks = {
        f"{tracking.address} fade-panda": old,
        "sqlite:///else fade-lemon": old,
        f"{tracking.address} x": 1,
    }
    (tmp_path / "audit" / "marks.json").write_text(json.dumps(marks))
    file = Trust().witness_file(tracking)
    assert file.read().heads == {"fade-panda.audits": old}
    file.path.write_text(json.dumps({"schema": 1, "heads": {"fade-panda.audits": new}, "revoked": {}}))
    assert file.read().heads == {"fade-panda.audits": new}


def test_what_cannot_sign_or_verify_is_known_before_a_run(tmp_path: Path) -> None:
    private, public = make_keys(tmp_path, "team")
    (params := tmp_path / "params.yaml").write_text("train: {}\n")
    Trust().check_files("it")
    Trust(str(public), str(private), str(tmp_path / "not-yet.json")).check_files("it")  # the control
    for team, error in (
        (Trust(str(tmp_path / "nofile"), str(private)), SignatureError),
        (Trust(str(public)), SignatureError),
        (Trust(str(params), str(private)), SignatureError),
        (Trust(str(public), str(private), str(params)), ConfigError),
    ):
        with pytest.raises(error):
            team.check_files("it")


@pytest.mark.parametrize("password", ["x" * 1024, "\u00e9" * 600])
def test_a_password_that_no_key_can_have_is_a_sentence(
    tmp_path: Path, password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FADE_SIGNING_PASSWORD", password)
    with pytest.raises(SignatureError, match="FADE_SIGNING_PASSWORD has more than 1023 bytes"):
        make_keys(tmp_path, "team")
    monkeypatch.setenv("FADE_SIGNING_PASSWORD", "x" * 1023)
    private, _ = make_keys(tmp_path, "team")
    assert sign_text("it", private)


def test_writers_at_once_lose_nothing_and_leave_no_other_file(tmp_path: Path) -> None:
    file = Trust(witness=str(tmp_path / "w.json")).witness_file(store(tmp_path / "runs"))
    logs = [f"fade-{number}.decisions" for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda log: file.record(log, chain(2), "f" * 64, "fade-1/1"), logs))
    witness = file.read()
    assert set(witness.heads) == set(logs) and witness.revoked == {"f" * 64: "fade-1/1"}
    assert [path.name for path in tmp_path.iterdir()] == ["w.json"]


def test_with_the_teams_key_alone_nothing_can_be_appended() -> None:
    Trust().require_signer("it")
    Trust("a.pub", "a.pem").require_signer("it")
    with pytest.raises(SignatureError, match=r"it would not be signed.*signing\.private_key"):
        Trust("a.pub").require_signer("it")
