"""The chain of decisions in MLflow: every decision is a version of the model NAME.decisions.

MLflow counts versions up and gives no number twice, whoever asks at once, on SQLite, PostgreSQL and through a server alike; that is all
that the chain needs (fade/promotion.py). A tag of the model itself names the last link, so that cutting it off is seen, too.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fade.errors import PromotionError
from fade.promotion import PROMOTE, REVOKE, STAGE, STATES, Decision, Standing, replay
from tasks.tracking import Tracking, all_versions, ensure_model, faults

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

SUFFIX = ".decisions"
CHAMPION, REVOKED = STATES[PROMOTE], STATES[REVOKE]
_LINK, _HEAD = "decision", "head"
_DESCRIPTION = "What was decided, in order; written by `fade promote` and its like."


def standing(tracking: Tracking, name: str) -> Standing:
    """What was decided about the versions of ``name``. Raises PromotionError when the chain is broken."""
    links = [Decision.parse(int(v.version), v.tags.get(_LINK, "")) for v in all_versions(tracking, name + SUFFIX)]
    found = replay(links)
    head = _head(tracking, name) if links else None
    if head is not None and not any(f"{one.number}:{one.sha256()}" == head for one in found.decisions):
        what = f"{name}: decision {head.split(':')[0]} was edited, or is missing."
        raise PromotionError(what, stage=STAGE, action="trust none of the decisions; find out who changed the registry.")
    return found


def append(tracking: Tracking, about: ModelVersion, decision: Decision, after: Standing) -> Decision:
    """Add a link behind ``after``'s last one. Raises PromotionError when another came first: then nothing was decided."""
    name = str(about.name)
    number, digest = after.head
    link = replace(decision, previous=number, previous_sha256=digest)
    with faults(tracking.address):
        ensure_model(tracking, name + SUFFIX, description=_DESCRIPTION)
        # Named as a version: a server lets no one point at a logged model's folder without its id, which a version does not keep.
        source = f"models:/{name}/{about.version}"
        made = tracking.client.create_model_version(name + SUFFIX, source, about.run_id, tags={_LINK: link.to_json()})
    link = replace(link, number=int(made.version))
    now = standing(tracking, name)
    if link not in now.decisions:
        first = next(one for one in now.decisions if one.previous == number)
        what = f"{name}: {first.by} decided first: {first.action} {first.version}. Yours (decision {link.number}) is void."
        raise PromotionError(what, stage=STAGE, action=f"look at `fade decisions {name}`, and decide again if it still holds.")
    with faults(tracking.address):
        tracking.client.set_registered_model_tag(name + SUFFIX, _HEAD, "{}:{}".format(*now.head))
    return link


def _head(tracking: Tracking, name: str) -> str | None:
    with faults(tracking.address):
        tags: dict[str, str] = tracking.client.get_registered_model(name + SUFFIX).tags
    return tags.get(_HEAD)
