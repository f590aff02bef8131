"""Two processes race on every path that more than one process may write: what stands there afterwards is
what one of them wrote, nothing is lost, and no partial file is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fade.generation.cache import Cache
from fade.governance.requests import load_requests
from tasks.data.verdicts import VerdictStore
from tasks.registry.connection import connect
from tests import racing
from tests.requested import entry, project

pytestmark = pytest.mark.usefixtures("alone")
TURNS = 25


@pytest.fixture(scope="module")
def pair() -> Iterator[racing.Pair]:
    pair = racing.Pair()
    yield pair
    pair.close()


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if ".part" in path.name]


def test_a_file_is_that_of_one_writer(pair: racing.Pair, tmp_path: Path) -> None:
    assert pair.race(racing.whole_file, tmp_path, TURNS) == [["", ""]] * TURNS
    for turn in range(TURNS):
        assert (tmp_path / f"{turn}.txt").read_text() in ("0" * 200_000, "1" * 200_000)
    assert not leftovers(tmp_path)


def test_a_json_file_is_that_of_one_writer(pair: racing.Pair, tmp_path: Path) -> None:
    assert pair.race(racing.json_file, tmp_path, TURNS) == [["", ""]] * TURNS
    for turn in range(TURNS):
        assert len(set(json.loads((tmp_path / f"{turn}.json").read_text())["writer"])) == 1
    assert not leftovers(tmp_path)


def test_a_cache_entry_is_whole(pair: racing.Pair, tmp_path: Path) -> None:
    assert pair.race(racing.cache_entry, tmp_path, TURNS) == [["", ""]] * TURNS
    assert all(Cache(tmp_path).get("pictures", f"{turn:032d}") for turn in range(TURNS))
    assert not leftovers(tmp_path)


def test_a_verdict_is_that_of_one_writer(pair: racing.Pair, tmp_path: Path) -> None:
    assert pair.race(racing.verdict, tmp_path, TURNS) == [["", ""]] * TURNS
    verdicts = [VerdictStore(tmp_path).get(f"{turn}") for turn in range(TURNS)]
    assert all(one is not None and one.facts["writer"] in (0, 1) for one in verdicts)
    assert not leftovers(tmp_path)


def test_of_two_key_pairs_of_one_name_one_is_made(pair: racing.Pair, tmp_path: Path) -> None:
    for number, row in enumerate(pair.race(racing.keys, tmp_path, 10)):
        assert sum(not result for result in row) == 1 and all("unexpected" not in one for one in row), row
        private, public = tmp_path / f"team-{number}.pem", tmp_path / f"team-{number}.pub"
        assert _public_half(private) == public.read_bytes()


def _public_half(private: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(private.read_bytes(), None).public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_a_new_database_is_made_once_and_whole(pair: racing.Pair, tmp_path: Path) -> None:
    assert pair.race(racing.database, tmp_path, 1) == [["", ""]]
    connect(tmp_path / "runs-0").client.search_experiments()
    assert not leftovers(tmp_path)


def test_no_request_is_lost_by_writers_with_two_runs_folders(pair: racing.Pair, tmp_path: Path) -> None:
    folder = project(tmp_path / "team", entry("first"))
    rows = pair.race(racing.request, folder, 3)
    assert rows == [["", ""]] * 3
    expected = {"first", *(f"r-{turn}-{writer}" for turn in range(3) for writer in range(2))}
    assert load_requests(folder / "requests.yaml").validated().ids == expected


def test_of_two_requests_with_one_id_one_is_added(pair: racing.Pair, tmp_path: Path) -> None:
    folder = project(tmp_path / "team", entry("first"))
    for row in pair.race(racing.same_request, folder, 2):
        assert sorted("taken" in result for result in row) == [False, True], row
    assert load_requests(folder / "requests.yaml").validated().ids == {"first", "r-0", "r-1"}
