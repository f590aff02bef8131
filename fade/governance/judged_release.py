"""A judged release without some of its champions, as far as it can be predicted. Ours.

Of the champions R that remain, the share of each concept's pictures that is recognised is predicted from the
judged release and its costs (`fade.adapters.interaction.CostTable`: ratio_x(R) is what R moves of x, by what
all champions move of it):

    x must stay:             erased_x + lost_x (1 - ratio_x(R)),  lost_x = max(base_x - erased_x, 0)
    x is erased:             alone_x + (erased_x - alone_x) ratio_x(R),  alone_x by its champion alone
    x's champion stays out:  base_x - slope moved_x(R),  slope = points lost by percent moved, of what stays

From these shares the gate's numbers are computed as in an evaluation. What must stay must stay whoever is
left out: the demands on the neighbours, the held-out ones and the rest of a concept remain when its champion
stays out; the concept itself must then be kept as its neighbours are, and is a neighbour again of those that
it was one of. Else a release would pass because nobody looks any more at what the others harm. What a
prediction cannot know, such as the neighbours that a mining would choose anew, the next release's own
evaluation measures."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fade.adapters.interaction import CostTable
from fade.config import PromotionPolicy
from fade.governance.promotion import METRICS, Criterion, demand
from fade.governance.release_plan import numbers_of
from fade.utils.names import TOGETHER

NOISE = 1e-6
"""Points by which a prediction may fall short."""
SHOWN = 0.05
"""Points of a cost that a reason names."""
KEPT = "kept"
"""In the place of a metric: the concept itself, whose champion stays out."""
_GROUPS = {"A_adj": "neighbours", "A_heldout": "heldout", "A_rest": "rest"}
"""Metric -> the group of concepts that must stay for it."""


class Demand(NamedTuple):
    """A demand of the gate on one erased concept: ``group`` of the concepts that must stay for it."""

    concept: str
    metric: str
    group: Sequence[str]
    criterion: Criterion

    @property
    def shortfall(self) -> float:
        """Points below the threshold; infinite when it was not measured."""
        one = self.criterion
        return np.inf if one.value is None or one.threshold is None else one.threshold - one.value

    def __str__(self) -> str:
        return f"{self.concept!r}: {self.criterion}"


@dataclass(frozen=True)
class JudgedRelease:
    """A release's measured shares, percent, and what it is predicted to be without some of its champions."""

    gate: PromotionPolicy
    champions: Mapping[str, Sequence[str]]
    """Champion, by its concepts joined -> these concepts."""
    shares: Mapping[str, Sequence[float]]
    """Concept -> recognised pictures by the original, and by the release."""
    alone: Mapping[str, float | None]
    """Erased concept -> recognised pictures by its champion alone."""
    real: Mapping[str, float | None]
    """Erased concept -> its A_real, which is not predicted."""
    groups: Mapping[str, Mapping[str, Sequence[str]]]
    """Erased concept -> ``neighbours``, ``heldout``, and ``left_out``: neighbours that are erased, too."""
    rest: Sequence[str]
    cost: Mapping[str, Mapping[str, Any]]
    """`ReleaseBuilder.predict`'s."""

    @classmethod
    def of(cls, record: Mapping[str, Any], gate: PromotionPolicy) -> JudgedRelease:
        """Of a release's record, whose ``release.judged`` is there."""
        parts, judged = record["outputs"]["parts"], record["release"]["judged"]
        alone = {name: one["alone"].get("A_er") for name, one in parts.items()}
        return cls(
            gate=gate,
            champions={
                TOGETHER.join(part["concepts"]): part["concepts"] for part in record["parts"].values()
            },
            shares=judged["shares"],
            alone={name: None if value is None else 100.0 - value for name, value in alone.items()},
            real={name: one["metrics"].get("A_real") for name, one in parts.items()},
            groups=judged["groups"],
            rest=judged["rest"],
            cost=record["release"]["predicted"].get("cost", {}),
        )

    @cached_property
    def _table(self) -> CostTable:
        return CostTable(self.cost, [*self.shares], [*self.champions])

    @cached_property
    def _champion(self) -> dict[str, str]:
        """Erased concept -> its champion."""
        return {concept: name for name, concepts in self.champions.items() for concept in concepts}

    @cached_property
    def _base(self) -> dict[str, float]:
        return {name: one[0] for name, one in self.shares.items()}

    @cached_property
    def _measured(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """base, erased and alone of all concepts (n,), float64; alone is erased where it was not measured."""
        base, erased = np.array([*self.shares.values()], dtype=float).T
        some = [self.alone.get(name) for name in self.shares]
        alone = [one if own is None else own for one, own in zip(erased, some, strict=True)]
        return base, erased, np.array(alone)

    @cached_property
    def _slope(self) -> float:
        """Points that a concept which must stay loses by each percent that the release moves it."""
        base, erased, _ = self._measured
        kept, whole = ~self._table.erases.any(1), self._table.moved(self._table.champions)
        moved = float(whole[kept].sum())
        return float((base - erased)[kept].clip(min=0).sum()) / moved if moved else 0.0

    def predicted(self, out: Collection[str]) -> dict[str, float]:
        """Concept -> its share in the release without the champions ``out``."""
        stay = [name for name in self.champions if name not in out]
        (base, erased, alone), ratio = self._measured, self._table.ratio(stay)
        kept = erased + (base - erased).clip(min=0) * (1 - ratio)
        erased_now = alone + (erased - alone) * ratio.clip(0, 1)
        back = base - self._slope * self._table.moved(stay)
        champions = [self._champion.get(name) for name in self.shares]
        is_erased, is_back = (
            np.array([one in some for one in champions], dtype=bool) for some in ({*stay}, {*out})
        )
        values = np.where(is_erased, erased_now, np.where(is_back, back, kept)).clip(0, 100)
        return dict(zip(self.shares, values.tolist(), strict=True))

    def demands(self, out: Collection[str]) -> Iterator[Demand]:
        """The gate's demands on the release without the champions ``out``; those that the whole release falls
        short of come first."""
        shares = self.predicted(out)
        for concept in self._order:
            yield from self._demands_on(concept, shares, out)

    @cached_property
    def _order(self) -> list[str]:
        shares = self.predicted(())
        worst = {
            name: max(one.shortfall for one in self._demands_on(name, shares, ())) for name in self.groups
        }
        return sorted(worst, key=lambda name: (-worst[name], name))

    def _demands_on(
        self, concept: str, shares: Mapping[str, float], out: Collection[str]
    ) -> Iterator[Demand]:
        own, stays_out = self.groups[concept], self._champion[concept] in out
        back = [name for name in own["left_out"] if self._champion[name] in out]
        groups = {
            "targets": [concept],
            "neighbours": [*own["neighbours"], *back],
            "heldout": own["heldout"],
            "rest": self.rest,
        }
        numbers = numbers_of(groups, self._base, shares, self.real[concept])
        for one in METRICS:
            threshold = getattr(self.gate, one.threshold)
            kept = groups.get(_GROUPS.get(one.metric, ""), [])
            if threshold is not None and (kept or not stays_out):
                value = one.value(numbers["metrics"], numbers["base_metrics"])
                yield Demand(concept, one.metric, kept, demand(one.label, threshold, value))
        if stays_out and (base := self._base[concept]):
            value = 100 * shares[concept] / base
            yield Demand(concept, KEPT, [concept], demand("kept", self.gate.neighbours_kept, value))

    @property
    def not_erased(self) -> set[str]:
        """Champions of a concept that is erased neither in the release nor by its champion alone."""
        floor = 100.0 - self.gate.erased + NOISE
        return {
            champion
            for concept, champion in self._champion.items()
            if min(self.shares[concept][1], self._alone(concept)) > floor
        }

    def _alone(self, concept: str) -> float:
        alone = self.alone[concept]
        return self.shares[concept][1] if alone is None else alone

    def why(self, champion: str, out: Collection[str]) -> str:
        """What the release without ``out`` would fall short of with this champion of it."""
        without = {*out} - {champion}
        failing = [one for one in self.demands(without) if one.shortfall > NOISE]
        own = [one for one in failing if one.concept in self.champions[champion] and one.metric == "A_er"]
        if own:
            alone = 100.0 - self._alone(own[0].concept)
            return f"{own[0]} in the release, {alone:.1f} by its champion alone"
        if not failing:
            return "it is not needed for the others to pass"
        worst = max(failing, key=lambda one: (one.metric != "ERB", one.shortfall))
        before, after = self.predicted(without), self.predicted(out)
        if worst.metric == "A_er":
            return f"brings back {before[worst.concept] - after[worst.concept]:.1f} points ({worst})"
        group = worst.group or self.groups[worst.concept]["neighbours"]  # of ERB
        stay = [name for name in group if self._champion.get(name) != champion]
        cost = {name: after[name] - before[name] for name in stay}
        most = max(sorted(cost), key=lambda name: cost[name], default="")
        if most and cost[most] >= SHOWN:
            return f"costs {most!r} {cost[most]:.1f} points ({worst})"
        return str(worst)
