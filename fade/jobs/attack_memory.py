"""What a step of an attack with gradients needs of the device, and how it is divided to fit. Ours.

The same count as a training's (`fade.training.memory`). A step's loss is a mean over its latents, so they may
go through the denoiser in several calls, whose gradients add up: attack.batch stays what it is, and the
attack is as strong as on a larger device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from fade.config import AttackConfig, ModelConfig
from fade.errors import ConfigError
from fade.evaluation.attacks import get_attack
from fade.models.base import DiffusionModel
from fade.models.footprint import Footprint, example, weightless
from fade.models.memory import Plan, is_small, plan
from fade.training.memory import STATES, StepFootprint, StepPlan, activations_of, plan_step


def footprints_of(empty: DiffusionModel, config: AttackConfig) -> dict[str, StepFootprint]:
    """By name, of those of ``attack.names`` that take gradients: a step on a model on the meta device, which
    is left as it was. Raises UnknownNameError."""
    out = {}
    for attack in map(get_attack, config.names):
        if attack.trained is None:
            continue
        x, t, cond = example(empty)
        trained, each = attack.trained(empty, cond), []
        for recompute in (False, True):
            for one in trained:
                # made before the count: they do not grow with the latents
                one.requires_grad_(True).grad = torch.zeros_like(one)
            if recompute:
                empty.denoiser.enable_gradient_checkpointing()
            each.append(activations_of(empty, x, t, cond))
        empty.denoiser.disable_gradient_checkpointing()
        for one in trained:
            one.requires_grad_(False).grad = None
        # on the CPU the fourth state is the copy of the weights as they were
        states = STATES * sum(one.nbytes for one in trained)
        out[attack.name] = StepFootprint(config.batch, 0, states, *each)
    return out


def plan_attacks(
    needs: Mapping[str, StepFootprint], base: Plan, config: AttackConfig, model: ModelConfig
) -> dict[str, StepPlan]:
    """By name. Raises ConfigError, with the numbers, for the first that does not fit; the next action names
    those that do."""
    plans: dict[str, StepPlan] = {}
    refused: dict[str, ConfigError] = {}
    for name, need in needs.items():
        try:
            plans[name] = plan_step(need, base, model, mean_loss=True, name=f"a step of the attack {name}")
        except ConfigError as error:
            refused[name] = error
    if refused:
        first, fitting = next(iter(refused.values())), [name for name in config.names if name not in refused]
        raise ConfigError(first.what, stage="memory", action=_way_out(fitting, model))
    return plans


def _way_out(fitting: Sequence[str], model: ModelConfig) -> str:
    """A smaller attack.batch is none: one latent at a time was tried."""
    ways = [f"set attack.names=[{', '.join(fitting)}]"] if fitting else []
    ways += ["set model.dtype=bf16"] if model.dtype == "fp32" else []
    ways += ["set model.gradient_checkpointing=auto"] if model.gradient_checkpointing == "never" else []
    return ", or ".join([*ways, "use a device with more memory."])


def plans_for(base: DiffusionModel, config: AttackConfig, model: ModelConfig) -> dict[str, StepPlan]:
    """By name, on a loaded model without an adapter; of a small one nothing is estimated. Raises
    ConfigError."""
    if is_small(base):
        return {}
    empty = weightless(base)
    footprint, beside = Footprint.of(empty), base.batches.beside
    fitting = plan(footprint, model, str(base.device), beside=beside, name=base.path)
    return plan_attacks(footprints_of(empty, config), fitting, config, model)
