"""The gate at load: a model is whole and of a supported class, or refused in a sentence; base, CLIP, judge
alike."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTokenizer

from fade.config import SamplerConfig
from fade.errors import BaseModelError
from fade.judges.classifier import Classifier
from fade.mining.image_encoder import ImageEncoder
from fade.models.layout import check_model
from fade.models.loading import load_model
from fade.models.sampling import sample
from tests.support import make_tiny_clip, make_tiny_judge

State = dict[str, torch.Tensor]
LOADERS: dict[str, Callable[[str], object]] = {"base": load_model, "clip": ImageEncoder, "judge": Classifier}


@pytest.fixture(scope="module")
def plain(tiny_base_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders base, clip and judge; not to be changed."""
    home = tmp_path_factory.mktemp("models")
    shutil.copytree(tiny_base_dir, home / "base")
    make_tiny_clip(home / "clip")
    make_tiny_judge(home / "judge")
    return home


@pytest.fixture
def models(plain: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(plain, tmp_path / "models"))


def weights(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


def rewrite(folder: Path, change: Callable[[State], State | None]) -> None:
    state = load_file(weights(folder))
    new = change(state) or state
    save_file({key: one.contiguous() for key, one in new.items()}, weights(folder), {"format": "pt"})


def edit(file: Path, **changes: object) -> None:
    content = {**json.loads(file.read_text(encoding="utf-8")), **changes}
    file.write_text(json.dumps({key: one for key, one in content.items() if one is not ...}))


def refusal(models: Path, role: str) -> str:
    """The sentence of a refusal; every file is as before."""
    before = {path: path.read_bytes() for path in models.rglob("*") if path.is_file()}
    with pytest.raises(BaseModelError) as caught:
        LOADERS[role](str(models / role))
    assert caught.value.action and before == {
        path: path.read_bytes() for path in models.rglob("*") if path.is_file()
    }
    return str(caught.value)


TENSORS = {
    "base/text_encoder": "encoder.layers.0.self_attn.k_proj.weight",
    "base/unet": "conv_in.weight",
    "base/vae": "decoder.conv_in.weight",
    "clip": "visual_projection.weight",
    "judge": "classifier.1.weight",
}


def full(state: State, end: str) -> str:
    """A tensor's name in the file, which may have a prefix."""
    (name,) = (name for name in state if name.endswith(end) and "vision" not in name[: -len(end)])
    return name


def delete(state: State, end: str) -> None:
    del state[full(state, end)]


def rename(state: State, end: str) -> None:
    name = full(state, end)
    state[f"mine.{name}"] = state.pop(name)


def reshape(state: State, end: str) -> None:
    state[full(state, end)] = state[full(state, end)][:-1]


def spoil(state: State, end: str) -> None:
    state[full(state, end)].flatten()[-1:] = float("nan")


@pytest.mark.parametrize("fault", [delete, rename, reshape, spoil])
@pytest.mark.parametrize("part", TENSORS)
def test_a_tensor_that_is_missing_unknown_misshapen_or_no_number_is_named_with_its_part(
    models: Path, part: str, fault: Callable[[State, str], None]
) -> None:
    rewrite(models / part, lambda state: fault(state, TENSORS[part]))
    says = refusal(models, part.split("/")[0])
    assert f"models/{part}" in says and TENSORS[part] in says


def test_the_plain_models_are_let_through(plain: Path) -> None:
    """The control of every refusal here."""
    for role, load in LOADERS.items():
        load(str(plain / role))


def with_prefix(state: State) -> State:
    return {f"text_model.{name.removeprefix('text_model.')}": one for name, one in state.items()}


def without_prefix(state: State) -> State:
    return {name.removeprefix("text_model."): one for name, one in state.items()}


def test_both_layouts_of_the_text_towers_keys_load_equal(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models, tmp_path / "other")
    rewrite(models / "base/text_encoder", with_prefix)
    rewrite(tmp_path / "other/base/text_encoder", without_prefix)
    one, two = load_model(str(models / "base")), load_model(str(tmp_path / "other/base"))
    assert torch.equal(one.encode(["a panda"]).tokens, two.encode(["a panda"]).tokens)
    assert one.sha256 == two.sha256


@pytest.mark.parametrize("prefix", ["mine.", "text_model.text_model.", "model.", "clip.text_model."])
def test_a_foreign_prefix_is_refused(models: Path, prefix: str) -> None:
    rewrite(
        models / "base/text_encoder",
        lambda state: {prefix + name: one for name, one in without_prefix(state).items()},
    )
    assert "text_encoder lacks" in refusal(models, "base")


@pytest.mark.parametrize(
    ("part", "prefix", "end"),
    [
        ("base/text_encoder", "clip.", ""),
        ("base/text_encoder", "clip.", TENSORS["base/text_encoder"]),
        ("clip", "clip.", ""),
        ("judge", "resnet.", TENSORS["judge"]),
    ],
)
def test_a_prefix_that_a_library_drops_by_itself_is_refused_by_name(
    models: Path, part: str, prefix: str, end: str
) -> None:
    """Of every tensor, or of one."""
    rewrite(
        models / part,
        lambda state: {
            (prefix if name.endswith(end) else "") + name: one for name, one in without_prefix_of(part, state)
        },
    )
    says = refusal(models, part.split("/")[0])
    assert f"models/{part} holds {prefix}" in says and f"foreign prefix '{prefix}'" in says


def without_prefix_of(part: str, state: State) -> list[tuple[str, torch.Tensor]]:
    return list((without_prefix(state) if part == "base/text_encoder" else state).items())


def test_one_tensor_under_both_names_is_refused(models: Path) -> None:
    rewrite(
        models / "base/text_encoder",
        lambda state: {**with_prefix(state), **{k: one.clone() for k, one in without_prefix(state).items()}},
    )
    assert "holds one tensor as" in refusal(models, "base")


@pytest.mark.parametrize("part", ["base/unet", "base/vae", "base/text_encoder", "clip", "judge"])
@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_weights_in_whole_numbers_are_refused(models: Path, part: str, dtype: torch.dtype) -> None:
    """A reader of the library would take them as if they were the weights."""
    name = TENSORS[part]

    def quantised(state: State) -> State:
        return {**state, full(state, name): (state[full(state, name)] * 10).to(dtype)}

    rewrite(models / part, quantised)
    says = refusal(models, part.split("/")[0])
    assert "in whole numbers" in says and "quantised weights are not supported" in says and name in says


@pytest.mark.parametrize("part", ["base/unet", "base/text_encoder", "judge"])
def test_a_configuration_of_quantised_weights_is_refused(models: Path, part: str) -> None:
    edit(models / part / "config.json", quantization_config={"quant_method": "bitsandbytes"})
    assert "is of quantised weights (quantization_config)" in refusal(models, part.split("/")[0])


def test_a_token_without_an_embedding_is_refused(models: Path) -> None:
    """transformers would stop at the first prompt with it, in the middle of a run."""
    tokenizer = CLIPTokenizer.from_pretrained(models / "base/tokenizer")
    tokenizer.add_tokens(["<mine>"])
    tokenizer.save_pretrained(models / "base/tokenizer")
    assert "tokenizer has the token '<mine>' of number" in refusal(models, "base")


def test_keys_that_the_libraries_count_themselves_are_harmless(models: Path, plain: Path) -> None:
    rewrite(
        models / "base/text_encoder",
        lambda state: {**with_prefix(state), "text_model.embeddings.position_ids": torch.arange(16)[None]},
    )
    rewrite(
        models / "clip",
        lambda state: {**state, "vision_model.embeddings.position_ids": torch.arange(5)[None]},
    )
    assert load_model(str(models / "base")).sha256 == load_model(str(plain / "base")).sha256
    assert ImageEncoder(str(models / "clip")).sha256 == ImageEncoder(str(plain / "clip")).sha256


def test_a_judge_without_a_head_is_refused(models: Path) -> None:
    from transformers import ResNetForImageClassification

    model: Any = ResNetForImageClassification.from_pretrained(models / "judge")
    model.resnet.save_pretrained(models / "judge")
    assert "has no classifier's head" in refusal(models, "judge")
    edit(models / "judge/config.json", architectures=...)
    assert "judge lacks classifier.1.bias" in refusal(models, "judge")


UNET, SCHEDULER, TOKENIZER = (
    "unet/config.json",
    "scheduler/scheduler_config.json",
    "tokenizer/tokenizer_config.json",
)
CLASSES: dict[str, tuple[str, dict[str, Any], str]] = {
    "inpainting": (UNET, {"in_channels": 9}, "inpainting or other UNet .* 9 channels in"),
    "learned variance": (UNET, {"out_channels": 8}, "4 channels in and 8 out"),
    "class embeddings": (UNET, {"class_embed_type": "timestep"}, "UNet with class embeddings"),
    "classes": (UNET, {"num_class_embeds": 10}, "UNet with class embeddings"),
    "LCM": (UNET, {"time_cond_proj_dim": 256}, r"guidance embedding \(LCM\)"),
    "text and time": (UNET, {"addition_embed_type": "text_time"}, "addition_embed_type text_time"),
    "not square": (UNET, {"sample_size": [8, 16]}, r"sample_size \[8, 16\] is not supported"),
    "no size": (UNET, {"sample_size": ...}, "sample_size None is not supported"),
    "another width": (UNET, {"cross_attention_dim": 64}, "reads 64 numbers beside a text encoder of 32"),
    "another denoiser": (UNET, {"_class_name": "UNetMotionModel"}, "'UNetMotionModel'; supported: UNet2D"),
    "sample prediction": (
        SCHEDULER,
        {"prediction_type": "sample"},
        "sample.* supported: epsilon, v_prediction",
    ),
    "flow scheduler": (SCHEDULER, {"_class_name": "FlowMatchEulerDiscreteScheduler"}, "FlowMatchEuler"),
    "flow sigmas": (SCHEDULER, {"use_flow_sigmas": True}, "flow schedule beside a UNet"),
    "flow prediction": (SCHEDULER, {"prediction_type": "flow_prediction"}, "flow_prediction"),
    "zero SNR": (SCHEDULER, {"rescale_betas_zero_snr": True}, "zero-terminal-SNR.*supported: with v_pred"),
    "no length": (TOKENIZER, {"model_max_length": ...}, "model_max_length None"),
    "another text encoder": (
        "text_encoder/config.json",
        {"architectures": ["BertModel"], "model_type": "bert"},
        "'BertModel'; supported: CLIPTextModel",
    ),
    "another text model": (
        "text_encoder/config.json",
        {"architectures": ..., "model_type": "bert"},
        "'bert'; supported: CLIPTextModel",
    ),
    "another autoencoder": ("vae/config.json", {"_class_name": "AutoencoderTiny"}, "'AutoencoderTiny'"),
}


@pytest.mark.parametrize("what", CLASSES)
def test_a_class_that_is_not_supported_is_named_before_a_weight_is_read(models: Path, what: str) -> None:
    file, changes, says = CLASSES[what]
    edit(models / "base" / file, **changes)
    with pytest.raises(BaseModelError, match=says):
        check_model(models / "base", "base")
    assert "supported" in refusal(models, "base")


@pytest.mark.parametrize("role", ["clip", "judge", "base/text_encoder"])
def test_what_would_make_a_library_load_other_files_is_refused(models: Path, role: str) -> None:
    (models / role / "adapter_config.json").write_text("{}")
    assert "adapter_config.json is there" in refusal(models, role.split("/")[0])
    (models / role / "adapter_config.json").unlink()
    edit(models / role / "config.json", transformers_weights="other.safetensors")
    assert "names its weights itself" in refusal(models, role.split("/")[0])


def test_a_tokenizer_without_words_is_refused(models: Path) -> None:
    (models / "base/tokenizer/tokenizer.json").unlink()
    assert "has no tokenizer.json, no vocab.json" in refusal(models, "base")


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("scheduler", ["ddim", "euler", "euler_ancestral", "dpmpp_2m", "unipc"])
def test_v_prediction_is_sampled_with_and_without_a_terminal_snr_of_zero(
    models: Path, scheduler: str, zero_snr: bool
) -> None:
    edit(models / "base" / SCHEDULER, prediction_type="v_prediction", rescale_betas_zero_snr=zero_snr)
    base = load_model(str(models / "base"))
    settings = SamplerConfig(scheduler=scheduler, steps=3)  # type: ignore[arg-type]
    found = sample(base, ["a panda"], [1], settings)
    assert bool(torch.isfinite(found).all()) and float(found.std()) > 0.1
    clean, noise, t = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.tensor([999, 500])
    noisy, v = base.add_noise(clean, noise, t), base.target(clean, noise, t)
    assert torch.allclose(base.to_noise(v, noisy, t), noise, atol=1e-4)


@pytest.mark.parametrize("algorithm", ["sde-dpmsolver++", "dpmsolver", "dpmsolver++"])
def test_the_solver_is_ours_whatever_the_base_names(models: Path, plain: Path, algorithm: str) -> None:
    edit(models / "base" / SCHEDULER, _class_name="DPMSolverMultistepScheduler", algorithm_type=algorithm)
    settings = SamplerConfig(scheduler="dpmpp_2m", steps=3)
    expected = sample(load_model(str(plain / "base")), ["a panda"], [1], settings)
    found = [sample(load_model(str(models / "base")), ["a panda"], [1], settings) for _ in range(2)]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], expected)


@pytest.mark.parametrize("clip_sample", [True, ...])
def test_ddim_clips_no_latents(models: Path, plain: Path, clip_sample: object) -> None:
    edit(models / "base" / SCHEDULER, clip_sample=clip_sample)
    settings = SamplerConfig(scheduler="ddim", steps=3)
    found = sample(load_model(str(models / "base")), ["a panda"], [1], settings)
    assert torch.equal(found, sample(load_model(str(plain / "base")), ["a panda"], [1], settings))
    assert float(found.abs().max()) > 1.5  # the control: clipped to 1 it would not be


@pytest.mark.parametrize("what", ["config", "files"])
def test_the_dtype_is_ours_whatever_a_part_names_or_holds(models: Path, plain: Path, what: str) -> None:
    for part in ("base/text_encoder", "base/unet", "base/vae", "clip", "judge"):
        if what == "config" and part not in ("base/unet", "base/vae"):  # diffusers' name none
            edit(models / part / "config.json", dtype="float16", torch_dtype="float16")
        elif what == "files":
            rewrite(
                models / part,
                lambda state: {k: one.half() if one.is_floating_point() else one for k, one in state.items()},
            )
    base, clip, judge = (load(str(models / role)) for role, load in LOADERS.items())
    networks = [base.denoiser, base.vae, base.parts["text_encoder"], clip.model, judge.model]  # type: ignore[attr-defined]
    assert {one.dtype for net in networks for one in net.parameters()} == {torch.float32}
    same = torch.equal(base.denoiser.conv_in.weight, load_model(str(plain / "base")).denoiser.conv_in.weight)  # type: ignore[attr-defined]
    assert same == (what == "config")


def test_the_denoiser_and_the_text_encoder_take_the_dtype_that_is_configured(plain: Path) -> None:
    base = load_model(str(plain / "base"), dtype=torch.bfloat16)
    assert base.dtype == torch.bfloat16 == next(base.parts["text_encoder"].parameters()).dtype
    assert next(base.vae.parameters()).dtype == torch.float32
