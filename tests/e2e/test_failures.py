"""What goes wrong while a run goes on: full disks, signals, a second run, servers, bad pictures. Every tool
is the real one.

Each failure must end with its exit code and a sentence, and must not cost anything that was there before.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from fade.data.manifest import MANIFEST
from fade.utils.hashing import sha256_of
from tests.datasets import rehash, write_manifest
from tests.e2e.support import (
    NO_TELEMETRY,
    REPO,
    Started,
    can_mount,
    command,
    environment,
    fade,
    finish,
    free_port,
    get,
    on_small_disk,
    served,
    small,
    stages,
    with_small_files,
)
from tests.support import make_bare_base, make_bare_model

pytestmark = pytest.mark.failures
RUN = ("run", "--target", "panda", *small("train.steps=12"))
"""One command for all: 12 steps with a checkpoint every 3, so that a training can be stopped twice."""
STOP_SECONDS = 45.0
"""What a user may have to wait after Ctrl-C: the workers' 10 s of grace, the server's 5 s, and some."""
DEAD = "http://127.0.0.1:9"
"""The discard port: nothing listens there."""


class Whole(NamedTuple):
    """An undisturbed run."""

    runs: Path
    said: dict[str, Any]

    @property
    def sha256(self) -> str:
        return str(self.said["adapter_sha256"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What every other run must come to."""
    runs = tmp_path_factory.mktemp("whole") / "runs"
    done = fade(*RUN, "--json", runs=runs)
    assert done.returncode == 0, done.stderr
    return Whole(runs, json.loads(done.stdout))


def seeded(whole: Whole, runs: Path, *parts: str, unmined: int = 0) -> Path:
    """A runs folder with some of what the whole run left, so that the next one need not make it again.

    parts: ``prefect`` (the migrated database), ``mined`` (the pictures that were there before the adapter
    was), ``cache`` (all pictures), ``erase`` (the run itself). unmined: as many of the mined pictures are
    missing, and the cosines with them."""
    born = Path(str(whole.said["adapter"])).stat().st_mtime_ns

    def younger(folder: str, names: list[str]) -> set[str]:
        files = {name: Path(folder) / name for name in names if (Path(folder) / name).is_file()}
        return {name for name, file in files.items() if file.stat().st_mtime_ns > born}

    runs.mkdir(parents=True)
    for part in parts:
        name, skip = ("cache", younger) if part == "mined" else (part, None)
        shutil.copytree(whole.runs / name, runs / name, ignore=skip)
    if unmined:
        shutil.rmtree(runs / "cache" / "means")
        for picture in sorted((runs / "cache" / "pictures").iterdir())[:unmined]:
            picture.unlink()
    return runs


def kept(runs: Path, *patterns: str) -> dict[str, str]:
    """{relative path: sha256} of what no failure may cost."""
    found = [
        p
        for pattern in (*patterns, "cache/**/*.safetensors", "erase/*/*/adapter.safetensors")
        for p in runs.glob(pattern)
    ]
    return {
        p.relative_to(runs).as_posix(): sha256_of(p)
        for p in found
        if p.is_file() and not p.name.startswith(".")
    }


def finished(done: subprocess.CompletedProcess[str], whole: Whole) -> dict[str, Any]:
    """The JSON of a run that came to the same adapter as the whole one."""
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    assert said["adapter_sha256"] == whole.sha256 == sha256_of(Path(said["adapter"]))
    return said


def failed(done: subprocess.CompletedProcess[str], *says: str) -> None:
    """Exit code 1, and a sentence that says what is wrong and what comes next."""
    assert done.returncode == 1, f"exit code {done.returncode}: {done.stderr}"
    assert "Traceback" not in done.stderr, done.stderr
    assert "error" in done.stderr and "Next: " in done.stderr
    for text in says:
        assert re.search(text, done.stderr), done.stderr


# Servers.


@pytest.fixture(scope="module")
def prefect(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The API address of a Prefect server."""
    home = tmp_path_factory.mktemp("prefect-server")
    shutil.copytree(whole.runs / "prefect", home / "prefect")  # its migrations are done
    port = str(free_port())
    env = environment({**NO_TELEMETRY, "PREFECT_HOME": str(home / "prefect"), "PREFECT_UI_ENABLED": "false"})
    line = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", port]
    with served(line, f"http://127.0.0.1:{port}/api/health", env, home / "log"):
        yield f"http://127.0.0.1:{port}/api"


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an MLflow server that serves its artifacts."""
    home = tmp_path_factory.mktemp("mlflow-server")
    port = str(free_port())
    store = [
        "--backend-store-uri",
        f"sqlite:///{home / 'mlflow.db'}",
        "--artifacts-destination",
        str(home / "artifacts"),
    ]
    line = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        port,
        "--workers",
        "1",
        *store,
    ]
    with served(line, f"http://127.0.0.1:{port}/health", environment(NO_TELEMETRY), home / "log"):
        yield f"http://127.0.0.1:{port}"


def flow_state(server: str, folder: Path) -> str:
    """What the server says of the flow run that the folder's lineage names."""
    lineage = json.loads((folder / "lineage.json").read_text(encoding="utf-8"))
    return str(get(f"{server}/flow_runs/{lineage['orchestration']['flow_run_id']}")["state_type"])


@pytest.mark.timeout(600)
def test_a_prefect_server_sees_a_failed_flow_and_the_same_command_continues_it(
    whole: Whole, prefect: str, tmp_path: Path
) -> None:
    runs = seeded(whole, tmp_path / "runs", "mined")
    first = fade(*RUN, runs=runs, env={"PREFECT_API_URL": prefect, "MLFLOW_TRACKING_URI": DEAD})
    failed(first, "register: ", re.escape(DEAD), "fade register ")
    (folder,) = [p.parent for p in runs.glob("erase/panda/*/adapter.safetensors")]
    assert flow_state(prefect, folder) == "FAILED"
    assert (folder / "pending_registration.json").is_file()

    made = [
        *(folder / n for n in ("adapter.safetensors", "history.json", "done.json")),
        *runs.glob("cache/*/*.safetensors"),
    ]
    before = {p: p.stat().st_mtime_ns for p in made}
    said = finished(fade(*RUN, "--json", runs=runs, env={"PREFECT_API_URL": prefect}), whole)
    assert flow_state(prefect, folder) == "COMPLETED"
    assert {p: p.stat().st_mtime_ns for p in made} == before and len(
        list(runs.glob("cache/*/*.safetensors"))
    ) == len(made) - 3
    assert said["metrics"] == whole.said["metrics"] and said["model_version"] == "1"
    assert (
        not (folder / "pending_registration.json").exists() and not (runs / "prefect" / "prefect.db").exists()
    )


@pytest.mark.timeout(600)
def test_an_mlflow_server_gets_the_version_and_gives_it_back(
    whole: Whole, prefect: str, mlflow: str, tmp_path: Path
) -> None:
    runs = seeded(whole, tmp_path / "runs", "cache", "erase")
    env = {"PREFECT_API_URL": prefect, "MLFLOW_TRACKING_URI": mlflow}
    said = finished(fade(*RUN, "--json", runs=runs, env=env), whole)
    assert (said["model_name"], said["model_version"]) == ("fade-panda", "1")
    version = get(f"{mlflow}/api/2.0/mlflow/model-versions/get?name=fade-panda&version=1")["model_version"]
    assert {"key": "adapter_sha256", "value": whole.sha256} in version["tags"]
    assert not (runs / "mlflow.db").exists() and not (runs / "mlartifacts").exists()

    fresh, out = tmp_path / "another-machine", tmp_path / "grid.png"
    line = (
        "generate",
        "a panda",
        "--model",
        "fade-panda/1",
        "-n",
        "2",
        "--out",
        str(out),
        "--set",
        "sampler.steps=4",
    )
    drawn = fade(*line, runs=fresh, env=env)
    assert drawn.returncode == 0, drawn.stderr
    assert drawn.stdout.strip() == str(out)
    with Image.open(out) as grid:
        assert grid.size == (2 * 64 + 3 * 2, 64 + 2 * 2)
    assert sha256_of(fresh / "cache" / "adapters" / whole.sha256 / "adapter.safetensors") == whole.sha256


# Signals. One runs folder is stopped again and again: each stop also shows that the run went on after the one
# before.


class Stops(NamedTuple):
    """A runs folder, and where it has been stopped so far."""

    runs: Path
    at: list[str]


@pytest.fixture(scope="module")
def stops(whole: Whole, tmp_path_factory: pytest.TempPathFactory) -> Stops:
    return Stops(
        seeded(whole, tmp_path_factory.mktemp("stopped") / "runs", "prefect", "mined", unmined=6), []
    )


def deep_in(stage: str, runs: Path) -> Callable[[], bool]:
    """A test for work that is half done: some pictures are kept and more are to come, a checkpoint was just
    written."""
    pattern = {
        "mine": "cache/pictures/*",
        "evaluate": "cache/pictures/*",
        "train": "erase/*/*/checkpoints/*",
        "register": "mlartifacts/*/*",
    }
    if stage not in pattern:
        return lambda: True
    before = {p for p in runs.glob(pattern[stage]) if not p.name.startswith(".")}
    return lambda: bool({p for p in runs.glob(pattern[stage]) if not p.name.startswith(".")} - before)


def stop(run: Started, number: signal.Signals, *, group: bool) -> None:
    """Send the signal, and check what every stopped run must do."""
    assert run.family_runs("flows.server.connection"), (
        "the embedded server is not where the test looks for it"
    )
    run.signal(number, group=group)
    code = run.end(STOP_SECONDS)
    left = run.left()
    assert left == [], f"left alive: {left}"
    assert code == 1, f"exit code {code}: {run.said}"
    assert "Traceback" not in run.said, run.said
    assert re.search("^stopped .*the same command continues", run.said, re.MULTILINE), run.said


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("validate", signal.SIGINT),
        ("mine", signal.SIGINT),
        ("train", signal.SIGINT),
        ("train", signal.SIGTERM),
        ("evaluate", signal.SIGINT),
        ("register", signal.SIGINT),
    ],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
@pytest.mark.timeout(300)
def test_a_signal_stops_a_run_and_all_that_it_started(
    stops: Stops, stage: str, number: signal.Signals, tmp_path: Path
) -> None:
    before = kept(stops.runs)
    run = Started(*RUN, runs=stops.runs, log=tmp_path / "stderr")
    try:
        run.reach(stage, deep_in(stage, stops.runs))
        assert not run.family_runs("fade.jobs.worker"), "a training of one process is done by the run itself"
        # A terminal signals the whole group, a scheduler the process that it started.
        stop(run, number, group=number == signal.SIGINT)
    finally:
        run.kill()
    assert kept(stops.runs).items() >= before.items()
    assert stages(run.said)[-1] == stage, run.said
    stops.at.append(stage)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda value: value.name)
@pytest.mark.timeout(300)
def test_a_signal_stops_a_run_and_the_workers_of_its_training(
    whole: Whole, tmp_path: Path, number: signal.Signals
) -> None:
    runs = seeded(whole, tmp_path / "runs", "prefect", "mined")
    run = Started(*RUN, "--set", "train.processes=2", runs=runs, log=tmp_path / "stderr")
    try:
        run.reach("train", deep_in("train", runs))
        assert run.family_runs("fade.jobs.worker")
        stop(run, number, group=number == signal.SIGINT)
    finally:
        run.kill()
    assert stages(run.said)[-1] == "train", run.said


@pytest.mark.timeout(300)
def test_after_all_those_stops_the_same_command_ends_as_if_undisturbed(stops: Stops, whole: Whole) -> None:
    said = finished(fade(*RUN, "--json", runs=stops.runs), whole)
    assert said["metrics"] == whole.said["metrics"]
    assert said["model_version"] == "1"
    folder = Path(said["adapter"]).parent
    assert not (folder / "pending_registration.json").exists()
    if "train" in stops.at:  # it went on from a checkpoint, and did not start anew
        assert json.loads((folder / "done.json").read_text())["run"]["resumed_at"] in (3, 6, 9)


@pytest.mark.timeout(300)
def test_ctrl_c_while_pulling_leaves_no_half_of_the_data(whole: Whole, prefect: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    checkout(project)
    shutil.copytree(REPO / "remote", project / "remote")
    shutil.copy(REPO / "data.dvc", project)
    runs = seeded(whole, tmp_path / "runs", "prefect", "mined")
    before, objects = kept(runs), project / ".dvc" / "cache" / "files" / "md5"
    run = Started(*RUN, runs=runs, log=tmp_path / "stderr", cwd=project)
    try:
        run.reach("pull", lambda: any(objects.glob("*/*")))
        stop(run, signal.SIGINT, group=True)
    finally:
        run.kill()
    assert stages(run.said) == ["pull"] and not (project / "data").exists()
    assert kept(runs) == before
    said = finished(fade(*RUN, "--json", runs=runs, cwd=project, env={"PREFECT_API_URL": prefect}), whole)
    assert said["data_md5"] == whole.said["data_md5"]


@pytest.mark.timeout(600)
def test_of_two_runs_of_a_target_one_wins_and_the_other_names_it(whole: Whole, tmp_path: Path) -> None:
    runs = seeded(whole, tmp_path / "runs", "prefect", "mined")
    line, pipe = command(*RUN, "--json", runs=runs), subprocess.PIPE
    both = [
        subprocess.Popen(
            line, cwd=REPO, env=environment(), stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        for _ in range(2)
    ]
    try:
        done = [subprocess.CompletedProcess(line, 0, *process.communicate(timeout=250)) for process in both]
    finally:
        for process in both:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
    for process, outcome in zip(both, done, strict=True):
        outcome.returncode = process.returncode
    won, lost = sorted(done, key=lambda outcome: outcome.returncode)
    assert (won.returncode, lost.returncode) == (0, 1), won.stderr + lost.stderr
    winner = next(process.pid for process in both if process.returncode == 0)
    failed(lost, f"run: 'panda' is being erased by process ({winner}|unknown)", "wait for it to end")
    said = finished(won, whole)
    assert (
        said["metrics"] == whole.said["metrics"]
        and said["model_version"] == "1"
        and Path(said["report"]).is_file()
    )


# Disks.


class Disk(NamedTuple):
    """Where a disk is full: what it holds already, how many bytes are left, and the largest file where
    nothing can be mounted."""

    parts: tuple[str, ...]
    unmined: int
    free: int
    limit: int
    last: str
    """The stage in which the space runs out."""


DISKS = {
    "checks": Disk(("cache", "erase"), 0, 4 << 10, 2_000, "validate"),
    "pictures": Disk(("mined",), 6, 96 << 10, 24 << 10, "mine"),
    "checkpoint": Disk(("mined",), 0, 240 << 10, 300 << 10, "train"),
    "report": Disk(("cache", "erase"), 0, 160 << 10, 160 << 10, "register"),
}
FULL = r"disk is full|[Nn]o space left|File too large"
RESULTS = (
    "erase/*/*/report.html",
    "erase/*/*/result.json",
    "erase/*/*/history.json",
    "erase/*/*/done.json",
    "erase/*/*/pictures/*",
)


@pytest.mark.parametrize("what", DISKS)
@pytest.mark.timeout(400)
def test_a_disk_that_fills_up_is_named_and_costs_nothing(
    whole: Whole, prefect: str, tmp_path: Path, what: str
) -> None:
    case = DISKS[what]
    seed = seeded(whole, tmp_path / "seed", *case.parts, unmined=case.unmined)
    env = {"PREFECT_API_URL": prefect, "PREFECT_HOME": str(tmp_path / "prefect")}
    if can_mount(tmp_path / "probe"):
        runs, after = tmp_path / "disk", tmp_path / "after"
        line = on_small_disk(command(*RUN, runs=runs), runs, seed=seed, out=after, free=case.free)
    else:
        runs = after = Path(shutil.copytree(seed, tmp_path / "after"))
        line = with_small_files(command(*RUN, runs=runs), case.limit)
    done = finish(line, environment(env), timeout=200)
    failed(done, FULL)
    assert stages(done.stderr)[-1] == case.last, done.stderr
    assert kept(after, *RESULTS).items() >= kept(seed, *RESULTS).items()
    if what == "checkpoint":  # and with some room the same command ends as if nothing had been
        finished(fade(*RUN, "--json", runs=after, env=env), whole)


@pytest.mark.timeout(200)
def test_a_disk_that_is_full_from_the_start_is_known_at_once(tmp_path: Path) -> None:
    if not can_mount(tmp_path / "probe"):
        pytest.skip(
            "no small disk can be mounted here, and to a database a limit on file sizes does not look like "
            "one"
        )
    (tmp_path / "seed").mkdir()
    runs = tmp_path / "disk"
    line = on_small_disk(
        command(*RUN, runs=runs), runs, seed=tmp_path / "seed", out=tmp_path / "after", free=64 << 10
    )
    failed(finish(line, environment(), timeout=90), FULL, re.escape(str(runs)))


@pytest.mark.parametrize(
    ("arguments", "own"),
    [
        (("run",), False),
        (("mine", "--target", "panda"), False),
        (("pull",), False),
        (("run",), True),
        (("mine", "--target", "panda"), True),
    ],
    ids=["run", "mine", "pull", "run, DVC elsewhere", "mine, DVC elsewhere"],
)
@pytest.mark.timeout(120)
def test_an_unwritable_runs_folder_is_known_at_once(
    tmp_path: Path, arguments: tuple[str, ...], own: bool
) -> None:
    """Root writes wherever it likes, but not below a file, nor in /proc. own: DVC has folders of the user's,
    which are fine."""
    file = tmp_path / "file"
    file.write_text("mine")
    env = {k: v for k, v in environment().items() if own or not k.startswith("DVC_")}
    for runs in (file / "runs", Path("/proc/fade-runs")):
        failed(finish(command(*arguments, runs=runs), env, timeout=45), re.escape(str(runs)), "--runs-dir")
    assert file.read_text() == "mine"


# Bad models.


def _pickled(base: Path) -> None:
    weights = next((base / "unet").glob("*.safetensors"))
    weights.rename(weights.with_suffix(".bin"))


def _without_weights(base: Path) -> None:
    next((base / "unet").glob("*.safetensors")).unlink()


def _without_config(base: Path) -> None:
    (base / "vae" / "config.json").unlink()


def _cut_short(base: Path) -> None:
    weights = next((base / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])


def _without_a_tensor(base: Path) -> None:
    weights = next((base / "unet").glob("*.safetensors"))
    save_file({k: v for k, v in load_file(weights).items() if k != "conv_in.weight"}, weights)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_pickled, r"only diffusion_pytorch_model\.bin, and no pickle is loaded"),
        (_without_weights, "unet holds no safetensors weights"),
        (_without_config, r"vae/config\.json is missing"),
        (_cut_short, "is no whole safetensors file"),
        (_without_a_tensor, r"unet lacks conv_in\.weight"),
    ],
    ids=["pickled", "without weights", "without config", "cut short", "without a tensor"],
)
@pytest.mark.timeout(180)
def test_a_base_that_is_not_whole_is_refused(
    whole: Whole, prefect: str, tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    base = Path(shutil.copytree(REPO / "data" / "base", tmp_path / "base"))
    spoil(base)
    runs = seeded(whole, tmp_path / "runs", "erase")
    before = kept(runs, *RESULTS)
    done = fade(*RUN, "--set", f"data.base={base}", runs=runs, env={"PREFECT_API_URL": prefect})
    failed(done, says)
    # what its files do not show, only loading it does
    assert stages(done.stderr)[-1:] == (["mine"] if spoil is _without_a_tensor else []), done.stderr
    assert kept(runs, *RESULTS) == before


# Bad pictures, in a project of the repository's own parts: three concepts, all their drawings, under DVC.

IMAGES = Path("data/emoji")
Plant = Callable[[Path, pd.DataFrame], None]
OF_THREE = (
    *(*RUN, "--set", "neighborhood.k=1", "--set", "neighborhood.k_heldout=1"),
    *("--set", 'data.second_judge=""'),
)
"""The run, of no more neighbours and models than there are."""


def checkout(project: Path) -> None:
    """The tracked parts that a run reads, without the data."""
    (project / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvcignore", "params.yaml"):
        shutil.copy(REPO / name, project / name)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    home = tmp_path / "project"
    checkout(home)
    frame = pd.read_csv(REPO / IMAGES / MANIFEST, dtype=str, keep_default_na=False)
    names = ["panda", *[name for name in frame["concept"].unique() if name != "panda"][:2]]
    frame = frame[frame["concept"].isin(names)]
    for name in frame["path"]:
        (home / IMAGES / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPO / IMAGES / name, home / IMAGES / name)
    write_manifest(home / IMAGES, frame)
    useless_models(home / "data")
    return home


def useless_models(data: Path) -> None:
    """Models that look whole, and load as nothing: one that does not look so is refused before the data are
    looked at."""
    make_bare_base(data / "base")
    make_bare_model(data / "base" / "clip")
    make_bare_model(data / "judge")


def track(project: Path) -> None:
    """`dvc add data`: what is there now is what a pull promises."""
    config = project / ".dvc" / "config"
    if "no_scm" not in (text := config.read_text()):
        config.write_text(text.replace("[core]\n", "[core]\n    no_scm = true\n", 1))
    subprocess.run(
        [sys.executable, "-m", "dvc", "add", "--quiet", "data"],
        cwd=project,
        check=True,
        capture_output=True,
        timeout=120,
    )


def contents(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in folder.rglob("*") if p.is_file()}


def _first(frame: pd.DataFrame, split: str = "train") -> str:
    """A drawing of the panda."""
    return str(frame.loc[(frame["concept"] == "panda") & (frame["split"] == split), "path"].iloc[0])


def _truncated(folder: Path, frame: pd.DataFrame) -> None:
    picture = folder / _first(frame)
    picture.write_bytes(picture.read_bytes()[:200])


def _missing(folder: Path, frame: pd.DataFrame) -> None:
    (folder / _first(frame)).unlink()


def _grey(folder: Path, frame: pd.DataFrame) -> None:
    with Image.open(folder / _first(frame)) as picture:
        picture.convert("L").save(folder / _first(frame))
    rehash(folder, frame)


def _small(folder: Path, frame: pd.DataFrame) -> None:
    with Image.open(folder / _first(frame)) as picture:
        picture.resize((32, 32)).save(folder / _first(frame))
    frame.loc[frame["path"] == _first(frame), ["width", "height"]] = "32"
    rehash(folder, frame)


def _in_two_splits(folder: Path, frame: pd.DataFrame) -> None:
    shutil.copy(folder / _first(frame), folder / _first(frame, "heldout"))
    rehash(folder, frame)


def _bytes(change: Callable[[bytes], bytes]) -> Plant:
    def plant(folder: Path, frame: pd.DataFrame) -> None:
        (folder / MANIFEST).write_bytes(change((folder / MANIFEST).read_bytes()))

    return plant


# name of the fault -> (what is done to the folder and its manifest, what the message says; PICTURE: the
# picture's path)
PICTURE, TABLE = "PICTURE", re.escape(str(IMAGES / MANIFEST))
FAULTS: dict[str, tuple[Plant, str]] = {
    "truncated": (_truncated, rf"validate: .*decodes \(.*\) fails for {PICTURE} \("),
    "missing": (_missing, rf"validate: .*exists \(.*\) fails for {PICTURE}"),
    "grey": (_grey, rf"validate: mode \(.*\) fails for {PICTURE} \(L\)"),
    "small": (
        _small,
        rf"validate: width \(.*\) fails for {PICTURE} \(32\); height \(.*\) fails for {PICTURE} \(32\)",
    ),
    "in two splits": (_in_two_splits, rf"validate: no-leak \(.*\) fails for .*{PICTURE}"),
    "listed twice": (
        lambda f, m: write_manifest(f, pd.concat([m, m.iloc[[0]]])),
        r"validate: path-unique \(.*\) fails for .*\.png",
    ),
    "extra column": (
        lambda f, m: write_manifest(f, m.assign(colour="red")),
        rf"manifest: {TABLE}: columns: unknown \['colour'\]",
    ),
    "empty manifest": (_bytes(lambda _: b""), f"manifest: {TABLE} is empty"),
    "manifest in Latin-1": (
        _bytes(lambda b: b.replace(b"panda", b"pand\xe4", 1)),
        f"manifest: {TABLE} cannot be read: it is not UTF-8",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.timeout(180)
def test_bad_data_stops_the_run_before_anything_is_mined(
    project: Path, prefect: str, tmp_path: Path, fault: str
) -> None:
    plant, says = FAULTS[fault]
    frame = pd.read_csv(project / IMAGES / MANIFEST, dtype=str, keep_default_na=False)
    plant(project / IMAGES, frame)
    track(project)
    before, runs = contents(project / "data"), tmp_path / "runs"
    done = fade(*OF_THREE, runs=runs, cwd=project, env={"PREFECT_API_URL": prefect})
    failed(done, says.replace(PICTURE, re.escape(_first(frame))))
    assert stages(done.stderr) == ["pull", "validate"], done.stderr
    assert not (runs / "cache").exists() and not list(runs.glob("erase/*/*/job.json"))
    assert contents(project / "data") == before


@pytest.mark.timeout(180)
def test_the_same_data_without_a_fault_passes_and_the_run_stops_for_want_of_a_base(
    project: Path, prefect: str, tmp_path: Path
) -> None:
    track(project)
    done = fade(*OF_THREE, runs=tmp_path / "runs", cwd=project, env={"PREFECT_API_URL": prefect})
    failed(done, "is no UNet2DConditionModel that loads")
    assert stages(done.stderr) == ["pull", "validate", "mine"], done.stderr
    shutil.rmtree(project / "data" / "base")
    track(project)
    at_once = fade(*OF_THREE, runs=tmp_path / "runs", cwd=project, env={"PREFECT_API_URL": prefect})
    failed(at_once, "data/base is not there")
    assert stages(at_once.stderr) == [], at_once.stderr
