"""Which pictures count: not what a broken model puts out, but one flat drawing by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fade.config import SamplerConfig
from fade.errors import AdapterError, BaseModelError, FadeError
from fade.generation.cache import Cache
from fade.generation.generator import ImageGenerator
from fade.generation.picture_checks import decode_checked, flat, require_finite, require_pictures
from fade.models.base import DiffusionModel
from fade.models.loading import load_model

BLACK = np.zeros((8, 8, 3), np.uint8)
BLUE = BLACK + np.array([0, 0, 200], np.uint8)
DOT = BLACK.copy()
DOT[7, 7, 2] = 1


def test_a_picture_is_flat_when_every_pixel_is_the_same() -> None:
    assert flat(np.stack([BLACK, BLUE, DOT])).tolist() == [True, True, False]


def blank(**counts: int) -> dict[str, np.ndarray]:
    """Of four pictures a prompt, how many are flat."""
    return {name: np.arange(4) < n for name, n in counts.items()}


@pytest.mark.parametrize(
    ("counts", "named"),
    [
        ({"panda": 2, "rose": 0, "tulip": 0}, "panda"),
        ({"panda": 4, "rose": 4, "tulip": 4}, "panda"),
        ({"panda": 0, "rose": 4, "tulip": 2}, "rose"),
    ],
)
def test_half_of_a_targets_or_of_all_pictures_stop_a_run(counts: dict[str, int], named: str) -> None:
    for adapter, error in (("", BaseModelError), ("f" * 64, AdapterError)):
        with pytest.raises(error, match=f"mine: the pictures of '{named}' by the .* are broken") as caught:
            require_pictures(blank(**counts), ["panda"], "mine", adapter)
        assert caught.value.exit_code == 1 and " Next: " in str(caught.value)


@pytest.mark.parametrize(
    "counts", [{"panda": 1, "rose": 0}, {"panda": 0, "rose": 3, "tulip": 0}, {"panda": 0, "rose": 0}]
)
def test_a_flat_drawing_by_itself_is_named_and_kills_no_run(
    counts: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    stage = f"mine {counts}"  # a note is written once a process
    require_pictures(blank(**counts), ["panda"], stage)
    written = capsys.readouterr().err
    for name, n in counts.items():
        assert (f"'{name}' ({n} of 4)" in written) == (n > 0)


def test_latents_that_are_not_finite_name_prompt_and_model() -> None:
    latents = torch.zeros(3, 4, 2, 2)
    require_finite(latents, ["a", "b", "b"], "mine")
    latents[2, 3, 1, 1] = float("inf")
    with pytest.raises(
        BaseModelError, match="mine: the pictures of 'b' by the original model are broken: 1 of 3"
    ):
        require_finite(latents, ["a", "b", "b"], "mine")


@pytest.fixture
def base(tiny_base_dir: Path) -> DiffusionModel:
    return load_model(str(tiny_base_dir), device="cpu")


@pytest.mark.parametrize("adapter", ["", "e" * 64])
def test_what_is_not_finite_is_not_stored(base: DiffusionModel, tmp_path: Path, adapter: str) -> None:
    """A broken weight, be it the base's or an adapter's."""
    generator = ImageGenerator(base, SamplerConfig(steps=2), Cache(tmp_path))
    generator.generate(["a panda"], [1, 2])  # the control
    files = set(tmp_path.rglob("*.safetensors"))
    weight = next(p for name, p in base.denoiser.named_parameters() if name.endswith("to_v.weight"))
    weight.data.mul_(float("inf"))
    with pytest.raises(FadeError, match="'a koala' by the (original|erased) model.* latents are not finite"):
        generator.generate(["a koala"], [1, 2], adapter)
    assert len(files) == 1 and set(tmp_path.rglob("*.safetensors")) == files


@pytest.mark.parametrize("adapter", ["", "e" * 64])
def test_what_is_mostly_of_one_colour_is_refused_wherever_it_is_generated_also_from_the_cache(
    base: DiffusionModel, tmp_path: Path, adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Indirect prompts, a composition's evaluation: whoever judges pictures has them from here."""
    generator = ImageGenerator(base, SamplerConfig(steps=1), Cache(tmp_path))
    prompts = ["a panda", "a rose", "a cat"]
    generator.generate(prompts, [1, 2], adapter)  # the control
    real = base.decode
    monkeypatch.setattr(base, "decode", lambda latents: np.zeros_like(real(latents)))
    for _ in range(2):  # made, then read
        with pytest.raises(FadeError, match="'a koala' by the .* are broken: 2 of 2 have one colour"):
            generator.generate(["a koala"], [1, 2], adapter)
    monkeypatch.setattr(base, "decode", lambda _: pytest.fail("all of it is in the cache"))
    made = generator.generate([*prompts, "a koala"], [1, 2], adapter)  # one flat drawing by itself
    assert flat(made["a koala"].pixels).all()
    with pytest.raises(FadeError, match="are broken"):
        generator.generate(["a panda", "a koala"], [1, 2], adapter)


def test_pictures_of_one_target_are_checked_as_such(
    base: DiffusionModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = torch.randn(4, *base.latent_shape, generator=torch.Generator().manual_seed(0))
    assert decode_checked(base, latents, "a panda", "attack").shape[0] == 4  # the control
    pixels = base.decode(latents)
    pixels[:2] = 7
    monkeypatch.setattr(base, "decode", lambda _: pixels)
    with pytest.raises(
        AdapterError, match=r"attack: .*'a panda' by the erased model .* 2 of 4 have one colour"
    ):
        decode_checked(base, latents, "a panda", "attack", "e" * 64)
    pixels[1, 0, 0] = 0
    assert flat(decode_checked(base, latents, "a panda", "attack")).tolist() == [True, False, False, False]
    latents[3] = float("nan")
    with pytest.raises(BaseModelError, match="1 of 4 latents are not finite"):
        decode_checked(base, latents, "a panda", "attack")
