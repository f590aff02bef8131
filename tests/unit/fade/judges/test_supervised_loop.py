"""The loop of judges and of the embedded world: one process takes the steps that are written down here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fade.config import FitConfig
from fade.errors import TrainingError
from fade.judges import supervised_loop
from fade.judges.supervised_loop import Logs, Training, fit, one_cycle

CONFIG = FitConfig(steps=12, batch_size=8, lr=0.05, ema=0.9, checkpoint_every=5)


def linear(training: Training) -> tuple[nn.Module, Any]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        x = torch.randn(CONFIG.batch_size, 3, generator=generator)[training.share]
        return (model(x) - x.sum(1, keepdim=True)).square().mean(), {"top1": float(len(x))}

    return model, loss_at


def process(rank: int, world: int = 2) -> Any:
    """An accelerator that is alone among ``world``: every mean is its own value."""
    return SimpleNamespace(
        process_index=rank,
        num_processes=world,
        is_main_process=rank == 0,
        device=torch.device("cpu"),
        reduce=lambda value, how: value,
    )


def test_one_process_takes_the_plain_steps_to_the_bit(tmp_path: Path) -> None:
    training = Training(tmp_path, 3)
    model, loss_at = linear(training)
    found = fit(model, loss_at, CONFIG, training)

    model, loss_at = linear(training)
    parameters = list(model.parameters())
    average = [one.detach().clone() for one in parameters]
    adamw = {"weight_decay": CONFIG.weight_decay, "betas": (0.9, 0.98), "fused": True}
    optimizer = torch.optim.AdamW(parameters, lr=CONFIG.lr, **adamw)  # type: ignore[arg-type]
    for step in range(CONFIG.steps):
        optimizer.param_groups[0]["lr"] = CONFIG.lr * one_cycle(step, CONFIG.steps)
        loss, _ = loss_at(step, torch.Generator().manual_seed(supervised_loop._mix(3, step)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        decay = min(CONFIG.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(average, [one.detach() for one in parameters], 1 - decay)
    assert all(torch.equal(one, other) for one, other in zip(found.values(), average, strict=True))


def test_of_several_processes_each_computes_its_rows_and_the_first_writes(tmp_path: Path) -> None:
    rows = [list(range(8))[Training(tmp_path, 0, accelerator=process(rank)).share] for rank in (0, 1)]
    assert rows == [[0, 2, 4, 6], [1, 3, 5, 7]] and list(range(8))[Training(tmp_path, 0).share] == [*range(8)]
    shares: list[float] = []
    training = Training(tmp_path, 3, lambda *step: shares.append(step[2]["top1"]), processes=2)
    model, loss_at = linear(second := replace(training, accelerator=process(1)))
    fit(model, loss_at, CONFIG, second)
    assert shares == [4.0] * CONFIG.steps and not (tmp_path / "checkpoint.safetensors").exists()


def test_a_checkpoint_of_several_processes_is_read_by_one_and_is_no_other_training_s(tmp_path: Path) -> None:
    training = Training(tmp_path, 3, processes=2)
    model, loss_at = linear(first := replace(training, accelerator=process(0)))
    together = fit(model, loss_at, CONFIG, first)
    model, loss_at = linear(training)
    read = fit(model, loss_at, CONFIG, training)
    assert all(torch.equal(together[name], one) for name, one in read.items())
    alone = Training(tmp_path, 3)
    model, loss_at = linear(alone)
    assert not all(torch.equal(together[n], one) for n, one in fit(model, loss_at, CONFIG, alone).items())
    with pytest.raises(TrainingError, match=r"1 process\(es\) train .*, where 2 share each batch"):
        fit(*linear(training), CONFIG, training)  # the checkpoint is the other training's now


def test_a_weight_that_the_loss_does_not_reach_is_in_a_checkpoint_as_it_is(tmp_path: Path) -> None:
    """As the token of masked patches in some pretrained classifiers."""

    class Stopped(Exception):
        pass

    def stop(step: int, steps: int, logs: Logs) -> None:
        if step == 7:
            raise Stopped

    def trained(folder: str, on_step: Any = lambda *_: None) -> dict[str, Tensor]:
        training = Training(tmp_path / folder, 3, on_step)
        model, loss_at = linear(training)
        model.register_parameter("mask", nn.Parameter(torch.full((2,), 5.0)))
        return fit(model, loss_at, CONFIG, training)

    whole = trained("whole")
    with pytest.raises(Stopped):
        trained("stopped", stop)
    steps: list[int] = []
    again = trained("stopped", lambda step, *_: steps.append(step))
    assert steps[0] == 6 and whole["mask"].tolist() == [5, 5]  # from the checkpoint of step 5
    assert all(torch.equal(whole[name], one) for name, one in again.items())


def test_a_checkpoint_that_is_cut_off_is_named(tmp_path: Path) -> None:
    training = Training(tmp_path, 3)
    fit(*linear(training), CONFIG, training)
    file = tmp_path / "checkpoint.safetensors"
    for body in (file.read_bytes()[:-8], b""):
        file.write_bytes(body)
        with pytest.raises(TrainingError, match=r"checkpoint\.safetensors cannot be read") as caught:
            fit(*linear(training), CONFIG, training)
        assert "delete it" in caught.value.action


def test_gradients_and_numbers_are_the_means_over_the_processes(tmp_path: Path) -> None:
    accelerator = process(0)
    accelerator.reduce = lambda value, how: (value + torch.full_like(value, 3.0)) / 2
    training = Training(tmp_path, 0, accelerator=accelerator)
    first, second, frozen = (nn.Parameter(torch.zeros(shape)) for shape in ((2, 2), (3,), (1,)))
    first.grad, second.grad = torch.ones(2, 2), torch.full((3,), 5.0)
    training.average_gradients([first, second, frozen])
    assert first.grad.tolist() == [[2, 2], [2, 2]] and second.grad.tolist() == [4, 4, 4]
    assert frozen.grad is None and training.mean({"loss": 1.0, "top1": 0.0}) == {"loss": 2.0, "top1": 1.5}
