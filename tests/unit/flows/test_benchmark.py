"""A benchmark that was stopped goes on: what is finished is never computed twice, and nothing foreign is
taken for finished."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer

from fade.benchmark.archive import FOLDER, POINTER, TABLE, Archive, write_archive
from fade.benchmark.plan import plan_of
from fade.benchmark.record import read_record
from fade.benchmark.tuning import choose, trial_of, write_tuned
from fade.data.dvcfile import hash_folder, listing_md5
from fade.errors import CacheError, DivergedError, FadeError
from fade.run.context import RunContext
from flows.benchmark import Bench, BenchmarkOptions, chosen, for_trials, measure_all, report
from tasks.stages.benchmark import measure
from tests.datasets import make_dataset
from tests.support import forked, make_bare_base, make_bare_model
from tests.unit.fade.benchmark.cells import measured

TINY = (
    "bench.targets=[panda, tulip]",
    "bench.tuning=[rose]",
    "bench.seeds=[0]",
    "bench.methods=[esd/x, uce]",
    "bench.resamples=50",
)
PLACES = {"data.base": "base", "data.judge": "judge", "data.clip": "clip", "data.images": "images"}


def place(root: Path) -> None:
    """A data set, and folders that stand for models: they are hashed, not loaded."""
    make_dataset(root / "images")
    make_bare_base(root / "base")
    for name in ("judge", "clip"):
        make_bare_model(root / name)
    (root / "data.dvc").write_text(
        "outs:\n- md5: " + "0" * 32 + ".dir\n  size: 1\n  nfiles: 1\n  hash: md5\n  path: images\n"
    )


def asked(root: Path, repo: Path, *more: str) -> BenchmarkOptions:
    where = tuple(f"{key}={root / name}" for key, name in PLACES.items())
    alone = 'data.second_judge=""'
    overrides = (f"data.dvc_file={root / 'data.dvc'}", alone, *where, *TINY, *more)
    return BenchmarkOptions(repo / "params.yaml", root / "runs", root / "bench", overrides, root / "out")


def opened(wish: BenchmarkOptions, md5: str = "0" * 32 + ".dir") -> Bench:
    from fade.run.resolve_params import resolve

    first = RunContext(resolve(wish.params_file, wish.overrides), "panda", wish.runs, wish.params_file.parent)
    return Bench(first, wish.home / "cells", md5, "abc", wish.params_file, wish.overrides)


def run(bench: Bench, log: Path, die_at: int = -1) -> dict[Any, Any]:
    """All cells, by a measurement that writes down that it was made; the ``die_at``-th kills its process as
    it begins."""
    made = 0

    def work(bench: Bench, cell: Any, *_: Any) -> dict[str, Any]:
        nonlocal made
        if made == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        made += 1
        with log.open("a", encoding="utf-8") as stream:
            print(cell.label, file=stream)
        return measured(90, 80, 70)

    wanted = [(cell, ()) for cell in plan_of(bench.first.params.bench, bench.first.vocabulary).cells()]
    found, failures = measure_all(bench, wanted, "bench", partial(measure, work=work))
    assert not failures
    return found


def labels(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").splitlines()


ALL = [
    "esd/x, panda, seed 0",
    "uce/keys-values, panda, seed 0",
    "esd/x, tulip, seed 0",
    "uce/keys-values, tulip, seed 0",
]


def test_a_killed_benchmark_goes_on_after_the_last_finished_cell(tmp_path: Path, repo: Path) -> None:
    place(tmp_path)
    log = tmp_path / "log"
    assert (
        forked(lambda: run(opened(asked(tmp_path, repo)), log, die_at=1)) == -signal.SIGKILL
        and labels(log) == ALL[:1]
    )
    found = run(opened(asked(tmp_path, repo)), log)
    assert labels(log) == ALL and len(found) == 4, "the first was computed again"
    run(opened(asked(tmp_path, repo)), log)
    assert labels(log) == ALL


@pytest.mark.parametrize("other", ["train.lr=1e-4", "sampler.steps=3"])
def test_control_a_changed_setting_is_measured_anew(tmp_path: Path, repo: Path, other: str) -> None:
    place(tmp_path)
    run(opened(asked(tmp_path, repo)), tmp_path / "log")
    run(opened(asked(tmp_path, repo, other)), tmp_path / "log")
    assert labels(tmp_path / "log") == ALL * 2


@pytest.mark.parametrize("where", ["base/unet/config.json", "judge/config.json", "clip/config.json"])
def test_control_changed_models_are_measured_anew(tmp_path: Path, repo: Path, where: str) -> None:
    place(tmp_path)
    run(opened(asked(tmp_path, repo)), tmp_path / "log")
    config = json.loads((tmp_path / where).read_text(encoding="utf-8"))
    (tmp_path / where).write_text(json.dumps({**config, "another": 1}), encoding="utf-8")
    run(opened(asked(tmp_path, repo)), tmp_path / "log")
    assert labels(tmp_path / "log") == ALL * 2


def test_control_changed_data_are_measured_anew(tmp_path: Path, repo: Path) -> None:
    place(tmp_path)
    run(opened(asked(tmp_path, repo)), tmp_path / "log")
    run(opened(asked(tmp_path, repo), md5="1" * 32 + ".dir"), tmp_path / "log")
    assert labels(tmp_path / "log") == ALL * 2


def test_one_cell_that_diverges_does_not_stop_the_others(tmp_path: Path, repo: Path) -> None:
    place(tmp_path)
    bench = opened(asked(tmp_path, repo))

    def work(bench: Bench, cell: Any, *_: Any) -> dict[str, Any]:
        if cell.label == ALL[1]:
            raise DivergedError("training diverged.", stage="train")
        return measured(90, 80, 70)

    cells = list(plan_of(bench.first.params.bench, bench.first.vocabulary).cells())
    found, failures = measure_all(bench, [(cell, ()) for cell in cells], "bench", partial(measure, work=work))
    assert len(found) == 3 and {cell.label: said for cell, said in failures.items()} == {
        ALL[1]: "train: training diverged."
    }


def test_a_report_is_made_of_the_kept_cells_and_names_the_missing(tmp_path: Path, repo: Path) -> None:
    place(tmp_path)
    wish = asked(tmp_path, repo)
    found = run(opened(wish), tmp_path / "log")
    victim = next((wish.home / "cells" / "tulip").glob("esd*.json"))
    victim.write_text(victim.read_text().replace('"A_er": 90', '"A_er": 99'))
    summary = report(wish)
    assert summary["cells"]["done"] == len(found) - 1 and [m["arm"] for m in summary["cells"]["missing"]] == [
        "esd/x"
    ]
    assert {p.name for p in wish.out.iterdir()} == {
        "benchmark.json",
        "benchmark.md",
        "benchmark.html",
        "frontier.svg",
    }
    assert (
        json.loads((wish.out / "benchmark.json").read_text()) == summary
        and summary["command"] == wish.command
    )
    assert report(asked(tmp_path, repo, "train.lr=1e-4"))["cells"]["done"] == 0, (
        "cells of other settings were reported"
    )


def to_archive(wish: BenchmarkOptions) -> None:
    """Move what was measured into an archived record that lies where DVC would put it."""
    records = [read_record(path) for path in sorted((wish.home / "cells").glob("*/*.json"))]
    archive = Archive("feed")
    archive.cells["cells"] += [record for record in records if record is not None]
    (wish.home / FOLDER).mkdir()
    write_archive(wish.home / FOLDER / TABLE, archive)
    md5 = listing_md5(hash_folder(wish.home / FOLDER))
    (wish.home / POINTER).write_text(
        f"outs:\n- md5: {md5}\n  size: 1\n  nfiles: 1\n  hash: md5\n  path: {FOLDER}\n"
    )
    shutil.rmtree(wish.home / "cells")


def test_without_cells_of_the_plan_a_report_is_of_the_archived_record(tmp_path: Path, repo: Path) -> None:
    place(tmp_path)
    wish = asked(tmp_path, repo)
    run(opened(wish), tmp_path / "log")
    plain = report(wish)
    to_archive(wish)
    summary = report(wish)
    assert (plain["archive"], summary["archive"]) == (None, "feed") and {**summary, "archive": None} == plain
    assert "archived record of commit feed" in (wish.out / "benchmark.md").read_text()
    assert "archived record of commit feed" in (wish.out / "benchmark.html").read_text()
    other = report(asked(tmp_path, repo, "train.lr=1e-4"))
    assert (other["cells"]["done"], other["archive"]) == (0, None), "cells of other settings were reported"


def test_archived_and_new_cells_are_never_mixed_and_a_measurement_reads_none_of_the_archive(
    tmp_path: Path, repo: Path
) -> None:
    place(tmp_path)
    wish = asked(tmp_path, repo)
    run(opened(wish), tmp_path / "log")
    to_archive(wish)
    run(opened(asked(tmp_path, repo, "bench.methods=[uce]")), tmp_path / "more")
    assert len(labels(tmp_path / "more")) == 2
    summary = report(wish)
    assert (summary["cells"]["done"], summary["archive"]) == (2, None)
    assert {m["arm"] for m in summary["cells"]["missing"]} == {"esd/x"}


def test_a_damaged_archive_is_no_record(tmp_path: Path, repo: Path) -> None:
    place(tmp_path)
    wish = asked(tmp_path, repo)
    run(opened(wish), tmp_path / "log")
    to_archive(wish)
    table = wish.home / FOLDER / TABLE
    table.write_bytes(table.read_bytes()[:-9])
    with pytest.raises(FadeError):  # the pull notices: these are not the bytes that the .dvc file names
        report(wish)
    assert not (wish.out / "benchmark.json").exists()


def test_a_report_without_the_models_at_hand_takes_the_cells_of_one_base_only(
    tmp_path: Path, repo: Path
) -> None:
    place(tmp_path)
    wish = asked(tmp_path, repo)
    run(opened(wish), tmp_path / "log")
    (tmp_path / "base").rename(tmp_path / "gone")
    assert report(wish)["cells"]["done"] == 4
    (tmp_path / "gone").rename(tmp_path / "base")
    (tmp_path / "base" / "unet" / "config.json").write_text("another")
    run(opened(asked(tmp_path, repo, "bench.methods=[surgical]")), tmp_path / "log")
    (tmp_path / "base").rename(tmp_path / "gone")
    with pytest.raises(CacheError, match="are of several bases"):
        report(asked(tmp_path, repo, "bench.methods=[esd/x, surgical]"))


def test_what_was_tuned_is_what_is_run_and_is_in_the_key(tmp_path: Path, repo: Path) -> None:
    place(tmp_path)
    wish = asked(tmp_path, repo)
    run(opened(wish), tmp_path / "log")
    best = choose([trial_of(["train.lr=3e-4"], {"rose": None})])
    bench = opened(wish)
    made = {"data_md5": bench.data_md5, "commit": None}
    write_tuned(wish.tuned, {"esd/x": best}, bench.first.params.bench, made)
    summary = report(wish)
    assert [m["arm"] for m in summary["cells"]["missing"]] == ["esd/x", "esd/x"], (
        "untuned cells were taken for tuned ones"
    )
    cells = list(plan_of(opened(wish).first.params.bench, None).cells())
    assert [chosen({"esd/x": best}, cell) for cell in cells[:2]] == [("train.lr=3e-4",), ()]


def test_the_command_of_the_page_asks_for_the_same(tmp_path: Path) -> None:
    from flows.cli import app

    options = BenchmarkOptions(
        params_file=Path("my params.yaml"),
        overrides=("train.steps=7", "sampler.prompt=a {concept}"),
        out=tmp_path,
        quick=True,
        methods="esd/x, uce + neighbours",
        targets="police car",
        seeds="0,1",
    )
    tool, command, *words = shlex.split(options.command)
    assert (tool, command) == ("fade", "bench")
    got = typer.main.get_command(app).commands["bench"].make_context("bench", words).params  # type: ignore[attr-defined]
    assert (got["quick"], got["methods"], got["targets"], got["seeds"]) == (
        True,
        "esd/x, uce + neighbours",
        "police car",
        "0,1",
    )
    assert (
        list(got["set_"]) == ["train.steps=7", "sampler.prompt=a {concept}"]
        and str(got["params"]) == "my params.yaml"
    )
    assert BenchmarkOptions().command == "fade bench"
    assert BenchmarkOptions(home=Path("b"), tune=True).command == "fade bench --tune --home b"


def test_the_outputs_of_a_part_are_not_those_of_record(tmp_path: Path, repo: Path) -> None:
    whole = replace(asked(tmp_path, repo), out=None)
    assert whole.folder == tmp_path / "bench" / "record" and whole.settings().bench.seeds == (0,)
    for choice in ({"quick": True}, {"methods": "esd/x"}, {"targets": "panda"}, {"seeds": "0"}):
        part = replace(whole, **choice)  # type: ignore[arg-type]
        assert part.folder == tmp_path / "runs" / "bench" / "report"
        assert replace(part, out=tmp_path / "out").folder == tmp_path / "out"
    assert replace(whole, targets="tulip").settings().bench.targets == ("tulip",)


def test_a_trial_is_judged_by_fewer_pictures_than_a_cell_unless_the_user_says_how_many(
    tmp_path: Path, repo: Path
) -> None:
    place(tmp_path)
    trial = "bench.trial=[evaluate.rest_concepts=0, evaluate.images_per_concept=3]"
    bench = opened(asked(tmp_path, repo, "evaluate.images_per_concept=6", trial))
    cell = next(iter(plan_of(bench.first.params.bench, bench.first.vocabulary).cells()))
    tried, whole = (some.settings(cell, ()).evaluate for some in (for_trials(bench), bench))
    assert (tried.rest_concepts, whole.rest_concepts) == (0, 12)
    assert (tried.images_per_concept, whole.images_per_concept) == (6, 6)
    assert bench.probing and not for_trials(bench).probing
