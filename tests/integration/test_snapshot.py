"""One read of a real MLflow registry a command, filtered to the models concerned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from fade.errors import UnknownNameError
from fade.governance.promotion import PROMOTE, REVOKE, Decision
from tasks.registry.connection import connect
from tasks.registry.decisions import append_decision
from tasks.registry.models import ensure_model
from tasks.registry.snapshot import RegistrySnapshot
from tasks.registry.versions import load_snapshot, resolve, revoked_parts

pytestmark = pytest.mark.usefixtures("alone")


def add(store: Path, name: str, *, champion: bool = False, **tags: str) -> None:
    """A version without an adapter; decided on when it is champion."""
    tracking = connect(store)
    ensure_model(tracking, name)
    version = tracking.client.create_model_version(name, "fade-test:/nothing", tags=tags)
    if champion:
        standing = RegistrySnapshot.load(tracking, name).standing(name)
        decision = Decision(number=0, by="ann", at="", version=str(version.version), action=PROMOTE)
        append_decision(tracking, version, decision, standing)


@contextmanager
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The filters of all searches of versions meanwhile; nothing else may read versions or models."""
    filters: list[str] = []
    search = MlflowClient.search_model_versions

    def counted(self: MlflowClient, filter_string: str | None = None, *args: Any, **kwargs: Any) -> Any:
        filters.append(filter_string or "")
        return search(self, filter_string, *args, **kwargs)

    def refused(*_: object, **__: object) -> None:
        raise AssertionError("read one by one")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "search_model_versions", counted)
        for name in ("get_model_version", "get_registered_model", "get_latest_versions"):
            patched.setattr(MlflowClient, name, refused)
        yield filters


def test_champions_aliases_and_revoked_parts_of_many_models_come_from_one_read(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for concept in ("koala", "panda", "tiger"):
        add(store, f"snap-{concept}", champion=concept != "tiger")
    add(store, "snap.release", champion=True, parts='["snap-koala/1", "snap-tiger/1"]')
    add(store, "other-lion", champion=True)
    tracking = connect(store)
    with reads(monkeypatch) as filters:
        snapshot = load_snapshot(tracking, "snap.release@champion")
        release = resolve(snapshot, "snap.release@champion")
        assert revoked_parts(snapshot, release) == []
        assert [one.name for one in snapshot.champions()] == ["snap-koala", "snap-panda"]
        assert snapshot.decided() == ["snap-koala", "snap-panda", "snap.release"]
        assert "other-lion" not in snapshot.versions
        assert filters == [
            "name LIKE 'snap%'",
            "name LIKE '%.decisions'",
        ]  # a revocation is of bytes anywhere
        assert [one.name for one in snapshot.adapters()] == [
            "snap-koala",
            "snap-panda",
            "snap-tiger",
            "snap.release",
        ]
        assert snapshot.standing("other-lion").champion == "1" and snapshot.version("other-lion/1")
        assert len(filters) == 3  # another model, once


def test_a_name_is_no_pattern(store: Path) -> None:
    add(store, "a_b-panda")
    add(store, "aXb-panda")
    tracking = connect(store)
    assert list(RegistrySnapshot.load(tracking, "a_b").versions) == ["a_b-panda"]
    for name in ("a%b-panda", "a\\b-panda", "%"):
        with pytest.raises(UnknownNameError):
            resolve(load_snapshot(tracking, name), name)


def test_a_snapshot_stays_as_it_was_until_it_is_reloaded(store: Path) -> None:
    add(store, "still-panda", champion=True)
    tracking = connect(store)
    snapshot = RegistrySnapshot.load(tracking, "still")
    add(store, "still-panda", champion=True)
    assert snapshot.standing("still-panda").champion == "1"
    assert snapshot.reload().standing("still-panda").champion == "2"


def test_a_revocation_from_before_they_were_of_bytes_is_of_the_versions_bytes(store: Path) -> None:
    for _ in range(2):
        add(store, "before-panda", adapter_sha256="a" * 64)
    add(store, "before-panda", adapter_sha256="b" * 64)
    tracking = connect(store)
    snapshot = RegistrySnapshot.load(tracking, "before")
    first = snapshot.version("before-panda/1")
    assert first is not None
    old = Decision(number=0, by="ann", at="", version="1", action=REVOKE, reason="x")
    append_decision(tracking, first, old, snapshot.standing("before-panda"))
    snapshot = snapshot.reload()
    revoked = [snapshot.revoked_as(one) for one in reversed(snapshot.versions_of("before-panda"))]
    assert revoked == ["before-panda/1", "before-panda/1", ""]
