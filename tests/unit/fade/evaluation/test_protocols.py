"""Protocols are values: what they set can be set, every value has a source, what a user changes is ours."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from fade.config import Params
from fade.errors import UnknownNameError, UsageError
from fade.evaluation.metrics import metric
from fade.evaluation.protocols import (
    CONFIGURED,
    OTHERS,
    amended,
    column,
    measured_of,
    narrowed,
    overrides_of,
    register_protocol,
    with_method,
)
from fade.evaluation.published_protocols import get_protocol, known_protocols
from fade.run.resolve_params import resolve

NAMES = ("fade-cvpr25", "imagenette", "imagenet", "i2p", "genmu")
PAPERS = {"method", "neighbours", "image encoder"}
"""Settings that our notes mark as the paper's own."""


def test_all_protocols_are_registered_and_frozen() -> None:
    assert known_protocols() == NAMES
    with pytest.raises(FrozenInstanceError):
        get_protocol("i2p").title = "another"  # type: ignore[misc]
    with pytest.raises(UnknownNameError, match="unknown protocol 'fade'.*fade-cvpr25, imagenette"):
        get_protocol("fade")
    with pytest.raises(UsageError, match="i2p is registered twice"):
        register_protocol(get_protocol("i2p"))
    twice = replace(get_protocol("i2p"), name="x", settings=get_protocol("i2p").settings * 2)
    with pytest.raises(UsageError, match="has rule twice"):
        register_protocol(twice)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_protocol_sets_are_parameters(name: str, repo: Path) -> None:
    protocol = get_protocol(name)
    for part in protocol.parts or (None,):
        items = overrides_of(protocol, part)
        params = resolve(repo / "params.yaml", items).model_dump(mode="json")
        for one in (*protocol.settings, *(part.settings if part else ())):
            if one.key:
                section, key = one.key.split(".")
                value = list(one.value) if isinstance(one.value, tuple) else one.value
                assert params[section][key] == value, one.key
    json.dumps(protocol.to_json(), allow_nan=False)


def test_a_part_with_a_judge_of_its_own_has_no_second_one_of_other_pictures(repo: Path) -> None:
    parts = [(protocol, part) for protocol in map(get_protocol, NAMES) for part in protocol.parts]
    judged = [pair for pair in parts if any(one.key == "data.judge" for one in pair[1].settings)]
    assert len(judged) > 3
    for protocol, part in judged:
        items = ["data.second_judge=data/judge/second", *overrides_of(protocol, part)]
        assert resolve(repo / "params.yaml", items).data.second_judge == "", part.name


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_is_registered_and_nothing_else_is_called_a_papers(name: str) -> None:
    protocol = get_protocol(name)
    assert all(one == OTHERS or metric(one) for one in protocol.metrics)
    assert all(column(one)[0] for one in protocol.metrics)
    assert {one.name for one in protocol.settings if one.source == "paper"} <= PAPERS
    assert not any(part.source == "paper" for part in protocol.parts)


def test_fades_protocol_has_the_known_numbers() -> None:
    protocol = get_protocol("fade-cvpr25")
    sources = {one.name: (one.value, one.source) for one in protocol.settings}
    assert sources["neighbours"] == (5, "paper") and sources["guidance"] == (8.0, "release")
    assert sources["steps"] == (50, "release") and sources["solver"] == ("euler_ancestral", "release")
    assert sources["method.guidance_weight"] == (1000, "release")
    assert sources["train.weight_decay"] == (0.01, "ours")  # the release names none
    assert sources["pictures a candidate"][1] == "ours"
    assert [(part.name, part.count, part.unknown) for part in protocol.parts] == [
        ("dogs", 3, 3),
        ("flowers", 3, 3),
        ("cub", 3, 2),
    ]
    (ten,) = get_protocol("imagenette").parts
    assert len(ten.targets) == 10 and ten.unknown == 0


def test_one_part_and_other_targets_are_taken() -> None:
    protocol = get_protocol("fade-cvpr25")
    assert [part.name for part in narrowed(protocol, part="cub").parts] == ["cub"]
    (own,) = narrowed(protocol, targets=["panda", "lemon", "panda"]).parts
    assert (own.name, own.targets, own.source, own.settings) == (CONFIGURED, ("panda", "lemon"), "ours", ())
    (dogs,) = narrowed(protocol, part="dogs", targets=["boxer"]).parts
    assert dogs.targets == ("boxer",) and dogs.source == "ours" and dogs.unknown == 0
    keys = ["data.images", "data.judge", "data.second_judge", "checks.kind", "checks.licences"]
    assert [one.key for one in dogs.settings] == keys
    (cub,) = narrowed(protocol, part="cub", targets=["blue jay"]).parts
    assert (cub.targets, cub.source, cub.unknown) == (("blue jay",), "release", 0)
    several = narrowed(protocol, targets=["cub: blue jay", "dogs:boxer", "dogs:pug", "x:y"]).parts
    assert [(one.name, one.targets, one.source) for one in several] == [
        ("dogs", ("boxer", "pug"), "ours"),
        ("cub", ("blue jay",), "release"),
        (CONFIGURED, ("x:y",), "ours"),
    ]
    assert narrowed(protocol) == protocol
    with pytest.raises(UnknownNameError, match="choose one of dogs, flowers, cub"):
        narrowed(protocol, part="cats")
    with pytest.raises(UsageError, match="erases nothing"):
        narrowed(get_protocol("i2p"), targets=["nudity"])


def test_another_method_comes_with_its_own_settings_as_ours(repo: Path) -> None:
    protocol = with_method(get_protocol("imagenette"), "esd/x")
    by_key = {one.key: one for one in protocol.settings if one.key}
    assert (by_key["method.name"].value, by_key["method.name"].source) == ("esd", "ours")
    assert "method.guidance_weight" not in by_key and by_key["sampler.steps"].source == "release"
    assert resolve(repo / "params.yaml", overrides_of(protocol)).method.name == "esd"
    with pytest.raises(UnknownNameError):
        with_method(protocol, "no-such-method")


def test_a_changed_setting_is_ours_and_names_what_it_replaces() -> None:
    protocol = get_protocol("imagenette")
    changes = {"sampler.steps": 4, "train.seed": 3, "data.images": "mine", "sampler.guidance_scale": 8.0}
    changed = amended(protocol, changes)
    by_key = {one.key: one for one in changed.settings if one.key}
    assert by_key["sampler.steps"].source == "ours"
    assert by_key["sampler.steps"].note == "in place of 50 solver steps (release)"
    assert (by_key["train.seed"].value, by_key["train.seed"].source) == (3, "ours")
    assert by_key["sampler.guidance_scale"].source == "release"  # the same value
    assert "in place of sets/imagenette" in by_key["data.images"].note
    assert "data.images=mine" in overrides_of(changed, changed.parts[0])
    assert not any(item.startswith("data.images=sets") for item in overrides_of(changed, changed.parts[0]))
    assert amended(protocol, {}) == protocol


def test_the_columns_are_read_from_the_evaluation_and_the_attacks() -> None:
    metrics = {"A_er": 99.0, "A_adj": 80.0, "A_heldout": 60.0, "A_rest": None, "ERB": 88.5}
    numbers = {"metrics": metrics, "n": {"adjacent": 125, "heldout": 100, "rest": 0}}
    record = {
        "numbers": numbers,
        "indirect": {"A_indirect": 50.0},
        "attacks": {"A_adv": 25.0},
        "err": {"ERR": 0.6},
    }
    found = measured_of(get_protocol("imagenette"), record)
    assert found[OTHERS] == pytest.approx((80 * 125 + 60 * 100) / 225) and found["ERB"] == 88.5
    wide = measured_of(get_protocol("genmu"), record)
    assert (wide["A_indirect"], wide["A_adv"], wide["ERR"], wide["A_rest"]) == (50.0, 25.0, 0.6, None)
    plain = measured_of(get_protocol("genmu"), {"numbers": numbers})
    assert plain["ERR"] is None and plain["A_er"] == 99.0


def test_the_numbers_of_our_own_are_the_products_defaults() -> None:
    """A default that moves must move the protocols with it."""
    own = {one.key: one.value for one in get_protocol("fade-cvpr25").settings if one.source == "ours"}
    shipped = Params()
    assert own["evaluate.seed"] == shipped.evaluate.seed
    assert own["neighborhood.images_per_concept"] == shipped.neighborhood.images_per_concept
