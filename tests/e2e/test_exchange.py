"""Models that leave and that come from elsewhere, through the command line on the embedded world."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.e2e.support import REPO, fade, fade_each, small
from tests.unit.fade.adapters.foreign import by_kohyas_rule, foreign_layers, kohya, merged, peft, saved

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The base of the embedded world."""
    from fade.models.loading import load_model

    done = fade("pull", runs=tmp_path_factory.mktemp("pull"))
    assert done.returncode == 0, done.stderr
    return load_model(str(REPO / "data" / "base"), device="cpu")


@pytest.fixture(scope="module")
def judged(base: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The evaluation of a foreign kohya file of another rank in each layer: its runs folder and its JSON."""
    runs = tmp_path_factory.mktemp("runs")
    theirs = kohya(foreign_layers(base, size=0.5), runs / "theirs.safetensors")
    done = fade("evaluate", "--adapter", str(theirs), "--target", "panda", "--json", *small(), runs=runs)
    assert done.returncode == 0, done.stderr
    return runs, json.loads(done.stdout)


def test_a_foreign_adapter_gets_the_page_of_evidence_and_is_registered_nowhere(
    judged: tuple[Path, dict[str, Any]],
) -> None:
    runs, result = judged
    assert set(result["metrics"]) == {
        *("A_er", "A_adj", "A_heldout", "A_rest", "ERB", "ERB_heldout", "A_real"),
    }
    assert result["foreign"]["ranks"] == "2, 3" and result["foreign"]["alpha"] == "as written"
    folder = Path(result["folder"])
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert folder.is_relative_to(runs / "foreign" / "panda") and Path(result["report"]).parent == folder
    assert "Not made here" in page and "there is no training lineage" in page and 'src="http' not in page
    assert result["foreign"]["sha256"] in page and "fade evaluate --adapter" in page
    files = {"report.html", "evaluation.json", "lineage.json", "pictures"}
    assert {file.name for file in folder.iterdir()} == files
    record = json.loads((folder / "lineage.json").read_text())
    assert record["training"] == {} and record["foreign"] == result["foreign"]
    assert record["outputs"]["metrics"] == result["metrics"] and record["inputs"]["unchanged"] is True
    assert not (runs / "mlflow.db").exists()


def test_the_other_layouts_and_a_whole_model_of_the_same_change_give_the_same_numbers(
    base: Any, judged: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    runs, result = judged
    peft(foreign_layers(base, size=0.5), tmp_path / "peft")
    home = tmp_path / "whole"
    shutil.copytree(base.path, home, ignore=shutil.ignore_patterns("clip"))
    weights = by_kohyas_rule(base, load_file(runs / "theirs.safetensors"))
    save_file(weights, home / "unet" / "diffusion_pytorch_model.safetensors")
    asked = ["--target", "panda", "--json", *small()]
    each = fade_each(
        ["evaluate", "--adapter", str(tmp_path / "peft"), *asked],
        ["evaluate", "--model", str(home), *asked],
        runs=runs,
    )
    assert [done.returncode for done in each] == [0, 0], each[0].stderr + each[1].stderr
    of_peft, of_model = (json.loads(done.stdout) for done in each)
    assert of_peft["metrics"] == of_model["metrics"] == result["metrics"]
    assert of_peft["foreign"]["layout"] == "peft" and of_model["foreign"]["layout"] == "a whole unet"
    assert of_model["foreign"]["other parts"] == "those of the base"


def test_an_adapter_is_exported_in_each_format_and_never_over_a_file(base: Any, tmp_path: Path) -> None:
    ours = saved(base, tmp_path / "ours.safetensors")
    outs = {name: tmp_path / name for name in ("diffusers", "kohya", "merged")}
    lines = [["export", str(ours), "--format", name, "--out", str(out)] for name, out in outs.items()]
    made = fade_each(*lines, runs=tmp_path / "runs")
    assert [done.returncode for done in made] == [0, 0, 0], [done.stderr for done in made]
    assert outs["diffusers"].read_bytes() == ours.read_bytes()
    wanted = merged(base, ours)
    by_rule = by_kohyas_rule(base, load_file(outs["kohya"]))
    assert all(torch.allclose(by_rule[name], value, atol=1e-6) for name, value in wanted.items())
    weights = load_file(outs["merged"] / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(weights[name], value) for name, value in wanted.items())

    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    again = fade_each(*lines, runs=tmp_path / "runs")
    assert [done.returncode for done in again] == [2, 2, 2]
    assert all("is there already" in done.stderr and "--out" in done.stderr for done in again)
    assert {file: file.read_bytes() for file in before} == before


def test_bad_input_ends_with_a_sentence(base: Any, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    unknown = kohya(
        foreign_layers(base), tmp_path / "u.safetensors", name=lambda one: f"x{one}".replace(".", "_")
    )
    nothing = kohya(foreign_layers(base, size=0.0), tmp_path / "zeros.safetensors")
    cases: list[tuple[list[str], int, str]] = [
        (["evaluate", "--target", "panda"], 2, "what is to be judged is not named"),
        (["evaluate", "--adapter", str(nothing)], 2, "what is to be judged is not named"),
        (["evaluate", "--adapter", str(nothing), "--model", "x", "--target", "panda"], 2, "one of them"),
        (["evaluate", "--adapter", str(nothing), "--target", "pandda"], 2, "did you mean 'panda'"),
        (["evaluate", "--adapter", str(tmp_path / "none.safetensors"), "-t", "panda"], 1, "does not exist"),
        (
            ["evaluate", "--adapter", str(tmp_path / "a.bin"), "-t", "panda"],
            1,
            "torch.load(FILE, weights",
        ),
        (["evaluate", "--adapter", str(nothing), "-t", "panda"], 1, "changes nothing"),
        (
            ["evaluate", "--adapter", str(unknown), "-t", "panda"],
            1,
            "names a layer of Stable Diff",
        ),
        (["evaluate", "--model", str(tmp_path / "empty"), "-t", "panda"], 1, "config.json is missing"),
        (["export", "base", "--out", str(tmp_path / "o")], 1, "the original model has no adapter"),
        (["export", str(nothing), "--format", "x", "--out", str(tmp_path / "o")], 2, "unknown format 'x'"),
        (
            ["export", str(nothing), "--format", "kohya", "--out", str(tmp_path / "o")],
            1,
            "carries no provenance",
        ),
    ]
    each = fade_each(*(line for line, _, _ in cases), runs=tmp_path / "runs")
    for done, (line, code, sentence) in zip(each, cases, strict=True):
        assert done.returncode == code and sentence in done.stderr, (line, done.stderr)
        assert "Next: " in done.stderr and "Traceback" not in done.stderr and done.stdout == ""
    assert not (tmp_path / "o").exists()
