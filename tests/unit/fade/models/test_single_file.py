"""What a base in one file is read from: the file, and for what it does not hold the directory beside it. What
is no whole file, or of another family, is refused before a weight is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fade.errors import BaseModelError
from fade.models.identity import file_hashes
from fade.models.layout import check_model, model_sha256, resolve
from fade.models.loading import load_model
from tests.original_layout import write_original

FamilyDir = Callable[[str], Path]
NETWORKS = {
    "sd1": ("unet", "vae", "text_encoder"),
    "sdxl": ("unet", "vae", "text_encoder", "text_encoder_2"),
    "sd3": ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"),
    "sd35": ("transformer", "vae"),
    "flux-dev": ("transformer",),
}
"""What a published file of the family holds."""
MISSING = {"sd35": "text_encoder", "flux-dev": "vae"}
"""The first part of the rest, in the order of its pipeline."""


@pytest.fixture
def made(family_dir: FamilyDir, tmp_path: Path) -> Callable[[str], str]:
    """The name of a miniature's file beside the whole directory."""

    def make(family: str) -> str:
        home = Path(shutil.copytree(family_dir(family), tmp_path / family))
        bare = NETWORKS[family] == ("transformer",)
        return (
            f"{write_original(home, tmp_path / f'{family}.safetensors', NETWORKS[family], bare=bare)}@{home}"
        )

    return make


def read_from(name: str) -> dict[str, str]:
    """Part -> what its weights are read from."""
    return {part.name: str(part.weights[0]) for part in check_model(resolve(name), "base") if part.weights}


@pytest.mark.parametrize("family", NETWORKS)
def test_what_the_file_does_not_hold_is_read_from_the_directory(
    made: Callable[[str], str], family: str
) -> None:
    name = made(family)
    file, home = name.split("@")
    for part, source in read_from(name).items():
        held = part in NETWORKS[family]
        assert source == file if held else source.startswith(f"{home}/{part}/"), part


def test_what_the_directory_gives_is_said(
    made: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    check_model(resolve(made("flux-dev")), "base")
    assert "what it does not hold is read from" in (said := capsys.readouterr().err)
    assert said.rstrip().endswith(": text_encoder, text_encoder_2, vae.")


@pytest.mark.parametrize(
    ("family", "prefix", "other"),
    [
        ("sd1", "first_stage_model.", "vae."),
        ("sd1", "cond_stage_model.transformer.", "cond_stage_model.model."),
    ],
)
def test_a_part_under_two_prefixes_is_refused(
    made: Callable[[str], str], family: str, prefix: str, other: str
) -> None:
    name = made(family)
    file = Path(name.split("@")[0])
    state = load_file(file)
    twice = {other + one.removeprefix(prefix): state[one] + 1 for one in state if one.startswith(prefix)}
    save_file({**state, **twice}, file, {"format": "pt"})
    with pytest.raises(BaseModelError, match=rf"twice, as {prefix} and as {other}\."):
        check_model(resolve(name), "base")


@pytest.mark.parametrize("family", sorted(MISSING))
def test_weights_that_neither_holds_are_named(made: Callable[[str], str], family: str) -> None:
    name, part = made(family), MISSING[family]
    home = name.split("@")[1]
    for weights in (Path(home) / part).glob("*.safetensors"):
        weights.unlink()
    missing = rf"{family}\.safetensors has no {part}, and {home}/{part} holds no safetensors weights"
    with pytest.raises(BaseModelError, match=missing):
        check_model(resolve(name), "base")


def test_sd35_without_text_encoders_predicts_what_its_directory_predicts(made: Callable[[str], str]) -> None:
    name = made("sd35")
    base, plain = load_model(name), load_model(name.split("@")[1])
    x, t = torch.randn(1, *plain.latent_shape), torch.tensor([0.5])
    with torch.no_grad():
        found, wanted = (model.predict(x, t, model.encode(["a panda"])) for model in (base, plain))
    assert torch.equal(found, wanted)


def test_the_hash_counts_weights_of_the_directory(made: Callable[[str], str]) -> None:
    name = made("sd35")
    before = model_sha256(resolve(name), "base")
    weights = Path(name.split("@")[1]) / "text_encoder_2/model.safetensors"
    save_file({key: value + 1 for key, value in load_file(weights).items()}, weights, {"format": "pt"})
    assert model_sha256(resolve(name), "base") != before


def test_files_are_recorded_by_their_places_in_the_directory(made: Callable[[str], str]) -> None:
    home = resolve(made("sd1"))
    names = set(file_hashes(home, check_model(home, "base")))
    assert {"sd1.safetensors", "unet/config.json", "text_encoder/config.json"} <= names


@pytest.mark.parametrize(("family", "other"), [("sdxl", "sd1"), ("sd1", "flux-dev"), ("flux-dev", "sd3")])
def test_a_file_of_another_family_is_refused_by_both_names(
    made: Callable[[str], str], family: str, other: str
) -> None:
    (file, home), config = made(family).split("@"), made(other).split("@")[1]
    theirs, ours = (json.loads((Path(one) / "model_index.json").read_text()) for one in (home, config))
    fault = rf"holds the denoiser of a {theirs['_class_name']}, .* the pipeline {ours['_class_name']}\."
    with pytest.raises(BaseModelError, match=fault) as caught:
        check_model(resolve(f"{file}@{config}"), "base")
    assert "data.base_config" in caught.value.action


def test_a_file_in_diffusers_own_names_is_refused(made: Callable[[str], str]) -> None:
    home = Path(made("flux-dev").split("@")[1])
    file = home / "transformer/diffusion_pytorch_model.safetensors"
    with pytest.raises(BaseModelError, match="holds no denoiser that is known in the original layout"):
        check_model(resolve(f"{file}@{home}"), "base")


@pytest.mark.parametrize("family", NETWORKS)
def test_a_file_that_is_cut_off_is_refused(made: Callable[[str], str], family: str) -> None:
    name = made(family)
    file = Path(name.split("@")[0])
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BaseModelError, match=rf"{family}\.safetensors is no whole .*: it is cut off"):
        check_model(resolve(name), "base")


def test_what_is_no_part_is_ignored_and_named(
    made: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    name = made("sd1")
    file = Path(name.split("@")[0])
    extra = {"alphas_cumprod": torch.ones(3), "model_ema.diffusion_modelout2bias": torch.ones(4)}
    save_file({**load_file(file), **extra}, file, {"format": "pt"})
    load_model(name)
    assert (
        "ignored, as no part of a StableDiffusionPipeline: alphas_cumprod, model_ema"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("mark", "schedule"),
    [("v_pred", "prediction_type v_prediction"), ("ztsnr", "rescale_betas_zero_snr True")],
)
def test_a_schedule_that_the_file_names_must_be_the_configurations(
    made: Callable[[str], str], mark: str, schedule: str
) -> None:
    name = made("sdxl")
    file, home = map(Path, name.split("@"))
    save_file({**load_file(file), mark: torch.zeros(0)}, file, {"format": "pt"})
    with pytest.raises(BaseModelError, match=f"holds {mark}: its schedule has the {schedule}"):
        check_model(resolve(name), "base")
    config = home / "scheduler/scheduler_config.json"
    content = {**json.loads(config.read_text()), "prediction_type": "v_prediction"}
    config.write_text(json.dumps({**content, "rescale_betas_zero_snr": True}))
    check_model(resolve(name), "base")


def test_a_file_without_its_configurations_is_refused(made: Callable[[str], str]) -> None:
    file, _ = made("sd1").split("@")
    with pytest.raises(BaseModelError, match="holds weights alone") as caught:
        load_model(file)
    assert "data.base_config" in caught.value.action
    with pytest.raises(BaseModelError, match="nowhere is not there"):
        load_model(f"{file}@{Path(file).parent / 'nowhere'}")


def test_what_the_directory_lacks_is_named_as_its_own(made: Callable[[str], str], tmp_path: Path) -> None:
    name = made("sd1")
    file, home = name.split("@")
    (Path(home) / "unet/config.json").unlink()
    with pytest.raises(BaseModelError, match=rf"^base: {home}/unet/config\.json is missing"):
        check_model(resolve(name), "base")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BaseModelError, match=rf"^base: {tmp_path}/empty/model_index\.json") as caught:
        check_model(resolve(f"{file}@{tmp_path}/empty"), "base")
    assert "data.base_config" in caught.value.action
    with pytest.raises(BaseModelError, match=rf"{file} is no directory"):
        resolve(f"{file}@{file}")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(BaseModelError, match=r"folder\.safetensors is no file"):
        resolve(f"{tmp_path}/folder.safetensors@{home}")
