"""What a report is made of. Nothing here computes a metric: numbers arrive finished, from
`fade.evaluation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from fade.mining.neighborhood import Neighborhood

Pictures = npt.NDArray[np.uint8]
"""uint8 (n, H, W, 3), or (H, W, 3) for a single picture."""

ROLES = {"target": "target", "adjacent": "neighbour", "heldout": "held-out", "rest": "unrelated"}
"""Role in the evaluation's JSON -> what a reader calls it."""


def members(neighborhood: Neighborhood) -> list[tuple[str, str]]:
    """(concept, role) of the targets, then the neighbours, then the held-out ones."""
    near = neighborhood
    groups = {"target": near.targets, "adjacent": near.neighbours, "heldout": near.heldout}
    return [(name, role) for role, names in groups.items() for name in names]


@dataclass(frozen=True)
class Row:
    """One concept's pictures: ``base[i]`` and ``erased[i]`` start from the same latent. uint8 (n, H, W, 3)
    each."""

    concept: str
    role: str
    base: Pictures
    erased: Pictures


class DisputedPicture(Protocol):
    """See `fade.evaluation.second_opinion.Disputed`."""

    @property
    def concept(self) -> str:
        """Of the prompt."""

    @property
    def role(self) -> str:
        """In the evaluation's JSON."""

    @property
    def judge(self) -> str:
        """The second one."""

    @property
    def first(self) -> str:
        """What the judge takes the picture for."""

    @property
    def second(self) -> str:
        """What the second one does."""

    @property
    def pixels(self) -> Pictures:
        """(H, W, 3)."""


class SubstitutePicture(Protocol):
    """See `fade.evaluation.realism.Substitute`."""

    @property
    def concept(self) -> str:
        """The target."""

    @property
    def pixels(self) -> Pictures:
        """(H, W, 3)."""

    @property
    def label(self) -> str:
        """What the judge takes the picture for."""

    @property
    def confidence(self) -> float:
        """The probability of that."""

    @property
    def distance(self) -> float:
        """In radii, of the real picture that is nearest."""

    @property
    def nearest(self) -> Pictures:
        """That picture, (H, W, 3)."""


@dataclass(frozen=True)
class Report:
    """Everything that one report shows."""

    result: Mapping[str, Any]
    """The evaluation's JSON."""
    neighborhood: Neighborhood
    rows: Sequence[Row]
    """Target first, then neighbours, then held-out, then any others."""
    mined: Mapping[str, Pictures]
    """Concept -> one mined picture (H, W, 3), for the target, its neighbours and the held-out ones."""
    history: Sequence[Mapping[str, Any]]
    """history.json: one entry a training step."""
    checks: Sequence[Mapping[str, Any]]
    """Data checks, one mapping a stage: see `fade.reporting.html.checks_of`."""
    lineage: Mapping[str, Any]
    """`Lineage.content`."""
    seconds: Mapping[str, float]
    """Stage -> wall-clock seconds, "total" last."""
    command: str
    """The command that makes this run again."""
    disputed: Sequence[DisputedPicture] = ()
    """Pictures of the erased model on which the judge and a second one differ."""
    substitutes: Sequence[SubstitutePicture] = ()
    """Pictures that stand in the target's place."""
    registered: Mapping[str, Any] = field(default_factory=dict)
    """model_name and model_version, once they are known."""

    foreign: Mapping[str, str] = field(default_factory=dict)
    """Of an adapter or model that was not made here: what is known of it, name -> words."""

    @property
    def roles(self) -> dict[str, str]:
        """Concept -> role, of every concept that was judged."""
        return {str(entry["concept"]): str(entry["role"]) for entry in self.result["per_concept"]}

    def accuracies(self) -> dict[str, tuple[float, float]]:
        """Concept -> (base, erased) accuracy in %."""
        return {str(e["concept"]): (float(e["base"]), float(e["erased"])) for e in self.result["per_concept"]}
