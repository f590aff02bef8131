"""Requests in a real MLflow: status derived, leases between processes, deaths in the middle, edits,
and clocks that go back."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fade.errors import BusyError, RegistryUnreachableError, RequestError, RequestFileError, TrainingError
from fade.governance.leases import ACQUIRED, DONE, FAILED, RELEASED
from tasks.registry.connection import connect
from tasks.requests import leases
from tasks.requests.leases import RequestSnapshot, acquire, log_name, process_identity, read_lease_log
from tasks.requests.project import add_request
from tasks.requests.status import STALE, RequestStatus, request_statuses
from tasks.requests.worker import Worker, process_requests
from tests.requested import CONCEPTS, entry, eraser, notes, project, prototype, where, write

pytestmark = pytest.mark.usefixtures("alone")
REPO = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def seed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A runs folder whose registry holds one good version, made once."""
    runs = tmp_path_factory.mktemp("seed") / "runs"
    return runs, prototype(runs, tmp_path_factory.mktemp("made"))


class Team:
    """A project with a registry of its own."""

    def __init__(self, folder: Path, seed: tuple[Path, dict[str, str]]) -> None:
        self.folder, (source, self.proto) = folder, seed
        shutil.copytree(
            source, folder / "runs"
        )  # artifacts stay where they were: their addresses are absolute
        (folder / "prototype.json").write_text(json.dumps(self.proto))
        self.tracking = connect(folder / "runs")

    def worker(self, erase: Any = None, **more: Any) -> Worker:
        return Worker(where(self.folder), erase or eraser(self.folder, self.proto), **more)

    def states(self) -> dict[str, RequestStatus]:
        place = where(self.folder)
        params = place.resolve()
        snapshot = RequestSnapshot.load(self.tracking, "fade")
        found = request_statuses(snapshot, place.requests(params), params, place.resolve)
        return {one.id: one for one in found}

    def kinds(self, request: str) -> list[str]:
        return [one.kind for one in read_lease_log(self.tracking, log_name("fade", request)).events]

    def versions(self, name: str) -> int:
        return len(self.tracking.client.search_model_versions(f"name = '{name}'"))

    def start(self, seconds: float = 0.0) -> subprocess.Popen[str]:
        """A worker in a process of its own."""
        line = [sys.executable, "-m", "tests.requested", str(self.folder), str(seconds)]
        return subprocess.Popen(
            line,
            cwd=REPO,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def team(tmp_path: Path, seed: tuple[Path, dict[str, str]]) -> Callable[..., Team]:
    def make(*entries: Mapping[str, Any], **schedule: Any) -> Team:
        return Team(project(tmp_path / "team", *entries, **schedule), seed)

    return make


def until(holds: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.05)


def ended(process: subprocess.Popen[str], seconds: float = 180) -> list[dict[str, Any]]:
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


def test_a_registry_that_went_away_is_no_failure_of_the_request(team: Callable[..., Team]) -> None:
    one = team(entry("p1"))

    def unreachable(*_: Any, **__: Any) -> None:
        raise RegistryUnreachableError("it does not answer.")

    for _ in range(4):  # more often than schedule.attempts
        with pytest.raises(RegistryUnreachableError):
            one.worker(unreachable).run()
    assert one.states()["p1"].state == "open"
    assert [outcome.result for outcome in one.worker().run()] == ["done"]
    assert one.kinds("p1") == [ACQUIRED, RELEASED] * 4 + [ACQUIRED, DONE]


def test_a_lease_whose_release_was_lost_is_taken_up_by_the_next_pass_of_the_same_process(
    team: Callable[..., Team], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, seen, report = team(entry("p1")), [], leases.report

    def away(*_: Any, **__: Any) -> None:
        seen.append(one.states()["p1"].state)  # the control: its own lease, while it works
        raise RegistryUnreachableError("it does not answer.")

    def unreachable_release(tracking: Any, lease: Any, kind: str, *rest: Any) -> None:
        if kind == RELEASED:
            raise RegistryUnreachableError("it does not answer.")
        report(tracking, lease, kind, *rest)

    monkeypatch.setattr(leases, "report", unreachable_release)
    with pytest.raises(RegistryUnreachableError):
        one.worker(away).run()
    assert seen == ["running"] and one.kinds("p1") == [ACQUIRED]
    assert (one.states()["p1"].state, one.states()["p1"].eligible) == ("open", True)
    assert [outcome.result for outcome in one.worker().run()] == ["done"]


def test_an_open_request_is_done_by_a_version_that_carries_it(team: Callable[..., Team]) -> None:
    one = team(entry("p1"), entry("k1", "koala", due="2026-01-02"))
    assert {key: (s.state, s.overdue, s.eligible) for key, s in one.states().items()} == {
        "p1": ("open", False, True),
        "k1": ("open", True, True),
    }
    outcomes = one.worker().run()
    assert [(o.id, o.result, o.version) for o in outcomes] == [
        ("k1", "done", "fade-koala/1"),
        ("p1", "done", "fade-panda/1"),
    ]  # due first
    after = one.states()
    assert {s.state for s in after.values()} == {"done"} and not any(
        s.overdue or s.eligible for s in after.values()
    )
    assert after["p1"].version == "fade-panda/1" and one.kinds("p1") == [ACQUIRED, DONE]
    assert "request.p1" in one.tracking.client.get_model_version("fade-panda", "1").tags
    assert one.worker().run() == [] and len(notes(one.folder)) == 4


def test_thresholds_of_the_request_are_held_against_the_record_and_may_be_changed_afterwards(
    team: Callable[..., Team],
) -> None:
    one = team(entry("p1", thresholds={"heldout_kept": 99}))
    (outcome,) = one.worker().run()
    assert (outcome.result, outcome.text) == ("short", "held-out kept 98.0 (asked 99)")
    state = one.states()["p1"]
    assert (state.state, state.eligible) == (
        "failed",
        False,
    ) and "fade-panda/1: held-out kept 98.0 (asked 99)" in state.detail
    assert one.worker().run() == []  # the same settings would give the same numbers
    write(one.folder, entry("p1", thresholds={"heldout_kept": 97}))
    assert one.states()["p1"].state == "done" and one.versions("fade-panda") == 1


def test_a_failure_is_kept_with_its_reason_tried_again_and_then_left_to_people(
    team: Callable[..., Team],
) -> None:
    one = team(entry("p1"), entry("k1", "koala"), attempts=2)

    def fails(target: str, *args: Any, **named: Any) -> dict[str, Any]:
        if target == "panda":
            raise TrainingError("the trainer stopped with status 9.", stage="train", action="see the log.")
        return eraser(one.folder, one.proto)(target, *args, **named)

    with pytest.raises(RequestError, match="1 request.* p1: train: the trainer stopped") as caught:
        process_requests(one.worker(fails))
    assert [o["result"] for o in caught.value.result["outcomes"]] == [
        "failed",
        "done",
    ]  # one failure does not stop the others
    state = one.states()["p1"]
    assert (state.state, state.failures, state.eligible) == ("failed", 1, True) and "status 9" in state.detail
    experiment = one.tracking.client.get_experiment_by_name("fade-erase")
    (run,) = one.tracking.client.search_runs([experiment.experiment_id], "tags.request = 'p1'")
    assert (
        run.info.status == "FAILED"
        and run.data.tags["stage"] == "train"
        and "status 9" in run.data.tags["reason"]
    )

    one.worker(fails).run()
    assert (one.states()["p1"].failures, one.states()["p1"].eligible) == (2, False)
    assert one.worker().run() == []
    (again,) = one.worker(only=("p1",)).run()
    assert again.result == "done" and one.states()["p1"].state == "done"


def test_a_request_that_vanished_or_was_withdrawn_is_never_forgotten(team: Callable[..., Team]) -> None:
    one = team(entry("p1"), entry("k1", "koala"))
    one.worker().run()
    write(one.folder, entry("k1", "koala", withdrawn="settled out of court"))
    found = one.states()
    assert (
        found["p1"].state == "missing"
        and "no longer in" in found["p1"].detail
        and "fade-panda/1" in found["p1"].detail
    )
    assert found["p1"].concept == "panda" and found["p1"].requested_by == "ann"
    assert found["k1"].state == "withdrawn" and "settled out of court" in found["k1"].detail
    with pytest.raises(RequestError, match="p1: missing"):
        process_requests(one.worker())
    assert one.versions("fade-panda") == one.versions("fade-koala") == 1


def test_a_faulty_request_does_not_hold_up_the_others_and_is_told(team: Callable[..., Team]) -> None:
    one = team(entry("p1"), entry("x1", "pandaa"))
    with pytest.raises(
        RequestError, match=r"x1: faulty, concept: unknown concept 'pandaa'; did you mean 'panda'"
    ):
        process_requests(one.worker())
    assert one.states()["p1"].state == "done"
    with pytest.raises(RequestFileError, match="x1, concept"):
        one.worker(only=("x1",)).run()


def test_a_request_that_is_edited_while_it_runs_is_erased_under_the_new_terms_too(
    team: Callable[..., Team],
) -> None:
    one = team(entry("p1"))
    edit = iter(
        [lambda: write(one.folder, entry("p1", "koala", reason="we meant the other bear")), lambda: None]
    )
    outcomes = one.worker(eraser(one.folder, one.proto, before=lambda: next(edit)())).run()
    assert [(o.concept, o.version) for o in outcomes] == [
        ("panda", "fade-panda/1"),
        ("koala", "fade-koala/1"),
    ]
    assert one.states()["p1"].state == "done" and one.states()["p1"].version == "fade-koala/1"
    write(
        one.folder, entry("p1", "koala", reason="said better", due="2030-01-01")
    )  # nothing that decides the erasure
    assert one.states()["p1"].state == "done" and one.worker().run() == []
    write(one.folder, entry("p1", "tiger"))
    assert one.states()["p1"].state == "open" and "concept 'koala' -> 'tiger'" in one.states()["p1"].detail


def test_a_version_that_is_stale_deleted_or_revoked_reopens_its_request_or_says_why_not(
    team: Callable[..., Team],
) -> None:
    one = team(entry("p1"), entry("k1", "koala"), entry("t1", "tiger"))
    one.worker().run()
    client = one.tracking.client
    client.set_model_version_tag("fade-panda", "1", STALE, "base changed: 1111 -> 2222")
    client.delete_model_version("fade-koala", "1")
    found = one.states()
    assert (found["p1"].state, found["k1"].state) == ("open", "open")
    assert "base changed" in found["p1"].detail and "not in the registry" in found["k1"].detail
    assert {o.version for o in one.worker().run()} == {"fade-panda/2", "fade-koala/2"}
    assert {s.state for s in one.states().values()} == {"done"}


def test_two_processes_process_twenty_requests_each_exactly_once(team: Callable[..., Team]) -> None:
    names = [CONCEPTS[i % len(CONCEPTS)] for i in range(20)]
    one = team(*(entry(f"r{i}", name) for i, name in enumerate(names)))
    workers = [one.start(0.05), one.start(0.05)]
    results = [ended(worker) for worker in workers]
    done = Counter(o["id"] for some in results for o in some if o["result"] == "done")
    assert done == Counter(f"r{i}" for i in range(20))
    assert all(results), "one of the two had nothing to do: the test showed nothing"
    assert {s.state for s in one.states().values()} == {"done"}
    assert sum(one.versions(f"fade-{name}") for name in CONCEPTS) == 20
    assert Counter(kind for i in range(20) for kind in one.kinds(f"r{i}")) == {ACQUIRED: 20, DONE: 20}


def test_of_a_worker_that_is_killed_in_the_middle_the_next_one_takes_over_at_once(
    team: Callable[..., Team],
) -> None:
    one = team(entry("p1"), lease_seconds=600)
    first = one.start(600)
    until(lambda: bool(notes(one.folder)))
    assert one.states()["p1"].state == "running" and f"process {first.pid}" in one.states()["p1"].worker
    assert one.worker().run() == []  # it lives: nobody touches it
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=30)
    assert "its worker ended in the middle" in one.states()["p1"].detail
    (outcome,) = one.worker().run()
    assert (outcome.result, outcome.version, one.versions("fade-panda")) == ("done", "fade-panda/1", 1)
    assert one.kinds("p1") == [ACQUIRED, ACQUIRED, DONE]


def test_a_worker_killed_between_registering_and_reporting_costs_no_second_erasure(
    team: Callable[..., Team],
) -> None:
    one = team(entry("p1"))
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "import tasks.requests.worker as r\nimport tests.requested as q\n"
        f"folder = Path({str(one.folder)!r})\nr.report_done = lambda *_: os._exit(9)\n"
        f"r.Worker(q.where(folder), q.eraser(folder, {one.proto!r})).run()\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO, timeout=120, check=False).returncode == 9
    assert one.versions("fade-panda") == 1
    (outcome,) = one.worker(eraser(one.folder, one.proto, before=lambda: pytest.fail("erased twice"))).run()
    assert (outcome.result, outcome.version, one.versions("fade-panda")) == ("done", "fade-panda/1", 1)
    assert one.states()["p1"].state == "done" and one.kinds("p1") == [ACQUIRED, ACQUIRED, DONE]


def test_a_silent_worker_of_another_machine_is_taken_over_after_the_lease_and_what_it_reports_is_void(
    team: Callable[..., Team], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = team(entry("p1"), lease_seconds=1)
    name = log_name("fade", "p1")
    with monkeypatch.context() as far:
        far.setattr(leases, "process_identity", lambda: {**process_identity(), "host": "elsewhere"})
        request = where(one.folder).requests(where(one.folder).resolve()).get("p1")
        lost = acquire(
            one.tracking,
            name,
            read_lease_log(one.tracking, name),
            {"fingerprint": request.fingerprint()},
            "bob@elsewhere",
        )
    assert lost is not None and one.states()["p1"].state == "running"
    (outcome,) = one.worker().run()
    assert outcome.result == "done" and one.kinds("p1") == [ACQUIRED, ACQUIRED, DONE]
    with pytest.raises(RequestError, match="took over"):
        leases.confirm(one.tracking, lost)
    with pytest.raises(RequestError, match="took over"):
        leases.report(one.tracking, lost, FAILED, {"why": "late"})
    assert one.states()["p1"].state == "done" and one.versions("fade-panda") == 1


def test_a_worker_of_another_machine_with_a_heartbeat_is_left_alone(
    team: Callable[..., Team], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = team(entry("p1"), lease_seconds=2)
    name = log_name("fade", "p1")
    monkeypatch.setattr(leases, "process_identity", lambda: {**process_identity(), "host": "elsewhere"})
    held = acquire(
        one.tracking, name, read_lease_log(one.tracking, name), {"fingerprint": "x"}, "bob@elsewhere"
    )
    assert held is not None
    monkeypatch.undo()  # who looks is of this machine
    with leases.heartbeat(one.tracking, held, 0.2):
        assert one.worker().run() == []
    assert one.kinds("p1") == [ACQUIRED] and one.states()["p1"].state == "running"


def test_a_wall_clock_that_goes_back_a_day_changes_nothing(
    team: Callable[..., Team], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = team(entry("p1"), entry("k1", "koala"))
    one.worker(only=("p1",)).run()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 86400)
    monkeypatch.setattr(leases, "_now", lambda: "2020-01-01T00:00:00+00:00")
    assert one.states()["p1"].state == "done"
    assert [o.id for o in one.worker().run()] == ["k1"]
    assert {s.state for s in one.states().values()} == {"done"} and one.versions("fade-panda") == 1


def test_a_target_that_somebody_erases_by_hand_is_waited_for_and_ctrl_c_releases_the_lease(
    team: Callable[..., Team],
) -> None:
    one = team(entry("p1"))

    def busy(*_: Any, **__: Any) -> dict[str, Any]:
        raise BusyError("'panda' is being erased by process 7.", stage="run", action="wait.")

    (outcome,) = one.worker(busy).run()
    assert outcome.result == "waiting" and one.states()["p1"].eligible and one.states()["p1"].failures == 0

    def stopped(*_: Any, **__: Any) -> dict[str, Any]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.worker(stopped).run()
    assert one.kinds("p1") == [ACQUIRED, RELEASED, ACQUIRED, RELEASED] and one.states()["p1"].state == "open"


def test_adding_gives_an_id_that_was_never_given_even_to_a_request_that_vanished(
    team: Callable[..., Team],
) -> None:
    one = team()
    (one.folder / "requests.yaml").unlink()
    place = where(one.folder)
    fields = {"concept": "panda", "reason": "a test", "requested_by": "ann"}
    first = add_request(place, fields)
    assert one.states()[first.id].state == "open"
    (one.folder / "requests.yaml").write_text("# emptied by mistake\nrequests: []\n")
    assert one.states()[first.id].state == "missing"  # remembered although nobody ever took it up
    second = add_request(place, fields)
    assert (
        second.id == f"{first.id}-2" and "# emptied by mistake" in (one.folder / "requests.yaml").read_text()
    )
    wrongs = [
        ({"id": first.id}, "is taken"),
        ({"concept": "pandaa"}, "concept: unknown concept"),
        ({"due": "1999-01-01"}, "due lies"),
    ]
    before = (one.folder / "requests.yaml").read_bytes()
    for wrong, message in wrongs:
        with pytest.raises(RequestFileError, match=message):
            add_request(place, {**fields, **wrong})
    assert (one.folder / "requests.yaml").read_bytes() == before


def test_many_who_add_at_once_all_find_their_request_in_the_file(team: Callable[..., Team]) -> None:
    one = team()
    with ThreadPoolExecutor(6) as pool:
        made = list(
            pool.map(
                lambda by: add_request(
                    where(one.folder), {"concept": "koala", "reason": "x", "requested_by": by}
                ),
                "abcdef",
            )
        )
    place = where(one.folder)
    assert sorted((r.id, r.requested_by) for r in place.requests(place.resolve()).requests) == sorted(
        (r.id, r.requested_by) for r in made
    )
    assert len({r.id for r in made}) == 6
