"""The stages of ``fade pretrain``, in order. Each is finished whole or repeated; a killed one resumes from
its checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ResNetForImageClassification

from fade.config import PretrainConfig
from fade.judges import train as judge
from fade.judges.supervised_loop import Logs
from fade.pretrain import autoencoder, captions, clip, drawings, unet
from fade.pretrain.sets import Sets
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
"""How the judge and the CLIP want pictures: 64 pixels, -1..1."""


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
        """Run ``make(folder)`` unless the folder was finished from the same settings and input stages;
        returns the folder."""
        folder, seal = self.work / name, self.work / f"{name}.done.json"
        mine = {s: getattr(self.config, s).model_dump(mode="json") for s in settings}
        key = fingerprint(
            {
                "stage": name,
                "seed": self.config.seed,
                "settings": mine,
                "inputs": [self.keys[i] for i in inputs],
            }
        )
        self.keys[name] = key
        if seal.exists() and folder.is_dir() and json.loads(seal.read_text(encoding="utf-8"))["key"] == key:
            self.on_step(name, 1, 1, {})
            return folder
        seal.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        make(folder)
        write_json(seal, {"key": key})
        return folder

    def progress_of(self, stage: str) -> Callable[[int, int, Logs], None]:
        return lambda step, steps, logs: self.on_step(stage, step, steps, logs)

    def training(self, stage: str, offset: int = 0) -> dict[str, Any]:
        """What every training is told: its seed, who follows it, and what a checkpoint must agree with before
        it goes on."""
        return {
            "seed": self.config.seed + offset,
            "on_step": self.progress_of(stage),
            "identity": {"stage": self.keys[stage]},
        }


def build(work: Path, config: PretrainConfig, on_step: OnStage) -> Path:
    """Make the whole world below ``work`` and return the folder that becomes ``data/``: emoji/, base/,
    judge/."""
    world = World(work, config, on_step)
    recipe = drawings.load_recipe()
    packages = config.packages or work / "packages"
    drawings.fetch_packages(recipe, packages)
    world.keys["recipe"] = fingerprint(recipe)
    drawn = world.stage("drawings", lambda folder: _redraw(recipe, packages, folder), (), ["recipe"])
    corpus = world.stage("corpus", lambda folder: _corpus(recipe, packages, folder, world), (), ["recipe"])
    sets, pictures = Sets.load(drawn, corpus), ["drawings", "corpus"]
    clip_dir = world.stage("clip", lambda folder: _clip(sets, world, folder), ["clip"], pictures)
    sight_dir = world.stage(
        "sight", lambda folder: _sight(sets, world, clip_dir, folder), ["sight"], ["clip", *pictures]
    )
    codec_dir = world.stage(
        "codec", lambda folder: _codec(sets, world, folder), ["codec", "autoencoder"], pictures
    )
    vae_dir = world.stage(
        "autoencoder", lambda folder: _autoencoder(sets, world, codec_dir, folder), ["autoencoder"], ["codec"]
    )
    judge_dir = world.stage("judge", lambda folder: _judge(sets, world, folder), ["judge"], ["drawings"])
    styles_dir = world.stage("styles", lambda folder: _styles(sets, world, folder), ["styles"], ["drawings"])
    unet_dir = world.stage(
        "unet", lambda folder: _unet(sets, world, clip_dir, codec_dir, folder), ["unet"], ["clip", "codec"]
    )
    made = ["drawings", "sight", "autoencoder", "judge", "styles", "unet"]
    return world.stage(
        "assemble",
        lambda folder: assemble(drawn, sight_dir, vae_dir, unet_dir, (judge_dir, styles_dir), folder),
        (),
        made,
    )


def _redraw(recipe: dict[str, Any], packages: Path, folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    drawings.write_vocabulary(recipe, packages, folder)


def _corpus(recipe: dict[str, Any], packages: Path, folder: Path, world: World) -> None:
    progress_of = world.progress_of("corpus")
    pixels, names, styles = drawings.render_corpus(
        recipe, packages, lambda done, total: progress_of(done, total, {})
    )
    np.save(folder / "pixels.npy", pixels, allow_pickle=False)
    (folder / "words.json").write_text(json.dumps({"names": names, "styles": styles}), encoding="utf-8")


def _clip(sets: Sets, world: World, folder: Path) -> None:
    from transformers import CLIPTokenizer

    config = world.config.clip
    lines = [t.format(concept=n) for n in sorted(set(sets.names)) for t in sorted(set(captions.TEMPLATES))]
    lines += [f"a in the {s} style" for s in sorted(set(sets.styles))] * 400
    captions.build_tokenizer(lines, config.merges, config.max_tokens, folder / "model")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "model")
    pictures = _captioned(sets, config.vocabulary_share, tokenizer, config.teacher)
    clip.train(pictures, tokenizer, config, folder, **world.training("clip")).save_pretrained(
        folder / "model"
    )


def _sight(sets: Sets, world: World, clip_dir: Path, folder: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    config, teacher = world.config.sight, world.config.clip.teacher
    shutil.copytree(clip_dir / "model", folder / "model", dirs_exist_ok=True)
    pictures = _captioned(
        sets, config.vocabulary_share, CLIPTokenizer.from_pretrained(clip_dir / "model"), teacher
    )
    model = CLIPModel.from_pretrained(clip_dir / "model")
    clip.train_sight(model, pictures, config, folder, **world.training("sight", 4)).save_pretrained(
        folder / "model"
    )


def _captioned(sets: Sets, share: float, tokenizer: Any, teacher: str) -> clip.Captioned:
    pixels, shares = sets.mixed(share)
    return clip.Captioned(
        pixels, sets.names, sets.styles, shares, tokenizer, partial(clip.teacher_embeddings, package=teacher)
    )


def _codec(sets: Sets, world: World, folder: Path) -> None:
    from fade.pretrain import codec

    config = world.config.autoencoder
    pixels, shares = sets.mixed(0.5)
    chain = codec.train(pixels, shares, config, world.config.codec, folder, **world.training("codec"))
    model = autoencoder.from_chain(chain, config, pixels, shares, world.config.seed)
    model.save_pretrained(folder / "model")


def _autoencoder(sets: Sets, world: World, codec_dir: Path, folder: Path) -> None:
    from diffusers import AutoencoderKL

    model = AutoencoderKL.from_pretrained(codec_dir / "model")
    pixels, shares = sets.mixed(0.5)
    autoencoder.refine_decoder(
        model, pixels, shares, world.config.autoencoder, folder, **world.training("autoencoder", 1)
    )
    model.save_pretrained(folder / "model")


def _unet(sets: Sets, world: World, clip_dir: Path, codec_dir: Path, folder: Path) -> None:
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer

    config = world.config.unet
    text = CLIPTextModel.from_pretrained(clip_dir / "model").eval().requires_grad_(False)
    tokenizer = CLIPTokenizer.from_pretrained(clip_dir / "model")
    vae = AutoencoderKL.from_pretrained(codec_dir / "model").eval()
    latents = unet.encode_views(vae, sets.train, config.views, world.config.seed)
    drawn = (sets.train_names, sets.train_styles)
    model = unet.train(
        latents,
        *drawn,
        text,
        tokenizer,
        config,
        folder,
        families=sets.train_families,
        **world.training("unet"),
    )
    model.save_pretrained(folder / "model")
    text.save_pretrained(folder / "text_encoder")


def _judge(sets: Sets, world: World, folder: Path) -> None:
    model = judge.train(
        sets.train, sets.train_names, sets.labels, world.config.judge, folder, **world.training("judge", 2)
    )
    _store_judge(model, folder / "model")


def _styles(sets: Sets, world: World, folder: Path) -> None:
    """The judge of styles never sees every eighth concept: on those it is measured."""
    labels, heldout_concepts = sorted(set(sets.train_styles)), judge.heldout_concepts(sets.labels)
    known = [n not in heldout_concepts for n in sets.train_names]
    names = [s for s, k in zip(sets.train_styles, known, strict=True) if k]
    pixels = sets.train[torch.tensor(known)]
    model = judge.train(pixels, names, labels, world.config.styles, folder, **world.training("styles", 3))
    _store_judge(model, folder / "model")


def _store_judge(model: ResNetForImageClassification, folder: Path) -> None:
    model.half().save_pretrained(folder)  # stored small; loaded in float32
    (folder / "preprocessor_config.json").write_text(
        json.dumps(PREPROCESSOR, indent=2) + "\n", encoding="utf-8"
    )


def assemble(
    drawn: Path, clip_dir: Path, vae_dir: Path, unet_dir: Path, judges: tuple[Path, Path], folder: Path
) -> None:
    """Lay out ``emoji/``, ``base/`` (a Stable Diffusion directory with its CLIP beside it), ``judge/`` and
    ``judge/styles/``."""
    from diffusers import DDIMScheduler

    shutil.rmtree(folder)
    base = folder / "base"
    shutil.copytree(drawn, folder / "emoji")
    shutil.copytree(unet_dir / "model", base / "unet")
    shutil.copytree(unet_dir / "text_encoder", base / "text_encoder")
    shutil.copytree(vae_dir / "model", base / "vae")
    shutil.copytree(clip_dir / "model", base / "clip")
    shutil.copytree(judges[0] / "model", folder / "judge")
    shutil.copytree(judges[1] / "model", folder / "judge" / "styles")
    _copy_some(clip_dir / "model", base / "tokenizer", ("tokenizer.json", "tokenizer_config.json"))
    (base / "clip" / "preprocessor_config.json").write_text(
        json.dumps(PREPROCESSOR, indent=2) + "\n", encoding="utf-8"
    )
    schedule = {**unet.SCHEDULE, "set_alpha_to_one": False, "timestep_spacing": "trailing"}
    DDIMScheduler(**schedule).save_pretrained(base / "scheduler")
    index = {
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
    (base / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _copy_some(source: Path, target: Path, names: Sequence[str]) -> None:
    target.mkdir(parents=True)
    for name in names:
        shutil.copy(source / name, target / name)
