"""What cannot work is refused by the command line: an exit code, a sentence that names it and the next step,
and every file as it was. The command's own code in this process, miniature models."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from fade.data.dvcfile import hash_folder, listing_md5
from fade.models import memory
from fade.models.base import DiffusionModel
from fade.models.loading import load_model
from flows.cli.app import _explain
from tests.datasets import make_dataset, save
from tests.support import command_line, make_tiny_clip, make_tiny_judge
from tests.unit.fade.adapters.foreign import foreign_layers, kohya, saved

SMALL = (
    *("neighborhood.k=2", "neighborhood.k_heldout=1", "neighborhood.images_per_concept=2"),
    *("sampler.steps=2", "evaluate.images_per_concept=2", "evaluate.bootstrap=20", "evaluate.base_known=0"),
    'data.second_judge=""',
)
State = dict[str, torch.Tensor]
Spoil = Callable[[Path], object]


@dataclass(frozen=True)
class Project:
    """A folder with params.yaml, data and data.dvc; its runs folder; a picture that is there already."""

    home: Path
    runs: Path
    out: Path

    def fade(self, *words: str, **data: Path) -> tuple[int, str, str]:
        """Exit code, output and errors of a command, small. data: keys of the section, other paths."""
        settings = [*SMALL, *(f"data.{key}={path}" for key, path in data.items())]
        line = [*words, *(part for one in settings for part in ("--set", one))]
        line += ["--params", str(self.home / "params.yaml"), "--runs-dir", str(self.runs)]
        out, err, code = io.StringIO(), io.StringIO(), 0
        with redirect_stdout(out), redirect_stderr(err):
            try:
                command_line().main(line, prog_name="fade", standalone_mode=False)
            except Exception as error:  # as flows.cli.main does, which also takes over the process's signals
                code = _explain(error)
        return code, out.getvalue(), " ".join(err.getvalue().split())

    def generate(self) -> tuple[str, ...]:
        return ("generate", "a panda", "-n", "1", "--out", str(self.out))

    def command(self, role: str) -> tuple[str, ...]:
        """The shortest command that loads a role's model."""
        picture = str(self.home / "data/emoji/noto/panda.png")
        purify = ("purify", picture, "--model", "x.safetensors", "--concept", "panda", "--out", str(self.out))
        return {"base": self.generate(), "clip": ("mine", "-t", "panda"), "judge": purify}[role]


@pytest.fixture(scope="module", autouse=True)
def _environment() -> Iterator[None]:
    """Commands set variables for the tools."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def project(
    repo: Path, family_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Project:
    home = tmp_path_factory.mktemp("project")
    shutil.copy(repo / "params.yaml", home)
    concepts = make_dataset(home / "data/emoji")["concept"].unique()
    shutil.copytree(family_dir("sd1"), home / "data/base")
    make_tiny_clip(home / "data/base/clip")
    make_tiny_judge(home / "data/judge", concepts)
    md5 = listing_md5(hash_folder(home / "data"))
    (home / "data.dvc").write_text(f"outs:\n- {{md5: {md5}, size: 1, nfiles: 1, hash: md5, path: data}}\n")
    save(home / "out.png", np.full((4, 4, 3), 9, np.uint8))
    return Project(home, tmp_path_factory.mktemp("runs"), home / "out.png")


@pytest.fixture
def models(project: Project, tmp_path: Path) -> Path:
    """A copy of the data to spoil: folders emoji, base (with clip), judge."""
    return Path(shutil.copytree(project.home / "data", tmp_path / "models"))


@pytest.fixture(scope="module")
def base(project: Project) -> DiffusionModel:
    return load_model(str(project.home / "data/base"), device="cpu")


def contents(*folders: Path) -> dict[Path, bytes]:
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return {file: file.read_bytes() for file in files}


def refused(project: Project, code: int, names: tuple[str, ...], *words: str, **data: Path) -> str:
    """The sentence of a refusal with that code, which names all of ``names``; nothing was printed, and every
    file that was there has the bytes that it had."""
    before = contents(project.home, project.runs, *data.values())
    found, out, err = project.fade(*words, **data)
    assert found == code and all(name in err for name in names), (found, err)
    assert "error" in err and " Next: " in err and "Traceback" not in err and not out
    after = contents(project.home, project.runs, *data.values())
    assert {file: after.get(file) for file in before} == before
    assert contents(project.home).keys() == {file for file in before if file.is_relative_to(project.home)}
    return err


def weights(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


def rewrite(folder: Path, change: Callable[[State], object]) -> None:
    state = load_file(weights(folder))
    change(state)
    save_file({key: one.contiguous() for key, one in state.items()}, weights(folder), {"format": "pt"})


def edit(file: Path, **changes: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


# Tensors of every part that is loaded.

PARTS = {
    "base/unet": "conv_in.weight",
    "base/vae": "decoder.conv_in.weight",
    "base/text_encoder": "encoder.layers.0.self_attn.k_proj.weight",
    "base/clip": "visual_projection.weight",
    "judge": "classifier.1.weight",
}
TENSORS: dict[str, tuple[Callable[[State, str], object], str]] = {
    "missing": (lambda state, name: state.pop(name), "lacks"),
    "unexpected": (lambda state, name: state.update({f"{name}.mine": state[name].clone()}), "unknown to"),
    "misshapen": (lambda state, name: state.update({name: state[name][:-1]}), "shape"),
    "not finite": (lambda state, name: state[name].view(-1)[:1].fill_(float("nan")), "is not finite"),
}


def test_what_is_whole_is_let_through(project: Project) -> None:
    """The control of what is refused of a base and a CLIP; the judge's is in the adapters' below."""
    for role in ("base", "clip"):
        code, _, err = project.fade(*project.command(role))
        assert code == 0, err


@pytest.mark.parametrize("fault", TENSORS)
@pytest.mark.parametrize("part", PARTS)
def test_a_tensor_is_named_with_its_part(project: Project, models: Path, part: str, fault: str) -> None:
    change, says = TENSORS[fault]
    (name,) = (
        one
        for one in load_file(weights(models / part))
        if one.endswith(PARTS[part]) and not one.startswith("vision")
    )
    rewrite(models / part, lambda state: change(state, name))
    role = "clip" if part.endswith("clip") else part.split("/")[0]
    where = {role: models / (part if role == "clip" else role)}
    names = (str(models / part), PARTS[part].removeprefix("text_model."), says, "model anew")
    refused(project, 1, names, *project.command(role), **where)


# Models that are of another kind, or not whole.

UNET, SCHEDULER = "base/unet/config.json", "base/scheduler/scheduler_config.json"
INDEX = "base/model_index.json"
SPECIAL = '{"<|startoftext|>": 0, "<|endoftext|>": 1}'


def leave_out(*parts: str) -> Spoil:
    return lambda models: edit(models / INDEX, **{part: [None, None] for part in parts})


def pickle(part: str) -> Spoil:
    return lambda models: weights(models / part).rename(models / part / "pytorch_model.bin")


def without_vocabulary(part: str) -> Spoil:
    return lambda models: (models / part / "tokenizer.json").unlink()


def with_empty_vocabulary(part: str, vocabulary: str = "{}") -> Spoil:
    def spoil(models: Path) -> None:
        without_vocabulary(part)(models)
        (models / part / "vocab.json").write_text(vocabulary)
        (models / part / "merges.txt").write_text("#version: 0.2\n")

    return spoil


KINDS: dict[str, tuple[str, Spoil, tuple[str, ...]]] = {
    "an inpainting UNet": (
        "base",
        lambda models: edit(models / UNET, in_channels=9),
        ("an inpainting or other UNet", "data.base"),
    ),
    "prediction of the sample": (
        "base",
        lambda models: edit(models / SCHEDULER, prediction_type="sample"),
        ("prediction_type sample", "supported: epsilon, v_prediction", "data.base"),
    ),
    "a flow scheduler beside a UNet": (
        "base",
        lambda models: edit(models / SCHEDULER, _class_name="FlowMatchEulerDiscreteScheduler"),
        ("FlowMatchEulerDiscreteScheduler", "is not supported", "data.base"),
    ),
    "an unknown pipeline": (
        "base",
        lambda models: edit(models / INDEX, _class_name="PixArtSigmaPipeline"),
        ("model_index.json", "'PixArtSigmaPipeline'", "StableDiffusionPipeline", "data.base"),
    ),
    "no vocabulary": (
        "base",
        without_vocabulary("base/tokenizer"),
        ("base/tokenizer has no tokenizer.json", "fetch the model anew"),
    ),
    "an empty vocabulary": (
        "base",
        with_empty_vocabulary("base/tokenizer"),
        ("base/tokenizer has no tokenizer that loads", "fetch the model anew"),
    ),
    "a vocabulary of its special tokens": (
        "base",
        with_empty_vocabulary("base/tokenizer", SPECIAL),
        ("base/tokenizer tells no letters apart", "fetch the model anew"),
    ),
    "an empty vocabulary of the CLIP": (
        "clip",
        with_empty_vocabulary("base/clip", SPECIAL),
        ("base/clip tells no letters apart", "fetch the model anew"),
    ),
    "no vocabulary of the CLIP": (
        "clip",
        without_vocabulary("base/clip"),
        ("base/clip has no tokenizer.json", "fetch the model anew"),
    ),
    "no text encoder": (
        "base",
        lambda models: shutil.rmtree(models / "base/text_encoder"),
        ("base/text_encoder/config.json is missing", "fetch the model anew"),
    ),
    "a text encoder left out": (
        "base",
        leave_out("text_encoder"),
        ("model_index.json leaves out text_encoder", "fetch the whole model"),
    ),
    "pickles of the denoiser": (
        "base",
        pickle("base/unet"),
        (
            "base/unet holds no safetensors weights",
            "from diffusers import UNet2DConditionModel",
            "save_pretr",
        ),
    ),
    "pickles of the CLIP": (
        "clip",
        pickle("base/clip"),
        ("only pytorch_model.bin", "from transformers import CLIPModel", "save_pretrained"),
    ),
    "pickles of the judge": (
        "judge",
        pickle("judge"),
        ("only pytorch_model.bin", "import it by `fade judge import"),
    ),
}


@pytest.mark.parametrize("what", KINDS)
def test_a_model_of_another_kind_is_named(project: Project, models: Path, what: str) -> None:
    role, spoil, names = KINDS[what]
    spoil(models)
    where = {"base": models / "base", "clip": models / "base/clip", "judge": models / "judge"}
    refused(project, 1, names, *project.command(role), **{role: where[role]})


def test_a_text_encoder_that_may_be_left_out_is_left_out_with_its_tokenizer(
    project: Project, family_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    line = (*project.generate(), "--set", "sampler.scheduler=euler")
    code, _, err = project.fade(*line, base=family_dir("sd3-without-t5"))
    assert code == 0, err
    home = Path(shutil.copytree(family_dir("sd3"), tmp_path / "base"))
    leave_out("tokenizer_3")(tmp_path)
    refused(project, 1, ("leaves out tokenizer_3", "together", "fetch the whole model"), *line, base=home)


# Prompts and pictures.


def test_a_prompt_that_is_cut_is_named(project: Project) -> None:
    long = "a panda in the style the cat the dog the wolf the rose the tulip the lion"
    line = ("generate", long, "--out", str(project.out))
    refused(project, 2, ("a panda in the style", "16 tokens", "shorten the prompt"), *line)
    line = (*project.command("clip"), "--set", f"sampler.prompt={long} {{concept}}")
    refused(project, 2, ("longer than the 16 tokens", "sampler.prompt"), *line)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("panda é", "panda ü"), ("cannot tell apart 'panda é', 'panda ü'", "rename one of them")),
        (("п", "rose ü"), ("knows no character of 'п'", "in the script")),
    ],
)
def test_concepts_of_one_embedding_are_named(
    project: Project, models: Path, names: tuple[str, str], says: tuple[str, ...]
) -> None:
    manifest = models / "emoji/manifest.csv"
    frame = pd.read_csv(manifest)
    frame["concept"] = frame["concept"].replace(dict(zip(("panda", "koala"), names, strict=True)))
    frame.to_csv(manifest, index=False)
    refused(project, 2, says, "mine", "-t", names[0], images=models / "emoji")


@pytest.mark.parametrize("level", [-1.0, 0.25])
def test_pictures_of_one_colour_are_named(project: Project, models: Path, level: float) -> None:
    def flatten(state: State) -> None:
        state["decoder.conv_out.weight"].zero_()
        state["decoder.conv_out.bias"].fill_(level)

    rewrite(models / "base/vae", flatten)
    says = ("a panda", "the original model", "one colour in every pixel", "fade generate")
    refused(project, 1, says, *project.command("clip"), base=models / "base")


# What the family, the device or its memory lacks.


def test_a_method_that_needs_a_null_prompt_is_named_before_a_server_starts(
    project: Project, family_dir: Callable[[str], Path]
) -> None:
    for method in ("fade", "esd/x"):
        says = (f"method {method}", "flux-schnell", "has no null prompt", "another method, or another base")
        line = ("run", "-t", "panda", "--method", method)
        refused(project, 2, says, *line, base=family_dir("flux-schnell"))
    picture = str(project.home / "data/emoji/noto/panda.png")
    line = ("purify", picture, "--model", "x.safetensors", "--concept", "panda", "--out", str(project.out))
    refused(project, 2, ("purification", "velocity", "data.base"), *line, base=family_dir("flux-dev"))
    assert not (project.runs / "prefect").exists()


def test_a_precision_that_the_device_lacks_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (*project.generate(), "--set", "model.dtype=bf16")
    assert project.fade(*line)[0] == 0  # the control: the CPU has it
    monkeypatch.setattr(memory, "pick_device", lambda _: "cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla T4")
    refused(project, 2, ("model.dtype = bf16", "Tesla T4 has no bfloat16", "model.dtype=fp32"), *line)


def test_what_does_not_fit_the_memory_is_named_with_the_numbers(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SMALL", 0)  # so that the miniature is estimated, too
    says = ("needs about 0.8 GB", "0.1 GB of the device may be used", "model.memory_gb")
    for line in (project.generate(), ("run", "-t", "panda")):
        refused(project, 2, says, *line, "--set", "model.memory_gb=0.1")
        assert not (project.runs / "prefect").exists()
    code, _, err = project.fade(*project.generate(), "--set", "model.memory_gb=4")
    assert code == 0, err  # the control


def test_an_attack_that_is_none_is_named_before_a_server_starts(project: Project) -> None:
    line = ("bench", "--quick", "--set", "attack.names=[inversionn]")
    refused(project, 2, ("unknown attack 'inversionn'", "did you mean 'inversion'?"), *line)
    assert not (project.runs / "prefect").exists()


# Adapters.


def test_an_adapter_of_another_family_is_named(
    project: Project, base: DiffusionModel, family_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    theirs = saved(load_model(str(family_dir("sd3")), device="cpu"), tmp_path / "theirs.safetensors")
    line = (*project.generate(), "--model", str(theirs))
    refused(project, 1, ("theirs", "Stable Diffusion 3, and", "data.base"), *line)
    line = ("evaluate", "--adapter", str(theirs), "-t", "panda")
    refused(project, 1, ("none of its", "Stable Diffusion's unet", "'transformer.", "data.base"), *line)
    ours = saved(base, tmp_path / "ours.safetensors")
    code, _, err = project.fade(*project.generate(), "--model", str(ours))
    assert code == 0, err  # the control


def foreign(base: DiffusionModel, path: Path, **how: Any) -> Path:
    return kohya(foreign_layers(base, ranks=(2, 3, 5)), path, **how)


def test_a_foreign_adapter_whose_keys_match_nothing_is_named(
    project: Project, base: DiffusionModel, tmp_path: Path
) -> None:
    theirs = foreign(base, tmp_path / "theirs.safetensors", name=lambda layer: f"x_{layer}".replace(".", "_"))
    line = ("evaluate", "--adapter", str(theirs), "-t", "panda")
    refused(project, 1, ("theirs.safetensors: none of its", "'lora_unet_x_", "set data.base"), *line)
    line = (*project.generate(), "--model", str(theirs))
    refused(project, 1, ("theirs.safetensors", "provenance"), *line)


@pytest.mark.parametrize("alpha", [True, False])
def test_a_foreign_adapter_of_other_ranks_is_judged_with_and_without_alpha(
    project: Project, base: DiffusionModel, tmp_path: Path, alpha: bool
) -> None:
    theirs = foreign(base, tmp_path / "theirs.safetensors", alpha=alpha)
    code, out, err = project.fade("evaluate", "--adapter", str(theirs), "-t", "panda", "--json")
    assert code == 0, err
    read = json.loads(out)["foreign"]
    assert read["ranks"] == "2, 3, 5" and read["alpha"].startswith("as written" if alpha else "none written")


def test_an_export_replaces_nothing(project: Project, base: DiffusionModel, tmp_path: Path) -> None:
    ours = saved(base, tmp_path / "ours.safetensors")
    for layout in ("diffusers", "kohya", "merged"):
        for there in (project.out, project.home / "data"):
            line = ("export", str(ours), "--format", layout, "--out", str(there))
            refused(project, 2, (f"{there} is there already", "--out"), *line)
    code, _, err = project.fade("export", str(ours), "--out", str(tmp_path / "new.safetensors"))
    assert code == 0, err  # the control
