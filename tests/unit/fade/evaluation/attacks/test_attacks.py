"""What all attacks promise: the budget, the seed, the model left as it was; and what each does by itself."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fade.adapters.lora import LoraAdapter
from fade.errors import AdapterError, BaseModelError, UnknownNameError, UsageError
from fade.evaluation.attacks import AttackContext, get_attack, known_attacks, register
from fade.evaluation.attacks.denoising import CallBudget
from fade.evaluation.attacks.prompt_search import allowed
from fade.evaluation.attacks.relearning import attention, temporarily_trainable
from fade.models.sampling import sample
from tests.unit.fade.evaluation.attacks.conftest import Oracle

NAMES = ("inversion", "noised", "revival", "tokens")
# Counted by hand, budget 40: three whole pictures cost 3 x 4 steps x 2 (guidance) = 24.
CALLS = {
    "inversion": 2 * 2
    + 6 * 2 * 3
    + 24,  # two probes before and after; (40 - 4) // 6 = 6 steps of 2 latents, forward and backward
    "tokens": 10 * 2 + 4 * 5 + 24,  # 10 words on 2 probes; 2 finalists and 2 pairs on 5 latents
    "noised": 3 * 2 * (1 + 3),  # 3 pictures, guided, one step from 0.3 and three from 0.9
    "revival": 6 * 2 * 3 + 24,  # 40 // 6 = 6 steps
}


def frozen(unet: Any) -> dict[str, tuple[bytes, bool]]:
    return {name: (p.detach().numpy().tobytes(), p.requires_grad) for name, p in unet.named_parameters()}


def with_seed(subject: AttackContext, seed: int) -> AttackContext:
    return replace(subject, config=subject.config.model_copy(update={"seed": seed}))


def test_the_four_are_found_and_say_where_they_come_from() -> None:
    assert known_attacks() == sorted(NAMES) and all(get_attack(name).source for name in NAMES)
    with pytest.raises(UnknownNameError, match="'inversoin'") as caught:
        get_attack("inversoin")
    assert "'inversion'" in str(caught.value) and caught.value.exit_code == 2
    attack = get_attack("noised")
    assert register(attack) is attack
    with pytest.raises(UsageError, match="twice"):
        register(dataclasses.replace(attack, source="elsewhere"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("merged", [False, True])
def test_the_calls_are_those_counted_by_hand_and_the_model_is_as_it_was(
    subject: AttackContext, lora: LoraAdapter, name: str, merged: bool
) -> None:
    if merged:
        lora.merge()
    before = frozen(subject.base.denoiser)
    with CallBudget(subject.base) as meter:
        found = get_attack(name).run(subject)
    assert meter.calls == CALLS[name]
    assert len(found.hits) == (6 if name == "noised" else 3)
    assert frozen(subject.base.denoiser) == before
    assert all(p.grad is None for p in subject.base.denoiser.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides(subject: AttackContext, name: str) -> None:
    run = get_attack(name).run
    one, two = run(subject), run(subject)
    assert np.array_equal(one.hits, two.hits) and one.facts == two.facts
    others = [run(with_seed(subject, seed)) for seed in (71, 72)]
    assert any(one.facts != other.facts or not np.array_equal(one.hits, other.hits) for other in others)


def test_inversion_lowers_its_loss(subject: AttackContext) -> None:
    config = subject.config.model_copy(update={"budget": 400, "probes": 20, "images": 1, "inversion_lr": 0.1})
    facts = get_attack("inversion").run(replace(subject, config=config)).facts
    assert facts["steps"] == (400 - 40) // 6 and facts["loss_after"] < facts["loss_before"]


def test_inversion_and_tokens_look_at_the_concepts_own_pictures(subject: AttackContext) -> None:
    other = replace(subject, concept=subject.material.control)
    for name, fact in (("inversion", "loss_before"), ("tokens", "loss")):
        run = get_attack(name).run
        assert run(subject).facts[fact] != run(other).facts[fact]


@pytest.mark.parametrize(
    ("banned", "kept"),
    [
        ("panda", ["red apple", "apple", "big red", "green apple", "crimson apples"]),
        (
            "red apple",
            ["panda", "Pandas", "apple", "big red", "green apple", "crimson apples", "a panda cub"],
        ),
    ],
)
def test_a_prompt_with_the_targets_name_is_refused(banned: str, kept: list[str]) -> None:
    texts = [
        "panda",
        "Pandas",
        "red apple",
        "apple",
        "apple big red",
        "big red",
        "green apple",
        "crimson apples",
        "a panda cub",
    ]
    found = allowed(texts, [banned])
    assert set(found) == set(kept) | ({"apple big red"} if banned == "panda" else set())


def test_token_search_never_says_the_name_not_even_for_the_control(subject: AttackContext) -> None:
    said = {
        get_attack("tokens").run(replace(with_seed(subject, seed), concept="panda")).facts["prompt"]
        for seed in range(5)
    }
    control = subject.material.control
    floor = {
        get_attack("tokens").run(replace(with_seed(subject, seed), concept=control)).facts["prompt"]
        for seed in range(5)
    }
    assert (
        len(said) > 1
        and not any("panda" in prompt for prompt in said | floor)
        and not any(control in prompt for prompt in floor)
    )


def test_at_no_noise_the_picture_is_kept_and_judged_as_it_is(subject: AttackContext) -> None:
    config = subject.config.model_copy(update={"times": (0.01,)})
    with CallBudget(subject.base) as meter:
        found = get_attack("noised").run(replace(subject, config=config))
    wanted = subject.hits(subject.pictures[[0, 1, 0]])  # two real pictures for three seeds
    assert meter.calls == 0 and np.array_equal(found.hits, wanted)
    assert found.facts == {"per_time": {"0.01": 100.0 * wanted.mean()}}


def test_relearning_trains_the_attention_and_gives_it_back_also_after_a_fault(
    subject: AttackContext, lora: LoraAdapter
) -> None:
    unet = subject.base.denoiser
    weights, names = attention(unet), [name for name, _ in unet.named_parameters()]
    assert (
        len(weights)
        == sum(".attn" in name for name in names) - sum(".attn" in name and "lora_" in name for name in names)
        > 0
    )
    before = frozen(unet)

    def interrupted() -> None:
        with temporarily_trainable(weights), torch.no_grad():
            assert all(weight.requires_grad for weight in weights)
            weights[0].add_(1.0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert frozen(unet) == before


def test_relearning_changes_the_pictures(subject: AttackContext) -> None:
    """Else the attack would be the plain prompt."""
    seen: list[torch.Tensor] = []
    decode = subject.base.decode
    subject.base.decode = lambda latents: (seen.append(latents), decode(latents))[1]  # type: ignore[method-assign,assignment]
    get_attack("revival").run(subject)
    plain = sample(subject.base, ["a panda"] * 3, subject.seeds, subject.sampler)
    assert not torch.equal(seen[0], plain)


def test_embeddings_first_used_for_sampling_still_carry_gradients(subject: AttackContext) -> None:
    """Sampling encodes its prompts in inference mode, and the base keeps them; the attacks come after it."""
    fresh = {name: get_attack(name).run(subject).facts for name in ("inversion", "revival")}
    subject.base._encoded.clear()
    sample(subject.base, [f"a {name}" for name in subject.material.names], [0] * 4, subject.sampler)
    assert {name: get_attack(name).run(subject).facts for name in fresh} == fresh


@pytest.mark.parametrize("name", ["inversion", "revival"])
@pytest.mark.parametrize(("at_once", "checkpointing"), [(1, False), (2, True)])
def test_a_divided_step_is_the_same_step(
    subject: AttackContext, name: str, at_once: int, checkpointing: bool
) -> None:
    config = subject.config.model_copy(update={"batch": 3, "budget": 40})
    subject = replace(subject, config=config)
    whole = get_attack(name).run(subject).facts
    with CallBudget(subject.base) as meter:
        divided = replace(subject, at_once=at_once, checkpointing=checkpointing)
        facts = get_attack(name).run(divided).facts
    for key in {*facts} - {"trained_on"}:
        assert facts[key] == pytest.approx(whole[key], rel=1e-4), key
    steps = 4  # 40 // 9, and of inversion (40 - 4) // 9
    assert meter.calls == (4 if name == "inversion" else 0) + steps * 3 * 3 + 24
    assert not subject.base.denoiser.is_gradient_checkpointing


class Blind(Oracle):
    """A judge that calls every picture rose."""

    def __call__(self, pixels: np.ndarray) -> torch.Tensor:
        return torch.eye(2)[[1] * len(pixels)]


def test_a_blank_picture_is_no_resistance(subject: AttackContext, monkeypatch: pytest.MonkeyPatch) -> None:
    latents = torch.randn(3, *subject.base.latent_shape, generator=torch.Generator().manual_seed(0))
    pixels = subject.base.decode(latents)
    pixels[0] = 0
    monkeypatch.setattr(subject.base, "decode", lambda _: pixels)
    subject = replace(subject, judge=Blind())  # type: ignore[arg-type]
    erased = replace(subject, adapter="e" * 64)
    assert subject.hits(latents).tolist() == [False, False, False]
    assert erased.hits(latents).tolist() == [True, False, False]
    pixels[1] = 0
    for context, error in ((subject, BaseModelError), (erased, AdapterError)):
        with pytest.raises(error, match="attack: .* are broken: 2 of 3 have one colour"):
            context.hits(latents)
