"""The protocols are those of the published table, each value with its source."""

from __future__ import annotations

import json

import pytest

from fade.config import NudityConfig
from fade.data.prompts import Prompt
from fade.errors import UnknownNameError, UsageError
from fade.evaluation.nudity import EXPOSED, LOWEST
from fade.evaluation.nudity_pictures import PictureSpec, alike, pictures_of, require_sizes
from fade.evaluation.nudity_protocols import (
    BASE,
    DETECTIONS,
    LABELS,
    PICTURES,
    ROWS,
    SAMPLER,
    V2_LABELS,
    known_protocols,
    nudity_protocol,
    unused_settings,
)
from fade.evaluation.published import Setting, setting_row

TABLE = {
    "ours": (SAMPLER, BASE, 1, 6, 0.6, DETECTIONS),
    "spm": (ROWS, ROWS, 1, 9, LOWEST, LABELS),
    "i2p": (ROWS, BASE, 10, 5, 0.6, PICTURES),
    "esd": (7.5, BASE, 1, 9, LOWEST, DETECTIONS),
}


@pytest.mark.parametrize("name", TABLE)
def test_a_protocol_has_the_values_of_the_table(name: str) -> None:
    protocol = nudity_protocol(name, NudityConfig())
    names = ("guidance", "size", "pictures", "labels", "threshold", "counting")
    values = [protocol.value(one) for one in names]
    values[3] = len(values[3])
    assert tuple(values) == TABLE[name]
    json.dumps(protocol.to_json(), allow_nan=False)


def test_the_table_is_of_all_protocols_and_no_value_is_a_papers() -> None:
    assert set(known_protocols()) == set(TABLE)
    sources = {one.source for name in TABLE for one in nudity_protocol(name, NudityConfig()).settings}
    assert sources == {"release", "ours"}


def test_labels_are_named_as_nudenet_3_names_them() -> None:
    assert len(set(V2_LABELS.values())) == len(V2_LABELS) == 9
    for name in TABLE:
        assert all(one.endswith("_EXPOSED") for one in nudity_protocol(name, NudityConfig()).value("labels"))
    female = nudity_protocol("i2p", NudityConfig()).value("labels")
    assert "MALE_BREAST_EXPOSED" not in female and "MALE_BREAST_EXPOSED" in EXPOSED


def test_ours_follows_the_parameters_and_the_others_do_not() -> None:
    changed = NudityConfig(threshold=0.3, pictures=4)
    ours = nudity_protocol("ours", changed)
    assert (ours.value("threshold"), ours.value("pictures")) == (0.3, 4)
    assert nudity_protocol("spm", changed) == nudity_protocol("spm", NudityConfig())
    assert unused_settings("spm", changed) == ["nudity.threshold", "nudity.pictures"]
    assert unused_settings("ours", changed) == unused_settings("esd", NudityConfig()) == []
    with pytest.raises(UnknownNameError, match="choose one of ours, spm, i2p, esd"):
        nudity_protocol("sld", changed)


def test_a_source_is_one_of_three() -> None:
    with pytest.raises(UsageError, match="'memory' is no source"):
        Setting("k", 5, "memory")  # type: ignore[arg-type]
    one = Setting("labels", ("a", "b"), "release", "each", note="n")
    assert one.to_json() == {
        "name": "labels",
        "value": ["a", "b"],
        "source": "release",
        "unit": "each",
        "note": "n",
    }
    assert setting_row(one.to_json()) == ["labels", "a, b each", "release", "n"]


def test_pictures_are_batched_by_guidance_and_size_within_the_room_of_the_bases_own() -> None:
    prompts = [Prompt("a", 1, 7, 64, 64), Prompt("b", 2, 9, 64, 64), Prompt("c", 3, 7, 64, 64)]
    prompts += [Prompt(f"d{i}", i, 7, 128, 64) for i in range(5)]
    pictures = pictures_of(prompts, nudity_protocol("spm", NudityConfig()), 4.0, 64)
    batches = list(alike(pictures, 4, 64))
    assert [[one.prompt for one in some] for some in batches] == [
        ["a", "c"],
        ["b"],
        ["d0", "d1"],
        ["d2", "d3"],
        ["d4"],
    ]
    assert next(iter(alike(pictures, 1, 8))) == [PictureSpec("a", 1, 7, 64, 64)]  # never none at all


def test_a_size_that_a_base_does_not_draw_is_named() -> None:
    own, wide = PictureSpec("a", 1, 7, 64, 64), PictureSpec("b", 1, 7, 72, 64)
    require_sizes([own, wide], 64, 8, free=True, base="b")
    require_sizes([own], 64, 16, free=False, base="b")
    with pytest.raises(UsageError, match="draws multiples of 16 pixels, and the table has 72 x 64"):
        require_sizes([own, wide], 64, 16, free=True, base="b")
    with pytest.raises(UsageError, match="draws 64 x 64 alone here"):
        require_sizes([own, wide], 64, 8, free=False, base="b")
