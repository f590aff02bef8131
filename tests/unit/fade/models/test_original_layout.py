"""A file in the original layout is the directory that it was made of, for every family; else it is refused.
`tests.original_layout` writes the files; diffusers' own reader says whether they are right."""

from __future__ import annotations

import json
import shutil
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from safetensors.torch import load_file, save_file

from fade.errors import BaseModelError
from fade.models import original_layout
from fade.models.loading import load_model
from tests.original_layout import flux_transformer, original_part, write_original

FamilyDir = Callable[[str], Path]
FAMILIES = ("sd1", "sd2", "sdxl", "sd3", "sd3-without-t5", "sd35", "flux-dev", "flux-schnell")
WIDTH = 32
"""Of the miniatures' Flux transformer."""
UNREAD = ("logit_scale", "text_projection")
"""Ends of names of open_clip's that a text encoder lacks."""
TIED = "encoder.embed_tokens.weight"
"""T5's second name of one tensor, which diffusers leaves empty."""


@dataclass(frozen=True)
class Single:
    """A miniature both as a directory and as a file beside configurations without weights."""

    home: Path
    file: Path
    config: Path
    parts: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.file}@{self.config}"

    def rewrite(self, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
        state = load_file(self.file)
        change(state)
        save_file(state, self.file, {"format": "pt"})


def _index(home: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((home / "model_index.json").read_text())
    return content


@pytest.fixture(scope="session")
def whole(family_dir: FamilyDir, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Single]:
    """By name of a miniature; made once. Read only."""
    made: dict[str, Single] = {}

    def make(name: str) -> Single:
        if name not in made:
            folder = tmp_path_factory.mktemp("single")
            home = Path(shutil.copytree(family_dir(name), folder / "base"))
            if name.startswith("sd3"):  # as in the published ones: CLIP L's pooled state goes on as it is
                file = home / "text_encoder/model.safetensors"
                save_file(
                    {**load_file(file), "text_projection.weight": torch.eye(32)}, file, {"format": "pt"}
                )
            parts = tuple(part for part in _index(home) if (home / part / "config.json").is_file())
            file = write_original(home, folder / "model v1.safetensors", parts)
            weights = shutil.ignore_patterns("*.safetensors")
            config = Path(shutil.copytree(home, folder / "config", ignore=weights))
            made[name] = Single(home, file, config, parts)
        return made[name]

    return make


@pytest.fixture
def copied(whole: Callable[[str], Single], tmp_path: Path) -> Callable[[str], Single]:
    """By name of a miniature: one that may be changed."""

    def copy(name: str) -> Single:
        one = whole(name)
        shutil.copy(one.file, tmp_path / one.file.name)
        shutil.copytree(one.config, tmp_path / "config")
        return Single(one.home, tmp_path / one.file.name, tmp_path / "config", one.parts)

    return copy


@pytest.fixture
def small_flux(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers' converter of Flux, with the miniatures' width in the place of FLUX.1's, which is a number in
    its code."""
    entry = SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"]
    real = entry["checkpoint_mapping_fn"]
    numbers = tuple(WIDTH if one == 3072 else one for one in real.__code__.co_consts)
    small = types.FunctionType(real.__code__.replace(co_consts=numbers), real.__globals__)
    monkeypatch.setitem(entry, "checkpoint_mapping_fn", small)
    monkeypatch.setattr(original_layout, "FLUX_WIDTH", WIDTH)


def prediction(model: Any) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *model.latent_shape, generator=generator)
    with torch.no_grad():
        value: torch.Tensor = model.predict(x, model.sample_times(1, generator), model.encode(["a panda"]))
    return value


def assert_same(theirs: Any, ours: Any, *, but: str = "") -> None:
    """Every tensor of a part has the same bits."""
    found, wanted = theirs.state_dict(), ours.state_dict()
    assert found.keys() == wanted.keys()
    differ = [key for key, value in wanted.items() if key != but and not torch.equal(found[key], value)]
    assert not differ


@pytest.mark.usefixtures("small_flux")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_predicts_what_its_directory_predicts(whole: Callable[[str], Single], family: str) -> None:
    one = whole(family)
    plain, base = load_model(str(one.home)), load_model(one.name)
    for part in one.parts:
        assert_same(base.parts[part], plain.parts[part])
        assert not base.parts[part].training
    assert torch.equal(prediction(base), prediction(plain))
    assert base.sha256 != plain.sha256 and base.sha256 == load_model(one.name).sha256


@pytest.mark.usefixtures("small_flux")
@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "sd3-without-t5"])
def test_diffusers_reads_the_file_to_the_directorys_tensors(
    whole: Callable[[str], Single], family: str
) -> None:
    one, plain = whole(family), load_model(str(whole(family).home))
    owner = getattr(diffusers, _index(one.home)["_class_name"])
    absent = {part: None for part in owner._optional_components if part not in plain.parts}
    source = {"config": str(one.config), "local_files_only": True, "torch_dtype": torch.float32}
    pipeline = owner.from_single_file(str(one.file), **source, **absent)
    for part in one.parts:
        assert_same(getattr(pipeline, part), plain.parts[part], but=TIED)


def test_flux_is_divided_at_its_true_width() -> None:
    with torch.device("meta"):
        network = diffusers.FluxTransformer2DModel(num_layers=1, num_single_layers=1, guidance_embeds=True)
    columns = {
        name: value[..., :1] if value.ndim > 1 else value for name, value in network.state_dict().items()
    }
    state = {name: torch.randn(value.shape) for name, value in columns.items()}
    convert = SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"]["checkpoint_mapping_fn"]
    found = convert(flux_transformer(state))
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)


def test_flux_of_another_width_is_refused(whole: Callable[[str], Single]) -> None:
    with pytest.raises(BaseModelError, match="a transformer 32 wide.* 3072 wide, is supported alone"):
        load_model(whole("flux-dev").name)


@pytest.mark.usefixtures("small_flux")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_tensor_is_refused(copied: Callable[[str], Single], family: str) -> None:
    one = copied(family)
    state = load_file(one.file)
    for part in one.parts:
        names = [name for name in sorted(original_part(one.home, part)) if not name.endswith(UNREAD)]
        lost = {key: value for key, value in state.items() if key != names[len(names) // 2]}
        save_file(lost, one.file, {"format": "pt"})
        with pytest.raises(BaseModelError, match=rf"model v1\.safetensors: its {part} lacks \w"):
            load_model(one.name)


@pytest.mark.usefixtures("small_flux")
@pytest.mark.parametrize("family", FAMILIES)
def test_an_unknown_tensor_is_refused(copied: Callable[[str], Single], family: str) -> None:
    """As the scales of a quantised file, without which its weights are wrong."""
    one = copied(family)
    state = load_file(one.file)
    for part in one.parts:
        module = min(original_part(one.home, part)).rsplit(".", 1)[0]
        save_file({**state, f"{module}.scale_weight": torch.ones(1)}, one.file, {"format": "pt"})
        with pytest.raises(BaseModelError, match=rf"its {part} holds \S*scale_weight, unknown to"):
            load_model(one.name)


def test_weights_have_our_dtype_and_the_autoencoder_float32(copied: Callable[[str], Single]) -> None:
    one = copied("sdxl")
    one.rewrite(lambda state: state.update({name: value.half() for name, value in state.items()}))
    base = load_model(one.name, dtype=torch.bfloat16)
    dtypes = {part: {value.dtype for value in base.parts[part].parameters()} for part in one.parts}
    assert dtypes == {part: {torch.float32 if part == "vae" else torch.bfloat16} for part in one.parts}


@pytest.mark.usefixtures("small_flux")
@pytest.mark.parametrize("family", ["sd3", "flux-dev"])
def test_a_projection_of_clip_l_is_not_read(copied: Callable[[str], Single], family: str) -> None:
    one, name = copied(family), "text_encoders.clip_l.transformer.text_projection.weight"
    one.rewrite(lambda state: state.update({name: torch.full((32, 32), 7.0)}))
    assert torch.equal(prediction(load_model(one.name)), prediction(load_model(str(one.home))))


def test_a_value_that_is_not_finite_is_refused(copied: Callable[[str], Single]) -> None:
    one, name = copied("sdxl"), "conditioner.embedders.1.model.text_projection"
    one.rewrite(lambda state: state.update({name: state[name] * torch.nan}))
    with pytest.raises(BaseModelError, match=r"text_encoder_2: text_projection\.weight is not finite"):
        load_model(one.name)


@pytest.mark.usefixtures("small_flux")
@pytest.mark.parametrize(
    ("family", "other", "fault"),
    [
        ("sd1", "sd2", "its unet: .* has the shape"),
        ("sd35", "sd3", "its transformer"),
        ("sd3", "sd35", "its transformer"),
        ("flux-dev", "flux-schnell", "holds time_text_embed.guidance_embedder"),
        ("flux-schnell", "flux-dev", "lacks time_text_embed.guidance_embedder"),
    ],
)
def test_configurations_of_another_member_of_the_family_are_refused(
    whole: Callable[[str], Single], family: str, other: str, fault: str
) -> None:
    with pytest.raises(BaseModelError, match=fault) as caught:
        load_model(f"{whole(family).file}@{whole(other).config}")
    assert "data.base_config" in caught.value.action


@pytest.mark.parametrize(
    ("family", "part", "prefix", "fault"),
    [
        ("sd1", "text_encoder", "cond_stage_model.transformer.", "holds one tensor as"),
        ("sd3", "text_encoder_3", "text_encoders.t5xxl.transformer.", "foreign prefix 'transformer.'"),
    ],
)
def test_a_tensor_of_a_text_encoder_under_two_names_is_refused(
    copied: Callable[[str], Single], family: str, part: str, prefix: str, fault: str
) -> None:
    """transformers would take one of the two, and say nothing."""
    one = copied(family)

    def again(state: dict[str, torch.Tensor]) -> None:
        for name in [name for name in state if name.startswith(prefix)]:
            own = name.removeprefix(prefix)
            twin = own.removeprefix("text_model.") if family == "sd1" else f"transformer.{own}"
            state[prefix + twin] = state[name] + 1

    one.rewrite(again)
    with pytest.raises(BaseModelError) as caught:
        load_model(one.name)
    assert fault in str(caught.value) and str(one.file) in str(caught.value)
