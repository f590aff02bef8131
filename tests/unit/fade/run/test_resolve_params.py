"""What a run's parameters are made of: the file, the method's own settings, the user's; and choices that
contradict one another."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.data.vocabulary import Concept, Vocabulary
from fade.errors import ConfigError, UnknownNameError
from fade.run.context import RunContext
from fade.run.resolve_params import check_target, ignored_settings, method_overrides, resolve
from tests.datasets import make_dataset

PARAMS = Path(__file__).resolve().parents[4] / "params.yaml"
VOCABULARY = Vocabulary(tuple(Concept(n, "animals") for n in ("panda", "bear", "koala")))


def asked(method: str, *more: str):
    return resolve(PARAMS, [*method_overrides(method), *more])


def test_a_bare_name_means_the_first_variant_and_brings_its_settings():
    assert (asked("fade").method.name, asked("fade").method.variant) == ("fade", "paper")
    esd = asked("esd")
    assert esd.method.variant == "x" and esd.mesh.targets == ("cross",)
    assert asked("esd/x-strict").mesh.targets == ("text",)
    assert asked("fade").mesh.targets != esd.mesh.targets


def test_the_users_own_setting_wins():
    assert asked("esd", "mesh.targets=[attn2.to_v]").mesh.targets == ("attn2.to_v",)


def file_with(tmp_path: Path, text: str) -> Path:
    """A params.yaml of a few lines: what it leaves out is as shipped."""
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_default_is_ours_with_its_own_settings():
    params = resolve(PARAMS)
    assert (params.method.name, params.method.variant) == ("nullspace", "hinge")
    assert params == asked("nullspace") and params.mesh.targets == ("text",) and params.train.steps == 100
    assert asked("fade").train.steps == 250


def test_the_files_settings_come_between_the_methods_and_the_users(tmp_path: Path):
    path = file_with(
        tmp_path,
        "settings: {nullspace: [train.steps=7, mesh.rank=3], nullspace/hinge: [mesh.rank=4], esd: "
        "[train.lr=1e-5]}",
    )
    alone = 'data.second_judge=""'  # the shipped file may name one
    params = resolve(path, [alone])
    assert (params.train.steps, params.mesh.rank, params.mesh.alpha, params.train.lr) == (7, 4, 2.0, 0.02)
    assert resolve(path, ["train.steps=9"]).train.steps == 9
    assert resolve(path, method_overrides("nullspace/words")).mesh.rank == 3
    assert resolve(path, method_overrides("esd")).train.lr == 1e-5
    former = file_with(tmp_path, "settings: {fade/release: [train.steps=7]}")
    named = [resolve(former, method_overrides(f"fade/{name}")) for name in ("official", "release", "paper")]
    assert [params.train.steps for params in named] == [7, 7, 250]
    same = resolve(PARAMS, ["train.steps=7", "mesh.rank=4", alone])
    assert params.sha256() == same.sha256(), "a run's key is of the values alone"


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ("{nulspace: [train.steps=7]}", UnknownNameError, "nullspace"),
        ("{nullspace/hing: [train.steps=7]}", UnknownNameError, "hinge"),
        (
            "{esd: [sampler.steps=7]}",
            ConfigError,
            "settings.esd: 'sampler.steps=7' is no setting of a method.*keep to mesh, train",
        ),
        ("{nullspace: [method.name=esd]}", ConfigError, "is no setting of a method"),
        ("{nullspace: [train.stpes=7]}", ConfigError, "did you mean train.steps"),
        ("{nullspace: train.steps=7}", ConfigError, "correct settings.nullspace"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    tmp_path: Path, settings: str, error: type[Exception], says: str
):
    with pytest.raises(error, match=says):
        resolve(file_with(tmp_path, f"settings: {settings}"))


def test_what_the_file_says_in_vain_is_said(tmp_path: Path):
    path = file_with(tmp_path, "train: {steps: 500, seed: 3}\nmesh: {rank: 2}")
    (sentence,) = ignored_settings(path)  # the rank is what the method has itself, the seed is nobody's own
    assert (
        "train.steps = 500 has no effect: nullspace/hinge has its own, 100. Next: write train.steps=500 "
        "under settings: nullspace." in sentence
    )
    assert (
        ignored_settings(PARAMS)
        == ignored_settings(path, ["train.steps=9"])
        == ignored_settings(path, method_overrides("fade"))
        == []
    )
    assert (
        ignored_settings(file_with(tmp_path, "train: {steps: 500}\nsettings: {nullspace: [train.steps=300]}"))
        == []
    )


@pytest.mark.parametrize(
    ("method", "more", "says"),
    [
        ("fade", ("method.anchors=neighbourhood",), "fade/paper has its neighbours already"),
        ("esd", ("method.replacement=bear",), "esd/x has no alternative"),
    ],
)
def test_choices_that_contradict_the_method_are_refused(method, more, says):
    with pytest.raises(ConfigError, match=says):
        asked(method, *more)


def test_anchors_and_replacement_are_taken_where_they_mean_something():
    assert asked("esd", "method.anchors=neighbourhood").method.anchors == "neighbourhood"
    assert asked("surgical", "method.replacement=bear").method.replacement == "bear"


@pytest.mark.parametrize("method", ["esdd", "esd/y"])
def test_an_unknown_method_offers_the_nearest(method):
    with pytest.raises(UnknownNameError):
        asked(method)


def test_a_replacement_is_another_concept_of_the_vocabulary():
    check_target(asked("surgical", "method.replacement=bear"), "panda", VOCABULARY)
    with pytest.raises(ConfigError, match="by itself"):
        check_target(asked("surgical", "method.replacement=panda"), "panda", VOCABULARY)
    with pytest.raises(UnknownNameError, match="method.replacement"):
        check_target(asked("surgical", "method.replacement=baer"), "panda", VOCABULARY)
    with pytest.raises(UnknownNameError, match="target"):
        check_target(asked("surgical"), "pandda", VOCABULARY)


def test_a_style_has_its_own_judge_prompt_and_neighbourhood_and_the_user_wins():
    settings = resolve(PARAMS).styles.settings
    styled = asked("surgical", *settings, "neighborhood.k=2")
    assert (styled.data.erase, styled.data.judge, styled.neighborhood.k) == ("styles", "data/judge/styles", 2)
    assert styled.sampler.prompt == "a panda in the {concept} style"


def test_indirect_prompts_are_refused_for_a_style():
    with pytest.raises(ConfigError, match="a style has none.*evaluate.indirect_images to 0"):
        asked("surgical", *resolve(PARAMS).styles.settings, "evaluate.indirect_images=4")


def test_a_style_is_looked_up_among_the_styles(tmp_path):
    make_dataset(tmp_path / "images")
    params = resolve(PARAMS, [*resolve(PARAMS).styles.settings, f"data.images={tmp_path / 'images'}"])
    run = RunContext(params, "noto", tmp_path)
    concepts = RunContext(
        resolve(PARAMS, [f"data.images={tmp_path / 'images'}"]), "panda", tmp_path
    ).vocabulary
    assert run.vocabulary.names == concepts.styles and len(concepts.styles) > 1
    assert run.labels() is None
    check_target(params, concepts.styles[0], run.vocabulary)
    with pytest.raises(UnknownNameError):
        check_target(params, concepts.names[0], run.vocabulary)
