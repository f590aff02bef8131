"""The installed command as a user starts it: in a process of its own, beside real servers, and stopped by
real signals."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

REPO = Path(__file__).resolve().parents[2]
SMALL = (
    "neighborhood.images_per_concept=2",
    "evaluate.images_per_concept=2",
    "evaluate.rest_concepts=2",
    "evaluate.bootstrap=50",
    "sampler.steps=4",
    "train.steps=6",
    "train.warmup=1",
    "train.checkpoint_every=3",
)
NO_TELEMETRY = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fade(
    *arguments: str, runs: Path, cwd: Path = REPO, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own."""
    line = command(*arguments, runs=runs)
    return subprocess.run(line, cwd=cwd, env=environment(env), capture_output=True, text=True, timeout=900)


def fade_each(*lines: Sequence[str], runs: Path, cwd: Path = REPO) -> list[subprocess.CompletedProcess[str]]:
    """Several commands, one after another, in one process of their own: imports, seconds of each, are paid
    for once."""
    script = (
        "import contextlib, io, json, sys\n"
        "from flows.cli import main\n"
        "told = []\n"
        "for words in json.loads(sys.argv[1]):\n"
        "    sys.argv, code, out, err = ['fade', *words], 0, io.StringIO(), io.StringIO()\n"
        "    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):\n"
        "        try:\n"
        "            main()\n"
        "        except SystemExit as ended:\n"
        "            code = ended.code\n"
        "    told.append([code, out.getvalue(), err.getvalue()])\n"
        "print(json.dumps(told))\n"
    )
    words = [[*line, "--runs-dir", str(runs)] for line in lines]
    line = [sys.executable, "-c", script, json.dumps(words)]
    done = subprocess.run(line, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr + done.stdout
    told = json.loads(done.stdout.splitlines()[-1])
    return [subprocess.CompletedProcess(line, *one) for line, one in zip(words, told, strict=True)]


def small(*more: str) -> list[str]:
    return [part for item in (*SMALL, *more) for part in ("--set", item)]


def command(*arguments: str, runs: Path) -> list[str]:
    return [sys.executable, "-m", "flows.cli", *arguments, "--runs-dir", str(runs)]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Ours without anybody's servers, and ``more``."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "PREFECT_", "AWS_"))}
    return {**clean, **(more or {})}


def finish(
    line: Sequence[str], env: Mapping[str, str], *, cwd: Path = REPO, timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run a command that may hang with children of its own: after ``timeout`` seconds all of them are killed
    and the test fails."""
    with subprocess.Popen(
        line,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            _, err = process.communicate()
            pytest.fail(f"still running after {timeout:g} s; it had said: {err[-3000:]}")
    return subprocess.CompletedProcess(line, process.returncode, out, err)


def stages(said: str) -> list[str]:
    """The stages that the lines of a run's stderr tell of, in order."""
    names = ("pull", "validate", "mine", "train", "evaluate", "register")
    return list(
        dict.fromkeys(
            line.split()[0] for line in said.splitlines() if line.split() and line.split()[0] in names
        )
    )


# Signals.


class Started:
    """A run under way whose stderr is a file: it can be watched without a thread."""

    def __init__(
        self, *arguments: str, runs: Path, log: Path, cwd: Path = REPO, env: Mapping[str, str] | None = None
    ) -> None:
        # A runner in the background hands SIGINT down as ignored; a terminal does not.
        by_terminal = (
            "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
        line = [sys.executable, "-c", by_terminal, *command(*arguments, runs=runs)]
        self.log = log
        with log.open("wb") as stream:
            self.process = subprocess.Popen(
                line,
                cwd=cwd,
                env=environment(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stream,
                start_new_session=True,
            )
        self.family: list[psutil.Process] = []

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def reach(self, stage: str, deep: Callable[[], bool], timeout: float = 150) -> None:
        """Wait until ``stage`` has begun and ``deep()`` holds; from then on the process's family is known."""
        until = time.monotonic() + timeout
        while not (stage in stages(self.said) and deep()):
            assert self.process.poll() is None, (
                f"ended with {self.process.returncode} before {stage}: {self.said}"
            )
            assert time.monotonic() < until, f"{stage} was not reached: {self.said}"
            time.sleep(0.02)
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def family_runs(self, what: str) -> bool:
        """True when a process of the family has ``what`` in its command line."""
        for member in self.family:
            with contextlib.suppress(psutil.Error):
                if what in " ".join(member.cmdline()):
                    return True
        return False

    def signal(self, number: signal.Signals, *, group: bool) -> None:
        (os.killpg if group else os.kill)(self.process.pid, number)

    def end(self, timeout: float) -> int:
        """The exit status. Fails when it takes longer."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running {timeout:g} s after the signal; it had said: {self.said}")

    def left(self, patience: float = 5) -> list[psutil.Process]:
        """Those of the family that still run; psutil compares start times, so a reused process id is not
        taken for one."""
        until = time.monotonic() + patience
        while (alive := [member for member in self.family if _runs(member)]) and time.monotonic() < until:
            time.sleep(0.1)
        return alive

    def kill(self) -> None:
        """Whatever the test has found, nothing stays behind."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        for member in self.left(0):
            with contextlib.suppress(psutil.Error):
                member.kill()


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


# Servers.


@contextlib.contextmanager
def served(
    line: Sequence[str], health: str, env: Mapping[str, str], log: Path, timeout: float = 150
) -> Iterator[None]:
    """A server in a process group of its own, from its first healthy answer to the end of the block."""
    with log.open("wb") as stream:
        server = subprocess.Popen(
            line,
            cwd=log.parent,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + timeout
        while not _healthy(health):
            assert server.poll() is None and time.monotonic() < until, log.read_text(errors="replace")[-3000:]
            time.sleep(0.2)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(15)
        with contextlib.suppress(ProcessLookupError):  # its workers, when it left some
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _healthy(url: str) -> bool:
    try:
        with _DIRECT.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def get(url: str) -> Any:
    """The JSON that a server answers."""
    with _DIRECT.open(url, timeout=20) as answer:
        return json.load(answer)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Disks.


def can_mount(at: Path) -> bool:
    """True when this user may mount a small disk of memory in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    at.mkdir(parents=True, exist_ok=True)
    mount = ["unshare", "-Urm", "mount", "-t", "tmpfs", "-o", "size=64k", "none", str(at)]
    return subprocess.run(mount, capture_output=True).returncode == 0


def on_small_disk(line: Sequence[str], disk: Path, *, seed: Path, out: Path, free: int) -> list[str]:
    """``line`` where ``disk`` is a file system that holds ``seed`` and ``free`` more bytes; what it holds in
    the end goes to ``out``."""
    used = sum(-(-p.stat().st_size // 4096) * 4096 for p in seed.rglob("*") if p.is_file())
    script = (
        'mount -t tmpfs -o size="$1" none "$2" && cp -a "$3"/. "$2"/ || exit 98; disk=$2; out=$4; shift 4; '
        '"$@"; code=$?; cp -a "$disk"/. "$out"/ || exit 99; exit $code'
    )
    for folder in (disk, out):
        folder.mkdir(parents=True, exist_ok=True)
    return [
        "unshare",
        "-Urm",
        "sh",
        "-c",
        script,
        "sh",
        str(max(used + free, 4096)),
        str(disk),
        str(seed),
        str(out),
        *line,
    ]


def with_small_files(line: Sequence[str], limit: int) -> list[str]:
    """``line`` where no file may grow beyond ``limit`` bytes: what is left to try where nothing may be
    mounted."""
    script = (
        "import os, resource, sys; limit = int(sys.argv[1]); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)); os.execv(sys.argv[2], sys.argv[2:])"
    )
    return [sys.executable, "-c", script, str(limit), *line]
