"""The stages of ``fade pretrain``: finished whole or repeated; a killed one resumes from its checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch import Tensor
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer, ResNetForImageClassification

from fade.config import PretrainConfig
from fade.data.images import read_pictures
from fade.data.manifest import MANIFEST, read_manifest
from fade.judges import train as judge
from fade.judges.supervised_loop import Logs, Training
from fade.models.layout import LOCAL
from fade.pretrain import autoencoder, captions, clip, codec, drawings, unet
from fade.utils.files import write_json
from fade.utils.hashing import fingerprint

OnStage = Callable[[str, int, int, Logs], None]
PREPROCESSOR = {
    "size": 64,
    "image_mean": [0.5] * 3,
    "image_std": [0.5] * 3,
    "do_resize": True,
    "do_normalize": True,
}
"""How the judge and the CLIP take pictures: 64 pixels, -1..1."""
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.35.0",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


@dataclass(frozen=True)
class Sets:
    """What the models are trained on: the vocabulary's training drawings, and these with the wide corpus."""

    train: Tensor
    """(N, 64, 64, 3) uint8."""
    train_names: list[str]
    train_styles: list[str]
    train_families: list[str]
    pixels: Tensor
    """(N + M, 64, 64, 3) uint8: the vocabulary's, then the corpus's."""
    names: list[str]
    styles: list[str]
    labels: list[str]
    """All concepts of the vocabulary, in its order."""

    @classmethod
    def load(cls, vocabulary: Path, corpus: Path) -> Sets:
        frame = read_manifest(vocabulary / MANIFEST)
        train = frame[frame["split"] == "train"]
        own = torch.from_numpy(read_pictures([vocabulary / path for path in train["path"]]))
        names, styles, families = (list(train[column]) for column in ("concept", "style", "family"))
        sprites = np.load(corpus / "sprites.npy", allow_pickle=False)
        wide = torch.from_numpy(np.stack([drawings.on_white(sprite) for sprite in sprites]))
        words = json.loads((corpus / "words.json").read_text(encoding="utf-8"))
        every = (torch.cat([own, wide]), [*names, *words["names"]], [*styles, *words["styles"]])
        return cls(own, names, styles, families, *every, list(dict.fromkeys(frame["concept"])))

    def mixed(self, vocabulary_share: float) -> tuple[Tensor, Tensor]:
        """All pictures and the probability of each, with the given share for the vocabulary's."""
        n, m = len(self.train), len(self.pixels) - len(self.train)
        shares = [torch.full((n,), vocabulary_share / n), torch.full((m,), (1 - vocabulary_share) / m)]
        return self.pixels, torch.cat(shares)


@dataclass
class World:
    """One build: its work folder (resumable), its settings, and who is told of progress."""

    work: Path
    config: PretrainConfig
    on_step: OnStage = lambda stage, step, steps, logs: None

    keys: dict[str, str] = field(default_factory=dict)
    """Stage -> hash of what it was made from, its inputs' hashes included."""

    def stage(
        self, name: str, make: Callable[[Path], Any], settings: Sequence[str] = (), inputs: Sequence[str] = ()
    ) -> Path:
        """Run ``make(folder)`` unless it is finished, of the same settings and inputs; returns the folder."""
        folder, seal = self.work / name, self.work / f"{name}.done.json"
        own = {s: getattr(self.config, s).model_dump(mode="json") for s in settings}
        made_from = {"stage": name, "seed": self.config.seed, "settings": own}
        key = fingerprint({**made_from, "inputs": [self.keys[i] for i in inputs]})
        self.keys[name] = key
        if seal.exists() and folder.is_dir() and json.loads(seal.read_text(encoding="utf-8"))["key"] == key:
            self.on_step(name, 1, 1, {})
            return folder
        seal.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
        write_json(seal, {"key": key})
        return folder

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """Of the vocabulary."""
        return drawings.load_recipe()

    @property
    def packages(self) -> Path:
        """Folder of the unpacked npm packages."""
        return self.config.packages or self.work / "packages"

    @cached_property
    def sets(self) -> Sets:
        """Of the finished stages ``drawings`` and ``corpus``."""
        return Sets.load(self.work / "drawings", self.work / "corpus")

    def model(self, stage: str) -> Path:
        """Where a finished stage left its model."""
        return self.work / stage / "model"

    def training(self, stage: str, offset: int = 0) -> Training:
        """The training of a stage; offset: of its seed, so that no two trainings share one."""
        identity = {"stage": self.keys[stage]}
        return Training(self.work / stage, self.config.seed + offset, partial(self.on_step, stage), identity)


def build(work: Path, config: PretrainConfig, on_step: OnStage) -> Path:
    """Make the world below ``work``; returns the folder that becomes ``data/``: emoji/, base/, judge/."""
    world = World(work, config, on_step)
    drawings.fetch_packages(world.recipe, world.packages)
    world.keys["recipe"] = fingerprint(world.recipe)
    for name, (make, settings, inputs) in STAGES.items():
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


def _captioned(world: World, share: float, tokenizer: CLIPTokenizer) -> clip.Captioned:
    sets, concepts = world.sets, sorted(set(world.sets.names))
    embeddings = zip(concepts, clip.teacher_embeddings(concepts, world.config.clip.teacher), strict=True)
    pixels, shares = sets.mixed(share)
    return clip.Captioned(pixels, sets.names, sets.styles, shares, tokenizer, dict(embeddings))


def _clip(world: World, folder: Path) -> None:
    config, sets = world.config.clip, world.sets
    lines = [t.format(concept=n) for n in sorted(set(sets.names)) for t in sorted(set(captions.TEMPLATES))]
    lines += [f"a in the {s} style" for s in sorted(set(sets.styles))] * 400
    captions.build_tokenizer(lines, config.merges, config.max_tokens, folder / "model")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "model", **LOCAL)
    pictures = _captioned(world, config.vocabulary_share, tokenizer)
    clip.train(pictures, tokenizer, config, world.training("clip")).save_pretrained(folder / "model")


def _sight(world: World, folder: Path) -> None:
    config, clip_dir = world.config.sight, world.model("clip")
    shutil.copytree(clip_dir, folder / "model", dirs_exist_ok=True)
    pictures = _captioned(world, config.vocabulary_share, CLIPTokenizer.from_pretrained(clip_dir, **LOCAL))
    model = CLIPModel.from_pretrained(clip_dir, **LOCAL)
    clip.train_sight(model, pictures, config, world.training("sight", 4)).save_pretrained(folder / "model")


def _codec(world: World, folder: Path) -> None:
    config = world.config.autoencoder
    pixels, shares = world.sets.mixed(0.5)
    chain = codec.train(pixels, shares, config, world.config.codec, world.training("codec"))
    model = autoencoder.from_chain(chain, config, pixels, shares, world.config.seed)
    model.save_pretrained(folder / "model")


def _autoencoder(world: World, folder: Path) -> None:
    model = AutoencoderKL.from_pretrained(world.model("codec"), **LOCAL)
    training = world.training("autoencoder", 1)
    autoencoder.refine_decoder(model, *world.sets.mixed(0.5), world.config.autoencoder, training)
    model.save_pretrained(folder / "model")


def _judge(world: World, folder: Path) -> None:
    sets, training = world.sets, world.training("judge", 2)
    model = judge.train(sets.train, sets.train_names, sets.labels, world.config.judge, training)
    _store_judge(model, folder / "model")


def _styles(world: World, folder: Path) -> None:
    """The judge of styles never sees every eighth concept: on those it is measured."""
    sets, heldout = world.sets, judge.heldout_concepts(world.sets.labels)
    known = [i for i, name in enumerate(sets.train_names) if name not in heldout]
    styles, labels = [sets.train_styles[i] for i in known], sorted(set(sets.train_styles))
    training = world.training("styles", 3)
    model = judge.train(sets.train[known], styles, labels, world.config.styles, training)
    _store_judge(model, folder / "model")


def _store_judge(model: ResNetForImageClassification, folder: Path) -> None:
    model.half().save_pretrained(folder)  # stored small; loaded in float32
    _write_indented(folder / "preprocessor_config.json", PREPROCESSOR)


def _unet(world: World, folder: Path) -> None:
    config, sets = world.config.unet, world.sets
    text = CLIPTextModel.from_pretrained(world.model("clip"), **LOCAL).eval().requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(world.model("clip"), **LOCAL)
    vae = AutoencoderKL.from_pretrained(world.model("codec"), **LOCAL).eval()
    latents = unet.encode_views(vae, sets.train, config.views, world.config.seed)
    labels = (sets.train_names, sets.train_styles, sets.train_families)
    model = unet.train(latents, *labels, text, tokenizer, config, world.training("unet"))
    model.save_pretrained(folder / "model")
    text.save_pretrained(folder / "text_encoder")


def _assemble(world: World, folder: Path) -> None:
    """Lay out ``emoji/``, ``base/`` (a Stable Diffusion directory with its CLIP) and ``judge/styles/``."""
    shutil.rmtree(folder)
    base = folder / "base"
    sources = {
        folder / "emoji": world.work / "drawings",
        base / "unet": world.model("unet"),
        base / "text_encoder": world.work / "unet" / "text_encoder",
        base / "vae": world.model("autoencoder"),
        base / "clip": world.model("sight"),
        folder / "judge": world.model("judge"),
        folder / "judge" / "styles": world.model("styles"),
    }
    for target, source in sources.items():
        shutil.copytree(source, target)
    (base / "tokenizer").mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(base / "clip" / name, base / "tokenizer" / name)
    _write_indented(base / "clip" / "preprocessor_config.json", PREPROCESSOR)
    schedule = {**unet.SCHEDULE, "set_alpha_to_one": False, "timestep_spacing": "trailing"}
    DDIMScheduler(**schedule).save_pretrained(base / "scheduler")
    _write_indented(base / "model_index.json", MODEL_INDEX)


def _write_indented(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


STAGES = {
    "drawings": (_drawings, "", "recipe"),
    "sprites": (_sprites, "", "recipe"),
    "corpus": (_corpus, "", "recipe"),
    "clip": (_clip, "clip", "drawings corpus"),
    "sight": (_sight, "sight", "clip drawings corpus"),
    "codec": (_codec, "codec autoencoder", "drawings corpus"),
    "autoencoder": (_autoencoder, "autoencoder", "codec"),
    "judge": (_judge, "judge", "drawings"),
    "styles": (_styles, "styles", "drawings"),
    "unet": (_unet, "unet", "clip codec"),
    "assemble": (_assemble, "", "drawings sight autoencoder judge styles unet"),
}
"""Stage -> what makes it, the sections of its settings, and the stages that it is made from."""
