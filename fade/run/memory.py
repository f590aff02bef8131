"""What a run's base needs of this machine's device: printed, or refused, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fade.models.memory import Plan
    from fade.run.context import RunContext
    from fade.training.memory import StepPlan


def memory_sentence(run: RunContext, *, attacks: bool = False) -> str:
    """One line on the memory of a run, which ends with the attacks of ``attack.names`` or without; empty for
    a small base, and for one that is not here yet or is in another layout: its plan is made when it is
    loaded.

    Raises ConfigError, with the numbers, when a picture, a training step or an attack's step does not fit,
    and when the device lacks the configured precision."""
    folder, params = Path(run.models.local(run.params.data.base)), run.params
    if not (folder / "model_index.json").is_file():
        return ""
    from fade.models import memory
    from fade.models.loading import pick_device

    if sum(file.stat().st_size for file in folder.rglob("*.safetensors")) < memory.SMALL:
        return ""
    from fade.jobs.attack_memory import footprints_of, plan_attacks
    from fade.models.footprint import Footprint, empty_model
    from fade.training.memory import StepPlan, plan_training

    device, beside = pick_device(), run.models.beside()
    memory.require_budget(params.model, device)
    empty = empty_model(folder, memory.require_dtype(params.model, device))
    if params.schedule.train_deployment:  # it trains on another machine, which makes a plan of its own
        need = Footprint.of(empty)
        return sentence(memory.plan(need, params.model, device, beside=beside), StepPlan(), run)
    # before the training's count puts an adapter into the model
    needs = footprints_of(empty, params.attack) if attacks else {}
    trained = (params.mesh, params.method, params.train, params.neighborhood.k)
    base, step = plan_training(empty, params.model, device, *trained, beside=beside)
    return sentence(base, step, run, plan_attacks(needs, base, params.attack, params.model))


def sentence(base: Plan, step: StepPlan, run: RunContext, attacks: Mapping[str, StepPlan] = {}) -> str:
    """``memory: about 10.4 of 21.6 GB (training step); sampling 8 pictures at once``, and what is done to
    make it fit. attacks: those with gradients, by name."""
    from fade.models.memory import gb

    pictures = min(run.params.sampler.batch_size, base.batches.sample)
    sampling = base.sampling(pictures)
    tried = ((plan.bytes, f"attack {name}") for name, plan in attacks.items())
    most, what = max((step.bytes, "training step"), (sampling, "sampling"), *tried)
    notes = [f"about {gb(most)} of {gb(base.budget)} GB ({what})", f"sampling {pictures} pictures at once"]
    if step.student:
        notes.append(f"training {step.student} latents at once")
    if step.checkpointing:
        notes.append("gradient checkpointing")
    for name, plan in attacks.items():
        notes += [f"attack {name} {plan.student} latents at once"] if plan.student else []
        notes += [f"attack {name} with gradient checkpointing"] if plan.checkpointing else []
    if base.text_offloaded:
        notes.append("the text encoders wait on the CPU")
    return f"memory: {notes[0]}; {', '.join(notes[1:])}"
