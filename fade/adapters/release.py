"""A release built from its champions: one adapter, a function of them, the settings, the base and the names
of what must stay, and of nothing else.

What is left out leaves no trace: a release without a champion is byte for byte the release of the others. The
order in which champions come does not count. Layers that read the text (role ``text``) are solved; layers
that read the picture are added up, because their inputs depend on the time, the picture and every layer
before them, so no states of prompts stand for them (`ReleaseBuilder.predict` says how much of a champion that
is)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from fade.adapters import interaction
from fade.adapters.compose import stacked, sum_rank, write_sum
from fade.adapters.interaction import Costs, significant
from fade.adapters.kept import ERASED, KeptConcepts, kept_prompts, target_prompts
from fade.adapters.lora import LoraAdapter
from fade.adapters.moments import PromptMoments, TensorStore, prompt_moment, text_states
from fade.adapters.parts import DOWN, UP, Part, in_order, provenance, read_parts, targets_of
from fade.adapters.solve import Change, compressed, solve, total
from fade.config import MeshConfig, ReleaseConfig
from fade.config.release import NO_BYTES
from fade.data.vocabulary import fill
from fade.models.base import DiffusionModel
from fade.utils.hashing import canonical

SOLVE = "solve"
HEADER = "release"
"""Entry of a solved release's header: how it was built."""


@dataclass(frozen=True)
class ReleaseSettings:
    """What decides a release beside its champions and the base."""

    config: ReleaseConfig
    kept: KeptConcepts
    prompt: str
    """Template with the slot {concept}, sampler.prompt."""
    negative_prompt: str = ""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Of a release's record. Raises ValueError, KeyError."""
        config = ReleaseConfig.model_validate(content["config"])
        prompts = {key: str(content[key]) for key in ("prompt", "negative_prompt")}
        return cls(config, KeptConcepts.from_json(content["kept"]), **prompts)

    @property
    def prompts(self) -> dict[str, str]:
        """The two prompts by name."""
        return {"prompt": self.prompt, "negative_prompt": self.negative_prompt}

    def to_json(self) -> dict[str, Any]:
        """As a release's record has it: enough to build the release again."""
        return {"config": self.config.model_dump(mode="json"), "kept": self.kept.to_json(), **self.prompts}

    def header(self) -> str:
        """As a solved release's header has it."""
        own = self.config.model_dump(mode="json", exclude={*NO_BYTES})
        return canonical({**own, **self.prompts, "kept_sha256": self.kept.sha256()})


class ReleaseBuilder:
    """The champions in their order, what the base's text encoders make of their prompts, and the release."""

    def __init__(
        self,
        model: DiffusionModel,
        paths: Sequence[Path],
        settings: ReleaseSettings,
        store: TensorStore | None = None,
    ) -> None:
        """store: where moments stay for the next build. Raises AdapterError as `read_parts`."""
        self.model, self.settings, self.store = model, settings, store
        self.parts: list[Part] = in_order(read_parts(model, paths))

    @property
    def erased(self) -> list[str]:
        """The erased concepts, one by one."""
        return [name for part in self.parts for name in part.concepts]

    @cached_property
    def neighbours(self) -> set[str]:
        """The concepts that the champions' trainings kept."""
        return {name for part in self.parts for name in part.neighbours}

    @cached_property
    def layers(self) -> dict[str, Tensor]:
        """The layers that read the text and that a champion changes: name in the file -> weight (out, D)."""
        modules = dict(self.model.denoiser.named_modules())
        names = {f"{self.model.DENOISER}.{name}": name for name in self.model.layers(("text",))}
        changed = {file: own for file, own in names.items() if any(part.has(file) for part in self.parts)}
        return {file: modules[own].weight.detach() for file, own in changed.items()}

    @cached_property
    def moments(self) -> PromptMoments:
        """Of each champion's target."""
        config, prompt = self.settings.config, self.settings.prompt
        prompts = [target_prompts(part.concepts, prompt, config) for part in self.parts]
        return PromptMoments(self.model, prompts, self.store)

    @cached_property
    def kept_sides(self) -> dict[str, list[str]]:
        """Side of what must stay -> its prompts."""
        own = self.settings
        tokenizer = self.model.tokenizer
        return kept_prompts(own.kept, self.erased, self.neighbours, tokenizer, own.config, **own.prompts)

    @cached_property
    def changes(self) -> list[dict[str, Change]]:
        """Each champion's own change of the layers that read the text."""
        return [{name: part.change(name) for name in self.layers if part.has(name)} for part in self.parts]

    @cached_property
    def shares(self) -> list[dict[str, Change]]:
        """Each champion's share of the release in these layers."""
        config = self.settings.config
        if config.mode != SOLVE or not self.layers:
            return self.changes
        sides = self.kept_sides.values()
        kept = torch.stack([prompt_moment(self.model, side, self.store) for side in sides]).mean(0)
        return solve(self.changes, self.moments, kept, keep=config.keep_weight, ridge=config.ridge)

    @cached_property
    def whole(self) -> dict[str, Change]:
        """The sum of the shares in these layers, whatever its rank."""
        return {name: total(self.shares, name) for name in self.layers}

    @cached_property
    def release(self) -> dict[str, Change]:
        """The release's change of these layers; a solved one as it is stored, in float32."""
        config = self.settings.config
        if config.mode != SOLVE:
            return self.whole
        small = {
            name: compressed(change, tolerance=config.tolerance, rank=config.rank)[0]
            for name, change in self.whole.items()
        }
        return {name: (up.float().double(), down.float().double()) for name, (up, down) in small.items()}

    @property
    def rank(self) -> int:
        """Of the release's adapter."""
        if self.settings.config.mode != SOLVE:
            return sum_rank(self.parts)
        solved = max((down.shape[0] for _, down in self.release.values()), default=1)
        return max(solved, sum_rank(self.parts)) if self.pictures else solved

    @cached_property
    def pictures(self) -> list[str]:
        """The layers that a champion changes and that read the picture."""
        ends = {name.removesuffix(DOWN) for part in self.parts for name in part.state if name.endswith(DOWN)}
        return sorted(ends - self.layers.keys())

    def write(self, out: Path) -> str:
        """Write the release to ``out``; returns its sha256. The model is left as it was. Raises AdapterError
        (`write_sum`), StorageError."""
        if self.settings.config.mode != SOLVE:
            return write_sum(self.model, self.parts, out)
        mesh = MeshConfig(rank=self.rank, alpha=float(self.rank), targets=targets_of(self.parts))
        release = self.release
        lora = LoraAdapter.insert(self.model, mesh, seed=0)
        try:
            lora.load_state_dict(self._state(lora.state_dict(), release))
            lora.check_effect("the release")
            facts = {**provenance(self.model, self.parts), HEADER: self.settings.header()}
            return lora.save(out, facts)
        finally:
            lora.remove()

    def _state(self, shapes: Mapping[str, Tensor], release: Mapping[str, Change]) -> dict[str, Tensor]:
        out = {name: torch.zeros_like(value) for name, value in shapes.items()}
        if self.pictures:
            out = stacked(shapes, self.parts)
        for name, (up, down) in release.items():
            wide, narrow = out[f"{name}{UP}"].zero_(), out[f"{name}{DOWN}"].zero_()
            wide[:, : up.shape[1]], narrow[: len(down)] = up.float(), down.float()
        return out

    def predict(self) -> dict[str, Any]:
        """The interaction table (see `fade.adapters.interaction`), as JSON: ``mode``, ``rank``, ``layers``
        (how many are predicted) and ``added_layers`` (how many are added up and are not); ``erased``:
        champion -> the numbers of `interaction.residuals`, and ``outside`` (percent of its change that is
        in the added layers); ``cost``: concept -> ``group``, ``total``, ``of`` champions, percent;
        ``groups``; ``no_neighbour``: erased concepts of whose neighbours nothing stays; ``breaks``: the
        sentence that names the concept that breaks first, or empty."""
        config, names = self.settings.config, [part.concept for part in self.parts]
        head = {"mode": config.mode, "rank": self.rank, "layers": len(self.layers)}
        near = {part.concept: part.neighbours for part in self.parts}
        out: dict[str, Any] = {
            **head,
            "added_layers": len(self.pictures),
            "no_neighbour": interaction.without_neighbours(near, self.erased),
            ERASED: {},
            "cost": {},
            "groups": {},
        }
        if self.layers:
            found = interaction.residuals(self.release, self.whole, self.shares, self.changes, self.moments)
            for part, numbers in zip(self.parts, found, strict=True):
                out[ERASED][part.concept] = {**numbers, "outside": self._outside(part)}
            out["cost"] = self._costs(dict(zip(names, self.shares, strict=True)))
            out["groups"] = interaction.by_group(out)
        return {**out, "breaks": interaction.breaks_first(out, config.residual)}

    def _costs(self, shares: Mapping[str, Mapping[str, Change]]) -> dict[str, Any]:
        kept = self.settings.kept
        costs = Costs.of(self.release, shares, self.layers)
        out = {}
        for name in [*self.erased, *kept.used, *kept.measured]:
            (states,) = text_states(self.model, [fill(self.settings.prompt, name)])
            out[name] = {"group": kept.group(name), **costs.of_states(states)}
        return out

    def _outside(self, part: Part) -> float:
        """Percent of the squared size of a part's change that is in layers which read the picture."""
        sizes: dict[bool, float] = {True: 0.0, False: 0.0}
        for name in (end.removesuffix(DOWN) for end in part.state if end.endswith(DOWN)):
            up, down = part.change(name)
            sizes[name in self.layers] += float(((up.T @ up) * (down @ down.T)).sum())
        whole = sum(sizes.values())
        return significant(100 * sizes[False] / whole) if whole else 0.0


@dataclass(frozen=True)
class BuiltRelease:
    """A release's adapter and what was predicted of it."""

    sha256: str
    predicted: Mapping[str, Any] = field(default_factory=dict, repr=False)


def build_release(
    model: DiffusionModel,
    paths: Sequence[Path],
    out: Path,
    settings: ReleaseSettings,
    store: TensorStore | None = None,
) -> BuiltRelease:
    """Write the release of the adapters to ``out``, whoever comes first. Raises AdapterError as `read_parts`,
    StorageError."""
    builder = ReleaseBuilder(model, paths, settings, store)
    return BuiltRelease(builder.write(out), builder.predict())


def predict_release(
    model: DiffusionModel,
    paths: Sequence[Path],
    settings: ReleaseSettings,
    store: TensorStore | None = None,
) -> dict[str, Any]:
    """`ReleaseBuilder.predict` without writing a release; raises as `build_release`."""
    return ReleaseBuilder(model, paths, settings, store).predict()
