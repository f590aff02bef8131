"""What pictures will take is said before they are made, from what was measured."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fade.config import SamplerConfig
from fade.generation import cost
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator


class Base:
    """Of a model no more than what a generator's keys are made of."""

    sha256, dtype, device = "0" * 64, torch.float32, torch.device("cpu")

    def no_embeddings(self) -> Any:
        import contextlib

        return contextlib.nullcontext()


def generator(folder: Path, **sampler: Any) -> ImageGenerator:
    base: Any = Base()
    return ImageGenerator(base, SamplerConfig(**{"steps": 10, "batch_size": 4} | sampler), Cache(folder))


def test_what_was_made_says_what_more_will_take(tmp_path: Path) -> None:
    made = generator(tmp_path)
    made.generated, made.seconds = 40, 60.0
    cost.note_pace(made)
    assert cost.estimate(generator(tmp_path), 9600, here=False).startswith("about 4.0 h at 1.5 s each on ")
    assert cost.estimate(generator(tmp_path, steps=20), 9600, here=False) == ""  # another sampler's


def test_what_others_made_names_no_device_of_this_process(tmp_path: Path) -> None:
    """The pictures of a pool of GPUs are not made "on x86_64"."""
    made = generator(tmp_path)
    made.generated, made.seconds = 40, 60.0
    cost.note_pace(made, here=False)
    assert cost.estimate(generator(tmp_path), 9600, here=False) == "about 4.0 h at 1.5 s each"


def test_a_step_is_measured_where_nothing_is_known_and_many_are_to_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    clock = SimpleNamespace(now=0.0)

    def sample(base: object, prompts: list[str], seeds: range, sampler: SamplerConfig) -> None:
        asked.append((len(prompts), sampler.steps))
        clock.now += 8.0

    monkeypatch.setattr(cost, "sample", sample)
    monkeypatch.setattr(cost.time, "perf_counter", lambda: clock.now)
    few, many = 31, 3600
    assert cost.estimate(generator(tmp_path), few) == "" and not asked
    # 8 s for two steps of four pictures: 1 s a picture and step, 10 s a picture
    assert cost.estimate(generator(tmp_path), many).startswith("about 10.0 h at 10 s each on ")
    assert asked == [(4, 2)]


@pytest.mark.parametrize(("batch_size", "pictures"), [(2, 2), (4, 4)])
def test_the_batches_of_which_the_cache_lacks_a_prompt_are_counted(
    batch_size: int, pictures: int, tmp_path: Path
) -> None:
    one = generator(tmp_path, batch_size=batch_size)
    one.cache.put("pictures", one.key("a panda", [0, 1]), {"pixels": torch.zeros(1)})
    assert cost.lacking(one, ["a panda", "a rose", "a rose"], [0, 1]) == pictures
    assert cost.lacking(one, ["a panda"], [0, 1]) == 0


@pytest.mark.parametrize("damage", ["", "[]", "{}", '{"seconds": "x", "device": "y"}'])
def test_a_damaged_record_counts_as_none(tmp_path: Path, damage: str) -> None:
    made = generator(tmp_path)
    made.generated, made.seconds = 1, 1.0
    cost.note_pace(made)
    (file,) = (tmp_path / "pace").iterdir()
    file.write_text(damage, "utf-8")
    assert cost.estimate(made, 10**6, here=False) == ""
