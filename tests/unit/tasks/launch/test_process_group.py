"""The supervisor: who gets which signal, what is spared, what a server's stop leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from fade.errors import TrainingError
from tasks.launch.process_group import Group, last_line, process_tree, stop_processes

COUNTS_TERM = """
import signal, sys, time
def note(*_):
    open(sys.argv[1], "a").write("T")
signal.signal(signal.SIGTERM, note)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""
LEADER = """
import signal, subprocess, sys, time
line = [sys.executable, "-c", sys.argv[2], sys.argv[1]]
child = subprocess.Popen(line, stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
signal.signal(signal.SIGINT, lambda *_: sys.exit(7))
print(child.pid, flush=True)
time.sleep(600)
"""


def started(group: Group, lines: int = 1) -> list[str]:
    until = time.monotonic() + 30
    while group.output().count("\n") < lines:
        assert time.monotonic() < until and group.runs(), group.output()
        time.sleep(0.01)
    return group.output().split()


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_each_member_of_a_group_gets_term_once(tmp_path: Path) -> None:
    line = [sys.executable, "-c", COUNTS_TERM, str(tmp_path / "terms")]
    group = Group(line, log=tmp_path / "log", env=os.environ)
    started(group)
    group.stop(grace=0.5)
    assert (tmp_path / "terms").read_text() == "T" and group.status() == -signal.SIGKILL


def test_a_leaders_own_signal_goes_to_it_alone_and_the_rest_is_killed(tmp_path: Path) -> None:
    line = [sys.executable, "-c", LEADER, str(tmp_path / "terms"), COUNTS_TERM]
    group = Group(line, log=tmp_path / "log", env=os.environ)
    (child,) = started(group)
    group.stop(20, signal.SIGINT)
    assert group.status() == 7 and not lives(int(child)) and not (tmp_path / "terms").exists()


@pytest.mark.parametrize("grace", [0.0, 0.3])
def test_processes_without_a_group_of_their_own_leave_ours_alone(tmp_path: Path, grace: float) -> None:
    line = [sys.executable, "-c", COUNTS_TERM, str(tmp_path / "terms")]
    with subprocess.Popen(line, stdout=subprocess.PIPE) as child:  # in this process's group
        assert child.stdout is not None and child.stdout.readline()
        stop_processes(process_tree(child.pid), grace=grace)
        assert child.wait(10) == -signal.SIGKILL
    assert (tmp_path / "terms").exists() == (grace > 0)


def test_a_log_is_read_from_this_start_on(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("an earlier start\n")
    group = Group([sys.executable, "-c", "print('now'); print('last')"], log=tmp_path / "log", env=os.environ)
    assert group.wait(60) == 0
    assert group.output() == "now\nlast\n" and last_line(group.output()) == "last"
    assert last_line(" \n") == "it wrote nothing."


def test_the_scheduler_ends_its_runs_and_spares_the_embedded_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.server import runtime
    from flows.service import serve

    code = [sys.executable, "-c", "import time; time.sleep(600)"]
    server, run = subprocess.Popen(code), subprocess.Popen(code)
    try:
        monkeypatch.setattr(runtime, "server_pid", lambda: server.pid)
        monkeypatch.setattr(serve, "process_tree", lambda pid: mine(pid, {server.pid, run.pid}))
        serve.end_children()
        assert run.wait(10) == -signal.SIGTERM and server.poll() is None
    finally:
        for process in (server, run):
            process.kill()
            process.wait()


def mine(pid: int, own: set[int]) -> list[psutil.Process]:
    """`process_tree` without children that other tests have left to this process."""
    return [one for one in process_tree(pid) if one.pid in {*own, os.getpid()}]


def test_a_child_that_must_answer_does_or_says_why_not(tmp_path: Path) -> None:
    code = "import time; print('up', flush=True); time.sleep(600)"
    group = Group([sys.executable, "-c", code], log=tmp_path / "log", env=os.environ)
    assert group.await_ready(lambda: "up" in group.output(), 30) == ""
    assert group.await_ready(lambda: False, 0) == "no answer in time: up"
    group.stop(grace=0)
    assert group.await_ready(lambda: False, 30) == "it ended with status -9: up"


SLEEPER = (
    "import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', {child!r}]{new}); "
    "open({pids!r}, 'w').write(f'{{c.pid}} '); time.sleep(600)"
)
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def sleeper(tmp_path, child="import time; time.sleep(600)", own_session=False):
    """A process with a child (which may ignore TERM, or sit in a session of its own, as torchrun's workers
    do)."""
    pids = tmp_path / "pids"
    new = ", start_new_session=True" if own_session else ""
    return [sys.executable, "-c", SLEEPER.format(child=child, new=new, pids=str(pids))], pids


def running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def child_of(pids):
    while not pids.exists() or not pids.read_text().endswith(" "):
        time.sleep(0.01)
    return int(pids.read_text())


def gone(pid):
    for _ in range(500):
        if not running(pid):
            return True
        time.sleep(0.01)
    return False


def test_output_and_status_are_kept(tmp_path):
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    assert Group([sys.executable, "-c", script], log=tmp_path / "log", env=os.environ).wait(60) == 3
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]


@pytest.mark.parametrize("own_session", [False, True])
def test_the_deadline_ends_the_whole_family(tmp_path, own_session):
    argv, pids = sleeper(tmp_path, own_session=own_session)
    seen = []

    def tick():
        if not seen:
            seen.append(child_of(pids))

    with pytest.raises(TrainingError, match=r"deadline of 0\.2 s"):
        Group(argv, log=tmp_path / "log", env=os.environ).wait(0.2, tick)
    assert gone(child_of(pids))


def test_ctrl_c_ends_the_whole_family_and_is_passed_on(tmp_path):
    argv, pids = sleeper(tmp_path)
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a runner in the background hands it down as ignored

    def tick():
        child_of(pids)
        signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            Group(argv, log=tmp_path / "log", env=os.environ).wait(60, tick)
    finally:
        signal.signal(signal.SIGINT, before)
    assert gone(child_of(pids))


def test_who_ignores_term_is_killed(tmp_path):
    argv, pids = sleeper(tmp_path, child=STUBBORN, own_session=True)
    group = Group(argv, log=tmp_path / "log", env=os.environ)
    child = child_of(pids)
    group.stop(grace=0.3)
    assert group.status() is not None
    assert gone(child)


def test_a_group_is_signalled_once_as_its_number_may_be_anothers_later(tmp_path, monkeypatch):
    group = Group([sys.executable, "-c", ""], log=tmp_path / "log", env=os.environ)
    assert group.wait(60) == 0
    signalled = []
    monkeypatch.setattr("os.killpg", lambda pid, number: signalled.append(pid))
    group.stop()
    assert not signalled


def test_the_parent_is_not_in_the_group(tmp_path):
    script = f"import os; assert os.getpgid(0) != {os.getpgid(0)}"
    assert Group([sys.executable, "-c", script], log=tmp_path / "log", env=os.environ).wait(60) == 0


def test_ctrl_c_while_processes_end_does_not_leave_them(tmp_path: Path) -> None:
    """The first Ctrl-C has begun the end already; a further one would break it off."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        line = [sys.executable, "-c", COUNTS_TERM, str(tmp_path / "terms")]
        group = Group(line, log=tmp_path / "log", env=os.environ)
        started(group)
        interrupts = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT))
        interrupts.start()
        group.stop(grace=0.5)
        interrupts.join()
        assert group.status() == -signal.SIGKILL
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "afterwards as before"
    finally:
        signal.signal(signal.SIGINT, before)
