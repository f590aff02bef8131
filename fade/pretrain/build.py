"""The stages of ``fade pretrain``: finished whole or repeated; a killed one resumes from its checkpoint.

Stable Diffusion's world makes everything, unless a finished world's parts are taken as they are: pictures,
CLIP, autoencoder and judges. Another family's world always stands on such parts and adds what is its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModelWithProjection, T5EncoderModel

from fade.config import PretrainConfig
from fade.data.dvcfile import hash_folder
from fade.errors import DataError
from fade.judges import train as judge
from fade.models.layout import LOCAL
from fade.pretrain import (
    autoencoder,
    clip,
    codec,
    denoiser,
    denoiser_stages,
    drawings,
    second_judge,
    spelled_words,
    text,
    tokenizer,
)
from fade.pretrain.captions import words_of
from fade.pretrain.families import FAMILIES
from fade.pretrain.storing import PREPROCESSOR, save_half, store_judge, write_indented
from fade.pretrain.world import OnStage, World, spelled
from fade.utils.hashing import fingerprint

SHARED = ("emoji", "base/clip", "base/unet", "base/vae", "judge")
"""Folders of a world that another one can stand on."""


def build(
    work: Path, family: str, config: PretrainConfig, on_step: OnStage, parts: Path | None = None
) -> Path:
    """Make a family's world below ``work``; returns the folder that becomes the world's: of "sd" emoji/,
    base/, judge/; of another family base/ alone.

    parts: a finished world whose pictures, CLIP, autoencoder and judges are taken as they are; a family but
    "sd" needs one. Raises DataError when its pictures are not those of the vocabulary."""
    world = World(work, family, config, parts, on_step)
    drawings.fetch_packages(world.recipe, world.packages)
    world.keys["recipe"] = fingerprint(world.recipe)
    if parts:
        world.keys["parts"] = fingerprint({name: hash_folder(parts / name) for name in SHARED})
    for name, (make, settings, inputs) in stages(family, bool(parts)).items():
        folder = world.stage(name, partial(make, world), settings.split(), inputs.split())
    return folder


def _drawings(world: World, folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    drawings.write_vocabulary(world.recipe, world.packages, folder)


def _sprites(world: World, folder: Path) -> None:
    """The training drawings again, to be pasted over each other; not shipped."""
    sprites = drawings.render_sprites(world.recipe, world.packages)
    np.save(folder / "sprites.npy", sprites, allow_pickle=False)


def _corpus(world: World, folder: Path) -> None:
    def on_step(done: int, total: int) -> None:
        world.on_step("corpus", done, total, {})

    sprites, names, styles = drawings.render_corpus(world.recipe, world.packages, on_step)
    np.save(folder / "sprites.npy", sprites, allow_pickle=False)
    (folder / "words.json").write_text(json.dumps({"names": names, "styles": styles}), encoding="utf-8")


def _tokenizer(world: World, folder: Path) -> None:
    words = words_of(world.sets.labels, sorted(set(world.sets.styles)))
    tokenizer.build_tokenizer(words, world.config.max_tokens, folder / "clip")
    tokenizer.build_t5_tokenizer(words, world.config.max_tokens, folder / "t5")


def _text(stage: str, world: World, folder: Path) -> None:
    """One text tower."""
    config, sets = getattr(world.config, stage), world.sets
    words, training = world.tokenizer(stage), world.training(stage)
    torch.manual_seed(training.seed)
    tower = (text.build_t5 if stage == "t5" else text.build_clip)(config, words)
    pictures = sets.wide_scenes(config.vocabulary_share)
    text.train(tower, words, pictures, world.meaning, config, training)
    save_half(tower, folder / "model")


def _spelled(stage: str, world: World, folder: Path) -> None:
    """The text tower of ``stage``, which reads past spelled words."""
    kind = T5EncoderModel if stage == "t5" else CLIPTextModelWithProjection
    tower = kind.from_pretrained(world.model(stage), **LOCAL)
    pictures = world.sets.wide_scenes(getattr(world.config, stage).vocabulary_share)
    config, training = world.config.text_spelled, world.training(spelled(stage))
    spelled_words.train(tower, world.tokenizer(stage), pictures, config, training)
    save_half(tower, folder / "model")


def _sight(world: World, folder: Path) -> None:
    config, sets = world.config.sight, world.sets
    training = world.training("sight")
    torch.manual_seed(training.seed)
    tower = CLIPTextModelWithProjection.from_pretrained(world.model(spelled("text")), **LOCAL)
    model, pictures = clip.build(tower, config), sets.wide_scenes(config.vocabulary_share)
    clip.train(model, world.tokenizer("text"), pictures, config, training)
    save_half(model, folder / "model")


def _codec(world: World, folder: Path) -> None:
    config, (pixels, shares) = world.config.autoencoder, world.sets.pictures
    chain = codec.train(pixels, shares, config, world.config.codec, world.training("codec"))
    model = autoencoder.from_chain(chain, config, pixels, shares, world.config.seed)
    model.save_pretrained(folder / "model")


def _autoencoder(world: World, folder: Path) -> None:
    model = AutoencoderKL.from_pretrained(world.model("codec"), **LOCAL)
    autoencoder.refine_decoder(
        model, *world.sets.pictures, world.config.autoencoder, world.training("autoencoder")
    )
    model.save_pretrained(folder / "model")


def _judge(world: World, folder: Path) -> None:
    sets = world.sets
    model = judge.train(sets.pixels, sets.names, sets.labels, world.config.judge, world.training("judge"))
    store_judge(model, folder / "model")


def _styles(world: World, folder: Path) -> None:
    """The judge of styles never sees every eighth concept: on those it is measured."""
    sets, heldout = world.sets, judge.heldout_concepts(world.sets.labels)
    known = [i for i, name in enumerate(sets.names) if name not in heldout]
    styles, labels = [sets.styles[i] for i in known], sorted(set(sets.styles))
    training = world.training("styles")
    model = judge.train(sets.pixels[known], styles, labels, world.config.styles, training)
    store_judge(model, folder / "model")


def _second(world: World, folder: Path) -> None:
    config, sets = world.config.second, world.sets
    weights, training = second_judge.load_weights(config.backbone), world.training("second")
    pixels, names, shares = sets.named_pictures(config.vocabulary_share)
    torch.manual_seed(training.seed)
    model = second_judge.build(sorted(set(names)), config.side)
    second_judge.load_backbone(model, weights)
    second_judge.train(model, pixels, names, shares, config, training)
    second_judge.keep_labels(model, sets.labels)
    store_judge(model, folder / "model", second_judge.preprocessor(config.side))


def _shared(world: World, folder: Path) -> None:
    """The parts of a finished world."""
    assert world.parts
    if hash_folder(world.parts / "emoji") != hash_folder(world.work / "drawings"):
        what = f"the pictures of {world.parts / 'emoji'} are not those of fade/pretrain/vocabulary.yaml."
        raise DataError(what, stage="shared", action="pull the world that this version draws (`fade pull`).")
    shutil.rmtree(folder)
    for name in SHARED:
        shutil.copytree(world.parts / name, folder / name)


def _bank(world: World, folder: Path) -> None:
    def on_step(done: int, total: int) -> None:
        world.on_step("bank", done, total, {})

    vae = AutoencoderKL.from_pretrained(world.vae, **LOCAL).eval()
    config = world.config
    denoiser.encode_bank(vae, world.sets.scenes(), config.bank, config.seed, on_step).save(folder)


def _denoiser(world: World, folder: Path) -> None:
    save_half(denoiser_stages.train_first(world), folder / "model")


def _restart(stage: str, before: str, world: World, folder: Path) -> None:
    save_half(denoiser_stages.train_again(world, stage, before), folder / "model")


def _base(world: World, folder: Path) -> None:
    """A directory of the family's pipeline."""
    family, parts = FAMILIES[world.family], world.encoders(finished=True)
    index = {"_class_name": family.pipeline, "_diffusers_version": "0.35.0", **family.index}
    for name, part in parts.items():
        if name.startswith("tokenizer"):
            part.save_pretrained(folder / name)
        else:
            save_half(part, folder / name)
        index[name] = ["transformers", type(part).__name__]
    family.scheduler().save_pretrained(folder / "scheduler")
    index["scheduler"] = ["diffusers", type(family.scheduler()).__name__]
    shutil.copytree(world.model(family.last_stage), folder / family.part)
    save_half(AutoencoderKL.from_pretrained(world.vae, **LOCAL), folder / "vae")
    for name in (family.part, "vae"):
        config = json.loads((folder / name / "config.json").read_text(encoding="utf-8"))
        index[name] = ["diffusers", config["_class_name"]]
    write_indented(folder / "model_index.json", dict(sorted(index.items())))


def _assemble(world: World, folder: Path) -> None:
    """Lay out ``emoji/``, ``base/`` (with the CLIP that mines), ``judge/``; of another family ``base/``."""
    shutil.rmtree(folder)
    base = folder / "base"
    base.mkdir(parents=True)
    _base(world, base)
    if world.family != "sd":
        return
    if world.parts:
        for name in ("emoji", "base/clip", "judge"):
            shutil.copytree(world.work / "shared" / name, folder / name)
        return
    sources = {
        folder / "emoji": world.work / "drawings",
        base / "clip": world.model("sight"),
        folder / "judge": world.model("judge"),
        folder / "judge" / "styles": world.model("styles"),
        folder / "judge" / "second": world.model("second"),
    }
    for target, source in sources.items():
        shutil.copytree(source, target)
    for file in (base / "tokenizer").iterdir():
        shutil.copy(file, base / "clip" / file.name)
    write_indented(base / "clip" / "preprocessor_config.json", PREPROCESSOR)


Stage = tuple[Callable[[World, Path], None], str, str]
"""What makes a stage, the sections of its settings, and the stages that it is made from."""


def stages(family: str, stands_on_parts: bool) -> dict[str, Stage]:
    """Stages of a family's world, in order."""
    chosen, scenes = FAMILIES[family], "scenes emphasised emphasis"
    found: dict[str, Stage] = {"drawings": (_drawings, "", "recipe")}
    if stands_on_parts:  # at once: parts that do not fit are refused before any training
        found["shared"] = (_shared, "", "parts drawings")
    found |= {
        "sprites": (_sprites, "", "recipe"),
        "corpus": (_corpus, "", "recipe"),
        "tokenizer": (_tokenizer, "max_tokens", "drawings"),
    }
    own = [stage for stage in chosen.texts.values() if stage != "text" or not stands_on_parts]
    for stage in own:
        found[stage] = (partial(_text, stage), f"{stage} teacher {scenes}", "tokenizer sprites corpus")
        settings = f"{stage} text_spelled {scenes}"
        found[spelled(stage)] = (partial(_spelled, stage), settings, f"{stage} sprites corpus")
    texts = [
        stage if stage == "text" else spelled(stage) for stage in own
    ]  # with which denoisers are trained
    if stands_on_parts:
        vae, parts = "shared", ["shared"]
    else:
        found |= {
            "sight": (_sight, f"sight {scenes}", "text_spelled sprites corpus"),
            "codec": (_codec, f"codec autoencoder {scenes}", "drawings sprites corpus"),
            "autoencoder": (_autoencoder, "autoencoder", "codec"),
            "judge": (_judge, "judge", "drawings"),
            "styles": (_styles, "styles", "drawings"),
            "second": (_second, "second emphasised emphasis", "drawings corpus"),
        }
        vae = "autoencoder"
        parts = ["drawings", "text_spelled", "sight", vae, "judge", "styles", "second"]
    found["bank"] = (_bank, f"bank {scenes}", f"sprites {vae}")
    found[chosen.stage] = (_denoiser, chosen.stage, " ".join(["bank", vae, *texts]))
    for before, stage in pairwise((chosen.stage, *chosen.restarts)):
        made = partial(_restart, stage, before)
        found[stage] = (made, stage, " ".join(["bank", vae, *texts, before]))
    found[f"{family}-world"] = (_assemble, "", " ".join([*parts, *texts, chosen.last_stage]))
    return found
