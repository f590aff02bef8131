"""What a release is predicted to do, from the adapters and the text encoders alone: no picture is made.

Of each champion the share of its change that is missing on its own target or is other champions',

    residual_c = ||(D - D_c) X_c|| / ||D_c X_c||,

and of each concept x how far each champion's share of the release moves what the layers put out,

    cost_cx = ||D'_c X_x|| / ||W X_x||,    D = sum_c D'_c,

over all layers that read the text, percent. Both are of linear layers. What the denoiser makes of them is
measured, not predicted; so are the layers that read the picture, which are added up. `CostTable` predicts the
same of a release of some of the champions, from the recorded numbers alone. Ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fade.adapters.kept import ERASED
from fade.adapters.solve import Change, Changes
from fade.utils.names import TOGETHER

DIGITS = 5
"""Significant digits of a recorded number."""
NAMED = 3
"""Concepts that a sentence names."""


def response_rows(change: Change) -> Tensor:
    """Rows (r, D) whose product with a state is as long as the change's: |rows x| = |up down x|."""
    up, down = change
    rows: Tensor = torch.linalg.qr(up).R @ down
    return rows


def all_rows(changes: Changes) -> Tensor:
    """`response_rows` of all layers (n, D)."""
    return torch.cat([response_rows(change) for change in changes.values()])


def length(rows: Tensor, moment: Tensor) -> float:
    """Root of the mean of |rows x|^2 over the states x of a second moment (D, D)."""
    return float((rows @ moment).mul(rows).sum().clamp_min(0).sqrt())


def difference(a: Changes, b: Changes) -> dict[str, Change]:
    """a - b, layer by layer; a layer that one lacks is zero there."""
    out: dict[str, Change] = {}
    for layer in dict.fromkeys([*a, *b]):
        factors = [(sign * one[layer][0], one[layer][1]) for one, sign in ((a, 1), (b, -1)) if layer in one]
        ups, downs = zip(*factors, strict=True)
        out[layer] = torch.cat(ups, 1), torch.cat(downs)
    return out


def residuals(
    release: Changes,
    whole: Changes,
    shares: Sequence[Changes],
    changes: Sequence[Changes],
    moments: Sequence[Tensor],
) -> list[dict[str, float]]:
    """Of each champion, in shares of its own change on its target: ``residual``, of the release as it is
    stored; ``without_rank``, of the ``whole`` one, whatever its rank; ``missing``, of its own share; and
    ``foreign``, the shares of the others. moments: (D, D) of each one's target, read one at a time."""
    out = []
    for i, (share, change) in enumerate(zip(shares, changes, strict=True)):
        moment = moments[i]
        own = length(all_rows(change), moment) if change else 0.0
        differences = {
            "residual": difference(release, change),
            "without_rank": difference(whole, change),
            "missing": difference(share, change),
            "foreign": difference(whole, share),
        }
        out.append(
            {
                name: significant(length(all_rows(one), moment) / own) if own else 0.0
                for name, one in differences.items()
            }
        )
    return out


@dataclass(frozen=True)
class Costs:
    """The rows of a release, made once, for any number of concepts."""

    release: Tensor
    """`all_rows` of the whole release (n, D)."""
    shares: Mapping[str, Tensor]
    """Champion -> `all_rows` of its share."""
    original: Tensor
    """Sum of W^T W over the layers (D, D)."""

    @classmethod
    def of(cls, release: Changes, shares: Mapping[str, Changes], weights: Mapping[str, Tensor]) -> Costs:
        """weights: the original's (out, D) of every layer."""
        first, *others = (weight.detach().cpu().double() for weight in weights.values())
        original = first.T @ first
        for weight in others:
            original += weight.T @ weight
        rows = {name: all_rows(share) for name, share in shares.items() if share}
        return cls(all_rows(release), rows, original)

    def of_states(self, states: Tensor) -> dict[str, Any]:
        """``total`` and ``of`` (champion -> its share), percent, of token states (T, D), float64."""
        moment = states.T @ states / len(states)
        whole = float((self.original * moment).sum().clamp_min(0).sqrt())

        def share(rows: Tensor) -> float:
            return significant(100 * length(rows, moment) / whole if whole else 0.0)

        return {
            "total": share(self.release),
            "of": {name: share(rows) for name, rows in self.shares.items()},
        }


class CostTable:
    """The recorded costs of a release's champions, for a release of some of them, R:

        total_x(R)^2 = (1 - rho_x) sum_R cost_cx^2 + rho_x (sum_R cost_cx)^2

    with the rho_x that gives the recorded total of all. Exact for one champion and for two; of more it takes
    every two shares of a concept to be equally aligned. Shares count as unchanged when a champion is left
    out: in a sum they are, in a solved release the others make use of its room."""

    def __init__(
        self, cost: Mapping[str, Mapping[str, Any]], concepts: Sequence[str], champions: Sequence[str]
    ) -> None:
        """cost: of a prediction (`ReleaseBuilder.predict`); concepts: the rows, zero where the prediction has
        none."""
        self.concepts, self.champions = [*concepts], [*champions]
        rows = [cost.get(name, {"total": 0.0, "of": {}}) for name in concepts]
        self._costs = np.array([[row["of"].get(one, 0.0) for one in champions] for row in rows], dtype=float)
        self._costs = self._costs.reshape(len(rows), len(self.champions))
        erases = [[name in one.split(TOGETHER) for one in champions] for name in concepts]
        self.erases = np.array(erases, dtype=bool).reshape(self._costs.shape)  # (concepts, champions)
        squares, sums = (self._costs**2).sum(1), self._costs.sum(1)
        totals, mixed = np.array([row["total"] for row in rows]), sums**2 - squares
        cosines = np.where(mixed > 0, (totals**2 - squares) / np.where(mixed > 0, mixed, 1.0), 0.0)
        self._aligned = cosines.clip(-1, 1)  # the recorded digits are few
        self._whole = self.moved(champions)

    def moved(self, stay: Collection[str]) -> np.ndarray:
        """(concepts,) float64, percent: how far the champions ``stay`` together move each concept, without
        the one that erases it."""
        chosen = np.array([name in stay for name in self.champions], dtype=bool) & ~self.erases
        squares, sums = (self._costs**2 * chosen).sum(1), (self._costs * chosen).sum(1)
        total = (1 - self._aligned) * squares + self._aligned * sums**2
        return np.asarray(np.sqrt(total.clip(min=0)))

    def ratio(self, stay: Collection[str]) -> np.ndarray:
        """(concepts,) float64: `moved` by ``stay``, by the same of all champions; 1 where nothing is
        predicted."""
        moves = self._whole > 0
        return np.asarray(np.where(moves, self.moved(stay) / np.where(moves, self._whole, 1.0), 1.0))


def significant(value: float) -> float:
    """The number to DIGITS digits."""
    return float(f"{value:.{DIGITS}g}")


def breaks_first(predicted: Mapping[str, Any], most: float) -> str:
    """The sentence that names the erased concept whose change a release holds worst, and why; empty while
    every residual is at most ``most``."""
    found = {name: one for name, one in predicted.get(ERASED, {}).items() if one["residual"] > most}
    if not found:
        return ""
    first, *others = sorted(found, key=lambda name: (-found[name]["residual"], name))
    one = found[first]
    text = f"{first!r} breaks first: {100 * one['residual']:.0f} % of its champion's change is missing or is "
    text += f"of other champions (at most {100 * most:.0f} %), "
    if one["without_rank"] <= most:
        text += f"because the rank {predicted['rank']} is too low for {len(predicted[ERASED])} champions"
    else:
        foreign = one["foreign"] > most or one["foreign"] >= one["missing"]
        against = disturbers(predicted, first) if foreign else []
        text += "because there is no room beside " + (" and ".join(map(repr, against)) or "what must stay")
    more = f"; so do {', '.join(map(repr, others[:NAMED]))}" if others else ""
    return f"{text}{more}{f' and {len(others) - NAMED} more' if len(others) > NAMED else ''}."


def disturbers(predicted: Mapping[str, Any], concept: str) -> list[str]:
    """The champions that move an erased concept's states most, beside its own; none that does so by less than
    a tenth of the most."""
    names = {*concept.split(TOGETHER)}
    costs: dict[str, float] = {}
    for name in names & predicted["cost"].keys():
        for champion, cost in predicted["cost"][name]["of"].items():
            if champion != concept:
                costs[champion] = max(cost, costs.get(champion, 0.0))
    most = max(costs.values(), default=0.0)
    return sorted((name for name in costs if costs[name] > most / 10), key=lambda n: -costs[n])[:2]


def without_neighbours(neighbours: Mapping[str, Sequence[str]], erased: Sequence[str]) -> list[str]:
    """The erased concepts of whose neighbours nothing stays: all of them are erased, too."""
    return [name for name, near in neighbours.items() if near and {*near} <= {*erased}]


def by_group(predicted: Mapping[str, Any]) -> dict[str, dict[str, float | int]]:
    """Group of concepts -> how many, and the mean and the largest total cost, percent."""
    out: dict[str, dict[str, float | int]] = {}
    groups: dict[str, list[float]] = {}
    for cost in predicted["cost"].values():
        groups.setdefault(cost["group"], []).append(cost["total"])
    for group, totals in groups.items():
        mean = significant(sum(totals) / len(totals))
        out[group] = {"concepts": len(totals), "mean": mean, "largest": max(totals)}
    return out
