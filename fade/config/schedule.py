"""`fade requests`, `fade serve`: where requests are kept, when they are worked off, and how long a silent
worker is waited for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator

from fade.config.section import Positive, Section

_CRON_FIELD = re.compile(r"[0-9A-Za-z*/,?#L-]+")


class ScheduleConfig(Section):
    """Erasure requests and the scheduler."""

    requests: Path = Path("requests.yaml")
    """The file of the team's erasure requests, relative to params.yaml."""
    erase_cron: str = "*/15 * * * *"
    """When open requests are worked off. Empty: never by itself."""
    reevaluate_cron: str = "0 3 * * *"
    """When champions are held against today's base, judge and data. Empty: never by itself."""
    audit_cron: str = "0 5 * * 0"
    """When the registry is audited. Empty: never by itself."""
    timezone: str = "UTC"
    """The crons' time zone, an IANA name."""
    gpu_limit: Positive = 1
    """Erasures at once: slots of Prefect's global concurrency limit."""
    gpu_limit_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")] = "fade-gpu"
    """That limit's name; one for each GPU pool that is shared."""
    lease_seconds: Annotated[float, Field(ge=1)] = 120.0
    """A worker whose heartbeat stood still for so long, by the observer's own monotonic clock, counts as
    dead."""
    attempts: Positive = 3
    """Times that a request which failed is tried by itself; `fade requests run ID` tries again."""
    train_deployment: str = ""
    """FLOW/DEPLOYMENT that trains (flows/train.py on a GPU pool); empty: train where the flow runs."""

    @field_validator("erase_cron", "reevaluate_cron", "audit_cron")
    @classmethod
    def _five_fields(cls, value: str) -> str:
        fields = value.split()
        if fields and (len(fields) != 5 or not all(_CRON_FIELD.fullmatch(one) for one in fields)):
            raise ValueError("a cron has five fields: minute hour day month weekday")
        return " ".join(fields)

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError("no time zone of the IANA list, such as Europe/Berlin") from None
        return value
