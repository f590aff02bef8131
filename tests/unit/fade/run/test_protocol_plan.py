"""A plan names what is missing, and what to supply, before anything is loaded."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fade.errors import ConfigError, UsageError
from fade.evaluation.protocols import narrowed
from fade.evaluation.published_protocols import get_protocol
from fade.run.protocol_plan import Inputs, plan, require_all, with_overrides
from tests.datasets import make_dataset
from tests.prompt_tables import official_table
from tests.support import make_bare_base, make_bare_model

LABELS = ("panda", "koala", "tulip", "rose")


@pytest.fixture
def project(tmp_path: Path) -> Inputs:
    """A small data set, a judge that knows it, and a base that is no Stable Diffusion 1.x."""
    make_dataset(tmp_path / "images")
    make_bare_base(tmp_path / "base")
    make_bare_model(tmp_path / "clip")
    make_bare_model(tmp_path / "judge")
    know(tmp_path / "judge", LABELS)
    places = ("images", "base", "clip", "judge")
    (tmp_path / "params.yaml").write_text(json.dumps({"data": {one: one for one in places}}))
    return Inputs(tmp_path / "params.yaml", tmp_path / "runs")


def know(judge: Path, labels: tuple[str, ...]) -> None:
    body = {"id2label": dict(enumerate(labels))}
    (judge / "config.json").write_text(json.dumps(body))


def missing(planned: dict[str, Any]) -> list[str]:
    return [f"{one['part']}: {one['what']}" for one in planned["missing"]]


def test_all_that_is_missing_is_named_with_what_to_supply(project: Inputs) -> None:
    planned = plan(get_protocol("fade-cvpr25"), project)
    found = missing(planned)
    assert any("dogs: Stanford Dogs: its targets are not known here" in one for one in found)
    assert any("cub: CUB-200-2011: 2 of its 3 targets are not known" in one for one in found)
    assert any("cub: the weights of Stable Diffusion 1.4" in one and "another model" in one for one in found)
    assert any(
        one.startswith("dogs: the pictures of Stanford Dogs: ") and "sets/dogs/manifest.csv does not" in one
        for one in found
    )
    assert any("flowers: a judge of Oxford Flowers-102: ./judges/flowers is none" in one for one in found)
    assert all(one["supply"] for one in planned["missing"])
    with pytest.raises(UsageError, match=r"more are missing: `fade protocol fade-cvpr25 --plan`.*--targets"):
        require_all(planned)


def test_other_targets_run_on_the_data_that_are_here(project: Inputs) -> None:
    planned = plan(narrowed(get_protocol("imagenette"), targets=["panda", "tulip"]), project)
    assert planned["missing"] == [] and planned["parts"][0]["source"] == "ours"
    require_all(planned)
    wrong = plan(narrowed(get_protocol("imagenette"), targets=["panda", "unicorn"]), project)
    assert missing(wrong) == [
        "configured: 'unicorn' is not in the vocabulary of images",
        "configured: 'unicorn' is not among the labels of judge",
    ]


def test_a_judge_that_lacks_a_neighbour_is_none(project: Inputs, tmp_path: Path) -> None:
    know(tmp_path / "judge", LABELS[:2])
    planned = plan(narrowed(get_protocol("imagenette"), targets=["panda"]), project)
    assert missing(planned) == ["configured: 'tulip', 'rose' are not among the labels of judge"]


def test_weights_of_stable_diffusion_1_are_known_by_their_configuration(
    project: Inputs, tmp_path: Path
) -> None:
    def weights() -> list[str]:
        return [one for one in missing(plan(get_protocol("imagenette"), project)) if "the weights of" in one]

    config = tmp_path / "base" / "unet" / "config.json"
    assert weights()
    config.write_text(json.dumps({"cross_attention_dim": 768, "sample_size": 64}))
    assert not weights()
    config.unlink()
    assert "holds none" in weights()[0]


def test_nudity_needs_the_detector_prompts_and_a_model(
    project: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = missing(plan(get_protocol("i2p"), project))
    assert [one for one in found if "NudeNet" in one] and [one for one in found if "erased model" in one]
    assert [one for one in found if "prompts of I2P" in one]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: sys.modules["json"].__spec__)
    prompts = official_table(tmp_path / "i2p.csv")
    inputs = Inputs(
        project.params_file, project.runs, ("data.base=base",), model="a.safetensors", prompts=prompts
    )
    assert missing(plan(get_protocol("i2p"), inputs)) == []


def test_what_the_user_sets_wins_and_is_ours(project: Inputs) -> None:
    items = ("sampler.steps=4", " train.lr = 3e-3")
    changed = with_overrides(narrowed(get_protocol("imagenette"), targets=["panda"]), items)
    by_key = {one.key: one for one in changed.settings if one.key}
    assert (by_key["sampler.steps"].value, by_key["sampler.steps"].source) == (4, "ours")
    assert by_key["train.lr"].value == 3e-3
    inputs = Inputs(project.params_file, project.runs, items)
    params = inputs.context(changed, changed.parts[0], "panda").params
    assert (params.sampler.steps, params.train.lr, params.sampler.guidance_scale) == (4, 3e-3, 8.0)
    with pytest.raises(ConfigError, match="no section.key=value"):
        with_overrides(changed, ["steps"])
