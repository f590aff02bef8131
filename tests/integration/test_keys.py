"""A key that is set later, replaced, or lost: what stands stays valid, what comes after needs the new one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fade.config import PromotionPolicy
from fade.errors import SignatureError, UnknownNameError
from tasks.registry import signing
from tasks.registry.adopt import adopt, revoke_key, rotate
from tasks.registry.connection import connect
from tasks.registry.decisions import decide
from tasks.registry.register import register
from tasks.registry.trust import Trust
from tasks.registry.verify import verify
from tasks.registry.versions import load_version
from tests.registered import finished_run

pytestmark = pytest.mark.usefixtures("alone")
GATE = PromotionPolicy()


@pytest.fixture
def old(tmp_path: Path) -> Trust:
    private, public = signing.make_keys(tmp_path / "keys", "old")
    return Trust(str(public), str(private))


@pytest.fixture
def new(tmp_path: Path) -> tuple[Path, Path]:
    return signing.make_keys(tmp_path / "keys", "new")


def registered(runs: Path, folder: Path, trust: Trust, seed: int) -> str:
    result, params, lineage, run_dir = finished_run(folder, seed, model_prefix="keys")
    keys = {"public_key": trust.public_key, "private_key": trust.private_key}
    params = params.model_copy(update={"signing": params.signing.model_copy(update=keys)})
    done = register(result, params, lineage, run_dir, runs=runs)
    return f"{done.name}/{done.version}"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "own-runs"


def test_after_a_rotation_old_entries_stay_valid_and_new_ones_need_the_new_key(
    runs: Path, tmp_path: Path, old: Trust, new: tuple[Path, Path]
) -> None:
    label = registered(runs, tmp_path / "1", old, 31)
    decide("promote", label, runs, GATE, by="ann", override="x", trust=old)
    done = rotate(connect(runs), old, new[1])
    assert (done["active"], done["closed"]) == (1, 1)
    now = Trust(done["keyring"], str(new[0]))
    verify(label, runs, now)
    load_version("keys-panda@champion", runs, now)
    verify(registered(runs, tmp_path / "2", now, 32), runs, now)

    with pytest.raises(SignatureError, match="its key was closed before it"):
        decide(
            "reject",
            "keys-panda/2",
            runs,
            GATE,
            by="eve",
            reason="x",
            trust=replace(old, public_key=done["keyring"]),
        )
    with pytest.raises(SignatureError, match="decision 2: its key was closed before it"):
        load_version(label, runs, now)


def test_a_version_that_is_signed_by_a_closed_key_after_its_end_is_refused(
    runs: Path, tmp_path: Path, old: Trust, new: tuple[Path, Path]
) -> None:
    registered(runs, tmp_path / "1", old, 33)
    keyring = rotate(connect(runs), old, new[1])["keyring"]
    with pytest.raises(SignatureError, match="history 2: its key was closed"):
        registered(runs, tmp_path / "2", Trust(keyring, old.private_key), 34)


def test_a_lost_key_is_closed_at_the_heads_that_the_witness_has(
    runs: Path, tmp_path: Path, old: Trust, new: tuple[Path, Path]
) -> None:
    label = registered(runs, tmp_path / "1", old, 35)
    # whoever found the key writes from another machine, whose witness is not the team's
    thief = replace(old, witness=str(tmp_path / "thief.json"))
    decide("promote", label, runs, GATE, by="eve", override="x", trust=thief)
    ring = revoke_key(connect(runs), old, Path(old.public_key))["keyring"]
    now = Trust(rotate(connect(runs), replace(old, public_key=ring), new[1])["keyring"], str(new[0]))
    with pytest.raises(SignatureError, match="decision 1: its key was closed before it"):
        load_version(label, runs, now)
    connect(runs).client.delete_registered_model("keys-panda.decisions")  # by the team, who saw it
    verify(label, runs, now)


def test_nothing_is_adopted_of_a_model_that_is_not_there(runs: Path, tmp_path: Path, old: Trust) -> None:
    registered(runs, tmp_path / "1", Trust(), 33)
    for name in ("keys-pand", "keys-panda/1", "NO-SUCH-MODEL", "keys.request.none"):
        with pytest.raises(UnknownNameError, match=f"unknown model '{name}'"):
            adopt(connect(runs), name, runs, old)
    assert adopt(connect(runs), "keys-panda", runs, old)["signed"] == 1


def test_what_was_registered_before_the_key_is_adopted_once_and_then_needs_it(
    runs: Path, tmp_path: Path, old: Trust, new: tuple[Path, Path]
) -> None:
    label = registered(runs, tmp_path / "1", Trust(), 36)
    decide("promote", label, runs, GATE, by="ann", override="x")
    with pytest.raises(SignatureError, match="fade keys adopt keys-panda"):
        load_version(label, runs, old)
    for wrong in (replace(old, private_key=""), replace(old, private_key=str(new[0]))):
        with pytest.raises(SignatureError, match="private_key"):
            adopt(connect(runs), "keys-panda", runs, wrong)
    assert adopt(connect(runs), "keys-panda", runs, old)["signed"] == 2
    verify(label, runs, old)
    load_version("keys-panda@champion", runs, old)
    assert adopt(connect(runs), "keys-panda", runs, old)["signed"] == 0
    with pytest.raises(SignatureError, match="does not verify"):
        adopt(connect(runs), "keys-panda", runs, Trust(str(new[1]), str(new[0])))
