"""The chain of decisions about a model's versions: the model NAME.decisions in MLflow
(tasks/registry/log_store.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fade.errors import PromotionError
from fade.governance.promotion import PROMOTE, REVOKE, STAGE, STATES, Decision, Standing, replay
from tasks.registry.log_store import Log
from tasks.registry.tracking import Tracking

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SUFFIX = ".decisions"
AUDITS = ".audits"
REQUEST = ".request."
"""Between prefix and id in the names of the models that hold what happened to a request."""
CHAMPION, REVOKED = STATES[PROMOTE], STATES[REVOKE]
_LOG = Log(SUFFIX, Decision, "What was decided, in order; written by `fade promote` and its like.")


def is_chain(name: str) -> bool:
    """True for a model that holds a chain of decisions, audits or a request's turns, and no versions that
    anybody loads."""
    return name.endswith((SUFFIX, AUDITS)) or REQUEST in name


def standing(tracking: Tracking, name: str) -> Standing:
    """What was decided about the versions of ``name``. Raises PromotionError when the chain is broken."""
    counted, void = _LOG.read(tracking, name)
    return replay([*counted, *void])


def champions(tracking: Tracking, versions: Sequence[ModelVersion]) -> list[ModelVersion]:
    """Those of ``versions`` that are their model's champion, by the decisions, whatever an alias says. Raises
    PromotionError."""
    decided = {
        name: standing(tracking, name).champion for name in dict.fromkeys(str(one.name) for one in versions)
    }
    return [one for one in versions if decided[str(one.name)] == str(one.version)]


def append(tracking: Tracking, about: ModelVersion, decision: Decision, after: Standing) -> Decision:
    """Add a link behind ``after``'s last one. Raises PromotionError when another came first: then nothing was
    decided."""

    def lost(first: Decision, ours: Decision) -> PromotionError:
        what = f"{about.name}: {first.by} decided first: {first.action} {first.version}. Yours (decision {ours.number}) is void."
        action = f"look at `fade decisions {about.name}`, and decide again if it still holds."
        return PromotionError(what, stage=STAGE, action=action)

    return _LOG.add(tracking, about, decision, after.decisions[-1] if after.decisions else None, lost)
