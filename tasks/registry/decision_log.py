"""The log of decisions about a model's versions: the model NAME.decisions in MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fade.errors import PromotionError
from fade.governance.promotion import PROMOTE, REVOKE, STAGE, STATES, Decision, Standing
from tasks.registry.connection import Tracking
from tasks.registry.log_store import AppendLog
from tasks.registry.models import DECISIONS

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, REVOKED = STATES[PROMOTE], STATES[REVOKE]
DECISION_LOG = AppendLog(Decision, "What was decided, in order; written by `fade promote` and its like.")


def append_decision(
    tracking: Tracking, about: ModelVersion, decision: Decision, after: Standing, private_key: str = ""
) -> Decision:
    """Append a decision behind the last one of ``after``. Raises PromotionError when somebody else was
    faster: then nothing was decided."""
    # Named as a version: a server lets no one point at a logged model's folder without its id, which a
    # version does not keep.
    source = f"models:/{about.name}/{about.version}"
    last = after.decisions[-1] if after.decisions else None
    decision, counted = DECISION_LOG.append(
        tracking,
        f"{about.name}{DECISIONS}",
        decision,
        last,
        source=source,
        run_id=about.run_id,
        private_key=private_key,
    )
    if decision not in counted:
        first = next(one for one in counted if one.previous == decision.previous)
        theirs = f"{about.name}: {first.by} decided first: {first.action} {first.version}."
        what = f"{theirs} Yours (decision {decision.number}) is void."
        action = f"look at `fade decisions {about.name}`, and decide again if it still holds."
        raise PromotionError(what, stage=STAGE, action=action)
    return decision
