"""Concept Neighborhood on a miniature model and an encoder whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fade.config import NeighborhoodConfig, SamplerConfig
from fade.data.vocabulary import Concept, Vocabulary
from fade.errors import ConfigError, UnknownNameError
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator
from fade.mining.neighborhood import (
    joint,
    mine,
    nearest,
    training_latents,
    unit_means,
    vectors_of,
)
from fade.models.loading import load_model

WORLD = Vocabulary(tuple(Concept(n, "") for n in ("panda", "koala", "bear", "tulip", "rose")))
CONFIG = NeighborhoodConfig(k=2, k_heldout=1, images_per_concept=2, seed=5)
SAMPLER = SamplerConfig(steps=2, guidance_scale=2.0, batch_size=3)


class Angles:
    """Puts concept i at a known angle, whatever its pictures show: the ranking can be worked out by hand."""

    sha256 = "angles"
    degrees = (0.0, 20.0, 10.0, 90.0, 60.0)

    def __call__(self, pixels: np.ndarray) -> Tensor:
        each = len(pixels) // len(self.degrees)
        turn = torch.tensor(self.degrees).repeat_interleave(each) * torch.pi / 180
        return torch.stack([turn.cos(), turn.sin()], 1)


@pytest.fixture
def generator(tiny_base_dir: Path, tmp_path: Path) -> ImageGenerator:
    return ImageGenerator(load_model(str(tiny_base_dir)), SAMPLER, Cache(tmp_path))


def test_the_nearest_are_trained_on_and_the_next_held_out(generator: ImageGenerator) -> None:
    neighborhood = mine("panda", WORLD, generator, Angles(), CONFIG)  # type: ignore[arg-type]
    assert neighborhood.neighbours == ["bear", "koala"] and neighborhood.heldout == ["rose"]
    assert neighborhood.similarities["bear"] == pytest.approx(np.cos(np.pi / 18), abs=1e-5)
    cosines = neighborhood.cosines(["panda", "bear", "tulip"])
    assert cosines[0] == pytest.approx([1, np.cos(np.pi / 18), 0], abs=1e-5)
    assert np.allclose(cosines, cosines.T)


def test_a_second_target_generates_nothing(generator: ImageGenerator) -> None:
    mine("panda", WORLD, generator, Angles(), CONFIG)  # type: ignore[arg-type]
    assert generator.generated == 10
    neighborhood = mine("tulip", WORLD, generator, Angles(), CONFIG)  # type: ignore[arg-type]
    assert generator.generated == 10 and neighborhood.neighbours[0] == "rose"
    ((target, neighbours),) = training_latents(neighborhood, generator)
    assert generator.generated == 10
    assert target.shape == (2, 4, 8, 8) and neighbours.shape == (2, 2, 4, 8, 8)


def test_targets_that_are_erased_together_are_nobodys_neighbours(generator: ImageGenerator) -> None:
    first = mine("panda", WORLD, generator, Angles(), CONFIG, also=["bear"])  # type: ignore[arg-type]
    second = mine("bear", WORLD, generator, Angles(), CONFIG, also=["panda"])  # type: ignore[arg-type]
    assert (
        first.neighbours == ["koala", "rose"] and first.heldout == ["tulip"] and first.left_out == ("bear",)
    )
    both = joint([first, second])
    assert (
        both.target == "panda + bear" and both.targets == ["panda", "bear"] and both.parts == (first, second)
    )
    assert (
        both.neighbours == ["koala", "rose"]
        and both.heldout == ["tulip"]
        and both.left_out == ("bear", "panda")
    )
    assert set(both.similarities) == {"koala", "tulip", "rose"}
    assert both.similarities["rose"] == pytest.approx(
        np.cos(50 * np.pi / 180), abs=1e-5
    )  # to the bear, which is nearer
    assert joint([first]) is first
    (one, two), (three, _) = training_latents(both, generator)
    assert (
        one.shape == three.shape == (2, 4, 8, 8)
        and two.shape == (2, 2, 4, 8, 8)
        and not torch.equal(one, three)
    )


def test_a_concept_is_held_out_only_where_no_target_trains_on_it(generator: ImageGenerator) -> None:
    hoods = [
        mine(target, WORLD, generator, Angles(), CONFIG.model_copy(update={"k": 1}))
        for target in ("koala", "rose")
    ]  # type: ignore[arg-type]
    assert [neighborhood.neighbours for neighborhood in hoods] == [["bear"], ["tulip"]] and [
        neighborhood.heldout for neighborhood in hoods
    ] == [["panda"], ["koala"]]
    assert joint(hoods).heldout == ["panda", "koala"]


def test_a_gap_in_the_cache_is_filled_with_the_same_bytes(generator: ImageGenerator) -> None:
    neighborhood = mine("panda", WORLD, generator, Angles(), CONFIG)  # type: ignore[arg-type]
    before = training_latents(neighborhood, generator)
    generator.cache.path("pictures", generator.key("a panda", [5, 6])).unlink()
    generator.cache.path("means", neighborhood.cache_key).unlink()
    again = mine("panda", WORLD, generator, Angles(), CONFIG)  # type: ignore[arg-type]
    after = training_latents(again, generator)
    assert 10 < generator.generated < 20  # its batch was made again, and no other
    assert all(torch.equal(a, b) for a, b in zip(before[0], after[0], strict=True))


def test_an_interrupted_draw_goes_on_where_it_was(generator: ImageGenerator) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mine("panda", WORLD, generator, Angles(), CONFIG, interrupt)  # type: ignore[arg-type]
    first = generator.generated
    mine("panda", WORLD, generator, Angles(), CONFIG)  # type: ignore[arg-type]
    assert 0 < first < 10 and generator.generated == 10


def test_other_seeds_are_other_pictures(generator: ImageGenerator) -> None:
    mine("panda", WORLD, generator, Angles(), CONFIG)  # type: ignore[arg-type]
    mine("panda", WORLD, generator, Angles(), CONFIG.model_copy(update={"seed": 6}))  # type: ignore[arg-type]
    assert generator.generated == 20


def test_the_batch_size_changes_no_picture(
    generator: ImageGenerator, tiny_base_dir: Path, tmp_path: Path
) -> None:
    other = ImageGenerator(
        generator.base, SAMPLER.model_copy(update={"batch_size": 10}), Cache(tmp_path / "other")
    )
    one, two = (s.generate(["a panda", "a rose"], [1, 2, 3]) for s in (generator, other))
    assert one["a rose"].key == two["a rose"].key
    assert torch.allclose(one["a rose"].latents, two["a rose"].latents, atol=1e-4)
    assert not torch.allclose(
        one["a rose"].latents, one["a panda"].latents, atol=1e-2
    )  # the control: prompts matter


def test_a_vocabulary_that_is_too_small_is_said(generator: ImageGenerator) -> None:
    with pytest.raises(ConfigError, match=r"neighborhood\.k"):
        mine("panda", WORLD, generator, Angles(), CONFIG.model_copy(update={"k": 4}))  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="panda"):
        mine("pandas", WORLD, generator, Angles(), CONFIG)  # type: ignore[arg-type]
    assert generator.generated == 0


def test_class_means_are_means_of_unit_features() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    assert torch.allclose(unit_means(features, 2), torch.tensor([[2**-0.5, 2**-0.5], [1.0, 0.0]]))


def test_the_nearest_are_those_of_a_whole_sort() -> None:
    rng = np.random.default_rng(0)
    means = rng.standard_normal((500, 8)).astype(np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    means[7] = means[3]  # an equal one comes in the vocabulary's order
    means[9] = means[3]
    for target in (3, 7, 42):
        whole = [int(i) for i in np.argsort(-(means @ means[target]), kind="stable") if i != target]
        assert nearest(means, target, 12) == whole[:12]
    assert nearest(means[:4], 1, 9) == [int(i) for i in np.argsort(-(means[:4] @ means[1])) if i != 1]


def test_a_record_s_cosines_are_kept() -> None:
    rng = np.random.default_rng(0)
    means = rng.standard_normal((9, 4))
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    found = vectors_of(np.round(means @ means.T, 6))
    assert np.allclose(found @ found.T, means @ means.T, atol=1e-5)


def test_pictures_are_read_a_part_at_a_time_and_the_same(
    generator: ImageGenerator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, progress = [f"a thing {i}" for i in range(7)], list[tuple[int, int]]()
    whole = generator.generate(prompts, [0, 1])
    monkeypatch.setattr("fade.generation.generator.PART", 4)
    other = ImageGenerator(generator.base, SAMPLER, Cache(tmp_path / "other"))
    parts = list(other.parts(prompts, [0, 1], on_batch=lambda done, total: progress.append((done, total))))
    assert [len(part) for part in parts] == [2, 2, 2, 1]
    assert all(
        np.array_equal(one.pixels, whole[prompt].pixels) for part in parts for prompt, one in part.items()
    )
    assert [prompt for part in parts for prompt in part] == prompts
    assert progress[-1] == (14, 14) and [done for done, _ in progress] == sorted(done for done, _ in progress)
