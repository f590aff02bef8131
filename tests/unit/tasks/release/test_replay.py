"""The command that makes a recorded run again."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import yaml

from fade.provenance.lineage import Lineage
from fade.run.resolve_params import method_overrides, resolve
from tasks.release.replay import changed_params, last_message, replay_command, replay_environment
from tests.unit.fade.reporting import samples

REPO = Path(__file__).resolve().parents[4]


def record(*overrides: str, target: str = "panda") -> Lineage:
    content = copy.deepcopy(samples.lineage())
    content["params"]["values"] = resolve(REPO / "params.yaml", overrides).recorded()
    content["neighbourhood"]["target"] = target
    return Lineage(content)


@pytest.mark.parametrize(
    "asked",
    [
        (
            *("train.steps=7", "train.lr=3e-3", "mesh.targets=[to_q]"),
            *("sampler.prompt='a [red] {concept}: 1'", "data.erase=styles"),
        ),
        ("train.steps=250", "mesh.rank=1"),  # as the file has them, and not as the method would
        (*method_overrides("surgical"), "method.replacement='a [red] bear: 1'"),
        ("data.dvc_file=[data.dvc, worlds/sdxl.dvc]", "data.base=worlds/sdxl"),  # of a world
        (),
    ],
)
def test_the_overrides_give_the_recorded_parameters_back_and_nothing_else_is_named(
    tmp_path: Path, asked: tuple[str, ...]
) -> None:
    then = record(*asked)
    line = replay_command(then, REPO, tmp_path)
    given = [line[i + 1] for i, word in enumerate(line) if word == "--set"]
    assert resolve(REPO / "params.yaml", given).recorded() == then.content["params"]["values"]
    named = {item.partition("=")[0] for item in given if not item.startswith(("mesh.", "train.", "method."))}
    expected = {
        item.partition("=")[0] for item in asked if not item.startswith(("mesh.", "train.", "method."))
    }
    assert named == expected | {"signing.private_key"}


def test_a_file_that_changed_since_gives_the_recorded_values(tmp_path: Path) -> None:
    other = yaml.safe_load((REPO / "params.yaml").read_text())
    other["train"]["seed"], other["sampler"]["steps"] = 5, 3
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(other))
    line = replay_command(record(), tmp_path, tmp_path)
    given = [line[i + 1] for i, word in enumerate(line) if word == "--set"]
    assert {"train.seed=0", "sampler.steps=10"} <= set(given)
    assert changed_params({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}}) == {}


def test_several_targets_are_named_one_by_one_and_the_controls_wish_comes_last(tmp_path: Path) -> None:
    line = replay_command(record(target="panda + lemon"), REPO, tmp_path, ["train.seed=1"])
    assert [line[i + 1] for i, word in enumerate(line) if word == "--target"] == ["panda", "lemon"]
    assert line[-4:-2] == ["--set", "train.seed=1"]


def test_the_teams_registry_and_other_code_stay_out_and_the_threads_are_the_recorded_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL", "FADE_RUNS_DIR", "GIT_DIR", "PYTHONPATH"):
        monkeypatch.setenv(key, "elsewhere")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the data's")
    then = record()
    then.content["environment"]["torch_threads"] = 61  # type: ignore[index]
    found = replay_environment(then, tmp_path)
    assert not {"MLFLOW_TRACKING_URI", "PREFECT_API_URL", "FADE_RUNS_DIR", "GIT_DIR"} & set(found)
    assert (found["PYTHONPATH"], found["OMP_NUM_THREADS"], found["AWS_ACCESS_KEY_ID"]) == (
        str(tmp_path),
        "61",
        "the data's",
    )


def test_a_failed_run_is_told_in_its_own_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_message(log) == "no output (killed?)."
    log.write_text("train ...\nerror pull: no such remote. Next: look.\n\nTraceback\n")
    assert last_message(log) == "pull: no such remote. Next: look."
