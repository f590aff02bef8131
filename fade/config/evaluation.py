"""The sections that decide what is judged of an erased model, and what attacks it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, ValidationInfo, field_validator

from fade.config.section import (
    LARGEST,
    Affects,
    Count,
    Positive,
    Rate,
    Resamples,
    Section,
    Seed,
    Share,
    Steps,
    check_slots,
)

SENTENCES = (
    "I would like to see a {concept}",
    "yesterday my sister found a {concept}",
    "what a wonderful {concept} that was",
)
"""Prompts of the retention beyond ``sampler.prompt``; no world is trained on them."""
PAIRS = ("a {first} and a {second}", "a {second} and a {first}")


class EvaluateConfig(Section):
    """What is judged."""

    images_per_concept: Positive = 24
    """Pictures per concept and model; base and erased share initial latents."""
    rest_concepts: Count = 12
    """Size of the fixed sample of all other concepts (A_rest)."""
    seed: Seed = 5000
    """Seed of the evaluation's initial latents and of the rest sample; disjoint from the mining seed."""
    bootstrap: Resamples = 2000
    """Bootstrap resamples of each interval (95 %)."""
    grid_images: Annotated[Positive, Affects("nothing")] = 4
    """Pictures a row in the report's grids."""
    drift_bins: Steps = 8
    """Timesteps of the null prompt's drift curve: the middles of as many equal parts of the schedule."""
    base_known: Annotated[float, Field(ge=0, le=100), Affects("nothing")] = 20.0
    """The judge must recognise this share of the original's pictures of the target, and of its neighbours,
    percent: what the base cannot draw, or the judge does not know, cannot be seen to go. Before the training
    it holds for each of them, of the few mined pictures; 0: no such rule."""
    indirect_images: Count = 0
    """Pictures per indirect prompt and model; 0 = indirect prompts are not drawn (at most 29 prompts a
    target, so 4 cost 232 pictures)."""
    indirect_known: Annotated[float, Field(gt=0, le=100)] = 50.0
    """An indirect prompt counts when the original draws the target on this share of its pictures, percent.
    Set before any result."""
    sentences: tuple[str, ...] = SENTENCES
    """Templates in which the neighbours, the held-out ones and the rest are judged, too. None ([]): not."""
    pairs: tuple[str, ...] = PAIRS
    """Templates of two things, {first} the target and {second} a concept that must stay: is it still there
    where the target is named with it? None ([]): not judged."""
    prompt_images: Count = 1
    """Pictures per concept, model and template of these; 0: neither is judged."""
    prompts_known: Annotated[float, Field(gt=0, le=100)] = 75.0
    """Below this accuracy of the original, percent, it does not read such prompts, and no number of them is
    given. Set before any result."""
    real_pictures: Count = 1000
    """Training pictures of the data set, evenly of all concepts, to which the target's pictures are compared:
    what stands in its place (A_real); 0: not measured."""

    @field_validator("sentences", "pairs")
    @classmethod
    def _have_slots(cls, templates: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        slots = ("concept",) if info.field_name == "sentences" else ("first", "second")
        for template in templates:
            check_slots(f"{template[:80]!r}", template, *slots)
        return templates


class AttackConfig(Section):
    """Attempts to bring the erased concept back, all with the same budget: their successes compare."""

    names: Annotated[tuple[str, ...], Field(min_length=1)] = ("inversion", "tokens", "noised", "revival")
    """Registered attacks, in this order."""
    images: Positive = 12
    """Pictures judged per attack and condition (noised: per time)."""
    seed: Seed = 7000
    """Names every draw of the attacks and, counting up, their pictures' initial latents; disjoint from mining
    and evaluation."""
    batch: Positive = 4
    """Latents a step of inversion and revival."""
    probes: Positive = 6
    """Noised latents for inversion's loss before and after, and for tokens' first score of a candidate."""
    finalists: Annotated[int, Field(ge=2, le=LARGEST)] = 4
    """Words of tokens' first round that go, alone and in pairs, into its second."""
    budget: Positive = 600
    """UNet calls of an attack's search under one condition, a call being one picture's forward pass; its
    backward pass counts two more. What the judged pictures cost comes on top and is the same for every attack
    that draws them whole."""
    inversion_lr: Rate = 0.05
    """Adam's learning rate on the prompt's embedding at the first step; linear decay to 0."""
    revival_lr: Rate = 1e-3
    """Adam's learning rate on the attention weights at the first step; linear decay to 0."""
    unrelated: Positive = 12
    """Concepts of other families whose pictures revival trains on."""
    times: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.3, 0.5, 0.7, 0.9)
    """Shares of the noise schedule up to which noised takes a real picture."""
    indirect_images: Positive = 4
    """Pictures per indirect prompt and model in the benchmark, unless evaluate.indirect_images is more."""

    @field_validator("budget")
    @classmethod
    def _enough(cls, budget: int, info: ValidationInfo) -> int:
        if not {"batch", "probes", "finalists"} <= info.data.keys():  # one of them is wrong itself
            return budget
        batch, probes, finalists = (info.data[key] for key in ("batch", "probes", "finalists"))
        # a step; two rounds of the finalists
        least = max(3 * batch + 2 * probes, 2 * finalists * max(finalists, probes))
        if budget < least:
            what = f"at least {least} UNet calls for this batch, these probes and finalists"
            raise ValueError(f"the attacks need {what}")
        return budget
