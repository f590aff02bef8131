"""The main job through the command line, on the embedded world, with small numbers: every tool is the real
one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fade.provenance.lineage import code_state
from tests.e2e.support import REPO, environment, fade, fade_each, small
from tests.golden import machine, run

GROUPS = ("A_adj", "A_heldout", "A_rest", "A_real")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """One whole run; its runs folder and its JSON."""
    runs = tmp_path_factory.mktemp("runs")
    done = fade("run", "--target", "panda", "--json", *small(), runs=runs)
    assert done.returncode == 0, done.stderr
    return runs, json.loads(done.stdout)


@pytest.mark.timeout(1200)
def test_the_summary_has_every_key_and_the_evidence_is_there(first: tuple[Path, dict[str, object]]) -> None:
    runs, said = first
    keys = [
        "target",
        "method",
        "seed",
        "neighbours",
        "heldout",
        "metrics",
        "base_metrics",
        "adapter_sha256",
        "data_md5",
        "base_sha256",
    ]
    assert {*keys, "model_name", "model_version", "report", "seconds"} <= set(said)
    assert set(said["metrics"]) == {*GROUPS, "A_er", "ERB", "ERB_heldout"}  # type: ignore[call-overload]
    assert set(said["base_metrics"]) == {*GROUPS, "A_tar"}  # type: ignore[call-overload]
    assert set(said["seconds"]) == {"pull", "validate", "mine", "train", "evaluate", "register", "total"}  # type: ignore[call-overload]
    spent, seconds = said["computing_seconds"], said["seconds"]
    assert set(spent) == {"pictures", "features", "training", "judging"}  # type: ignore[call-overload]
    assert all(value > 0 for value in spent.values()) and sum(spent.values()) < seconds["total"]  # type: ignore[attr-defined, index]
    assert said["model_name"] == "fade-panda" and said["model_version"] == "1"
    page = Path(str(said["report"])).read_text(encoding="utf-8")
    assert "panda" in page and 'src="http' not in page and 'href="http' not in page
    assert (runs / "mlflow.db").is_file()


@pytest.fixture(scope="module")
def outcome(first: tuple[Path, dict[str, object]]) -> dict[str, Any]:
    """Before any other test of this module adds to the run's folder or to its store."""
    return run.outcome(*first)


GOLDEN = machine.read(run.FILE)


def test_the_numbers_are_those_of_the_golden_file(outcome: dict[str, Any]) -> None:
    """Exactly on a machine of the same kind, else within the stated tolerances."""
    same = outcome["machine"] == GOLDEN["machine"]
    near = (
        {"relative": 0.0, "absolute": 0.0} if same else {"relative": run.RELATIVE, "absolute": run.ABSOLUTE}
    )
    for part in ("metrics", "evaluation"):
        assert machine.differences(GOLDEN[part], outcome[part], **near) == []
    if same:
        assert outcome["weights_sha256"] == GOLDEN["weights_sha256"]


def test_the_report_has_the_words_of_the_golden_file(outcome: dict[str, Any]) -> None:
    """And its numbers, on a machine of the same kind."""
    assert run.without_numbers(outcome["report"]) == run.without_numbers(GOLDEN["report"])
    if outcome["machine"] == GOLDEN["machine"]:
        assert outcome["report"] == GOLDEN["report"]


@pytest.mark.parametrize("part", ["keys", "files", "mlflow"])
def test_what_others_read_of_a_run_is_named_as_in_the_golden_file(outcome: dict[str, Any], part: str) -> None:
    """Keys of the JSON that it prints and writes, its files, and the tags, parameters and metrics that it
    registers."""
    assert outcome[part] == GOLDEN[part]


@pytest.mark.timeout(1200)
def test_the_same_run_again_makes_nothing_twice(first: tuple[Path, dict[str, object]]) -> None:
    runs, said = first
    kept = {
        p: p.stat().st_mtime_ns
        for pattern in ("cache/pictures/*", "erase/*/*/adapter.safetensors", "erase/*/*/done.json")
        for p in runs.glob(pattern)
    }
    again = fade("run", "--target", "panda", "--json", *small(), runs=runs)
    assert again.returncode == 0, again.stderr
    assert len(kept) > 100 and {p: p.stat().st_mtime_ns for p in kept} == kept
    other = json.loads(again.stdout)
    assert (other["adapter_sha256"], other["model_version"]) == (said["adapter_sha256"], "1")
    assert other["metrics"] == said["metrics"]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_fresh_runs_folder_gives_the_same_bytes_and_another_seed_does_not(
    first: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    runs, said = first
    shutil.copytree(runs / "cache", tmp_path / "same" / "cache")
    shutil.copytree(runs / "cache", tmp_path / "other" / "cache")
    same = fade("run", "--target", "panda", "--json", *small(), runs=tmp_path / "same")
    other = fade("run", "--target", "panda", "--seed", "1", "--json", *small(), runs=tmp_path / "other")
    assert same.returncode == other.returncode == 0, same.stderr + other.stderr
    assert (
        json.loads(same.stdout)["adapter_sha256"]
        == said["adapter_sha256"]
        != json.loads(other.stdout)["adapter_sha256"]
    )


@pytest.mark.timeout(600)
def test_a_registered_version_draws_other_pictures_than_the_base(
    first: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    runs, said = first
    models = {
        tmp_path / "base.png": "base",
        tmp_path / "erased.png": "fade-panda/1",
        tmp_path / "file.png": str(said["adapter"]),
    }
    drawn = ["generate", "a panda", "-n", "2", "--set", "sampler.steps=4"]
    each = fade_each(
        *([*drawn, "--model", model, "--out", str(out)] for out, model in models.items()), runs=runs
    )
    assert [done.returncode for done in each] == [0, 0, 0], [done.stderr for done in each]
    pictures = {out.stem: out.read_bytes() for out in models}
    assert pictures["erased"] == pictures["file"] != pictures["base"]


@pytest.mark.timeout(300)
def test_the_version_says_where_it_comes_from_and_is_found_by_it(
    first: tuple[Path, dict[str, object]],
) -> None:
    runs, said = first
    asked = (["fade-panda/1", "--json"], ["fade-panda"], ["--data", str(said["data_md5"])[:8], "--json"])
    done, tree, found = fade_each(*(["lineage", *words] for words in asked), runs=runs)
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)["lineage"]
    assert record["outputs"] == {key: said[key] for key in ("adapter_sha256", "metrics", "base_metrics")}
    assert record["data"]["md5"] == said["data_md5"] and record["base"]["sha256"] == said["base_sha256"]
    assert (
        record["neighbourhood"]["neighbours"] == said["neighbours"] and record["inputs"]["unchanged"] is True
    )
    assert {
        stage: all(one["success"] for one in some if one["severity"] == "critical")
        for stage, some in record["checks"].items()
    } == {
        "data": True,
        "neighbourhood": True,
    }
    assert record["environment"]["packages"]["torch"] == record["environment"]["libraries"]["torch"]
    assert (
        tree.returncode == 0
        and str(said["data_md5"]) in tree.stdout
        and str(said["adapter_sha256"]) in tree.stdout
    )
    assert [f"{v['name']}/{v['version']}" for v in json.loads(found.stdout)] == ["fade-panda/1"], found.stderr


@pytest.mark.timeout(300)
def test_a_version_is_promoted_against_the_gate_and_revoked(
    first: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    shutil.copytree(
        first[0], tmp_path / "runs", symlinks=True
    )  # a decision is for ever: not in the folder that the others use
    runs = tmp_path / "runs"
    strict = [part for key in ("erased", "heldout_kept", "erb") for part in ("--set", f"gate.{key}=100")]
    refused, done, listed, revoked, drawn = fade_each(
        ["promote", "fade-panda/1", *strict],
        ["promote", "fade-panda/1", "--by", "ann", *strict, "--override", "a [red] line", "--json"],
        ["decisions", "fade-panda"],
        ["revoke", "fade-panda/1", "--reason", "a test"],
        ["generate", "a panda", "--model", "fade-panda/1", "--out", str(tmp_path / "x.png")],
        runs=runs,
    )
    assert (
        refused.returncode == 1
        and "does not pass the gate" in refused.stderr
        and "--override" in refused.stderr
    )
    assert done.returncode == 0 and json.loads(done.stdout)["overridden"] is True, done.stderr
    assert "overridden" in listed.stdout and "a [red] line" in listed.stdout and "ann" in listed.stdout, (
        listed.stderr
    )
    assert revoked.returncode == 0, revoked.stderr
    assert (
        drawn.returncode == 1
        and "fade-panda/1 was revoked" in drawn.stderr
        and not (tmp_path / "x.png").exists()
    )


@pytest.mark.skipif(
    code_state()["commit"] is None, reason="the code is no checkout of git: no run of it can be audited"
)
@pytest.mark.timeout(1200)
def test_an_audit_makes_the_run_again_and_finds_its_control_out(
    first: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    runs, said = first
    done = fade("audit", "fade-panda/1", "--by", "ann", "--json", runs=runs)
    assert done.returncode == 0, done.stderr + done.stdout
    (found,) = json.loads(done.stdout)
    assert (found["verdict"]["name"], found["control"]) == ("identical", "different")
    assert found["again"]["outputs"]["adapter_sha256"] == said["adapter_sha256"]
    assert all(row["same"] for row in found["stages"]) and all(
        row["holds"] is not False for row in found["evidence"]
    )
    page = Path(found["report"]).read_text(encoding="utf-8")
    assert "identical" in page and "data:image/png" in page and 'src="http' not in page
    assert not list(Path(found["report"]).parents[1].glob("code*"))  # the clean copy of the code is gone
    listed = fade("audits", "fade-panda", runs=runs)
    assert listed.returncode == 0 and "identical" in listed.stdout and "ann" in listed.stdout, listed.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "--target", "pandda"], 2, "'panda'"),
        (["run", "--set", "train.stepz=3"], 2, "train.steps"),
        (["run", "--set", "train.steps=0"], 2, "train.steps"),
        (["run", "--set", "mesh.rank=0"], 2, "mesh.rank"),
        (["run", "--set", "method.erase_weight=-1"], 2, "method.erase_weight"),
        (["run", "--set", "neighborhood.k=500"], 2, "neighborhood.k"),
        (["run", "--set", "train.steps=many"], 2, "train.steps"),
        (["run", "--method", "fadde"], 2, "'fade'"),
        (["run", "--set", "data.base=data/nowhere"], 1, "data/nowhere"),
        (["run", "--nonsense"], 2, "--help"),
    ],
)
@pytest.mark.timeout(300)
def test_bad_input_is_answered_with_a_code_and_a_sentence(
    first: tuple[Path, dict[str, object]], arguments: list[str], code: int, says: str
) -> None:
    runs, _ = first
    done = fade(*arguments, runs=runs)
    assert done.returncode == code, done.stderr
    assert says in done.stderr and "Traceback" not in done.stderr


@pytest.mark.timeout(300)
def test_bad_input_of_what_starts_no_run_is_answered_likewise(first: tuple[Path, dict[str, object]]) -> None:
    wanted = [
        (["mine", "--target", "tulipp"], "'tulip'"),
        (["generate", "a panda", "--model", "fade-nobody/1"], "fade-nobody"),
        (["lineage", "fade-pand"], "'fade-panda'"),
        (["lineage"], "nothing is named"),
        (["reject", "fade-panda/1"], "--reason"),
        (["revoke", "fade-panda/9", "--reason", "x"], "fade-panda/1"),
        (["lineage", "fade-panda", "--data", "abcd"], "both named"),
    ]
    each = fade_each(*(words for words, _ in wanted), runs=first[0])
    assert [done.returncode for done in each] == [2] * len(wanted), [done.stderr for done in each]
    assert [says for (_, says), done in zip(wanted, each, strict=True) if says not in done.stderr] == []


@pytest.mark.timeout(300)
def test_a_dead_prefect_server_is_known_at_once(first: tuple[Path, dict[str, object]]) -> None:
    runs, _ = first
    start = time.monotonic()
    done = fade("run", *small(), runs=runs, env={"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert time.monotonic() - start < 60
    assert done.returncode == 1 and "127.0.0.1:9" in done.stderr and "PREFECT_API_URL" in done.stderr


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_dead_mlflow_server_keeps_the_adapter_for_later(
    first: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    runs, _ = first
    shutil.copytree(runs / "cache", tmp_path / "cache")
    done = fade(
        "run", *small("train.seed=5"), runs=tmp_path, env={"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    )
    assert done.returncode == 1 and "127.0.0.1:9" in done.stderr
    (folder,) = [p.parent for p in tmp_path.glob("erase/panda/*/adapter.safetensors")]
    clean = environment()  # without --runs-dir: the run knows its own
    register = [sys.executable, "-m", "flows.cli", "register", str(folder)]
    later = subprocess.run(register, cwd=REPO, env=clean, capture_output=True, text=True, timeout=300)
    assert later.returncode == 0, later.stderr
    assert later.stdout.strip() == "fade-panda version 1"
