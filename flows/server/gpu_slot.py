"""GPU concurrency: one erasure per GPU slot, by Prefect's global concurrency limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from fade.config import Params
from fade.errors import OrchestrationError
from fade.governance.leases import STAGE
from fade.utils import progress

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.responses import GlobalConcurrencyLimitResponse

MIN_LEASE = 60.0
"""Seconds; Prefect's own lower bound of a slot's lease."""


@contextmanager
def gpu_slot(params: Params) -> Iterator[None]:
    """Wait for a slot of the global limit and hold it. Raises OrchestrationError when there is no limit."""
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
    from prefect.concurrency.sync import concurrency

    schedule = params.schedule
    name, lease = schedule.gpu_limit_name, max(MIN_LEASE, schedule.lease_seconds)
    # a server that is away for a while must not end a training of hours: the request's lease protects it
    slot = concurrency(
        name, occupy=1, strict=True, lease_duration=lease, raise_on_lease_renewal_failure=False
    )
    held = ExitStack()
    try:
        with prefect_errors(f"no slot of the concurrency limit {name!r}"):
            held.enter_context(slot)
    except ConcurrencySlotAcquisitionError as error:
        what = f"no slot of the concurrency limit {name!r}: {error}."
        action = f"`fade serve` makes it, or: prefect gcl create {name} --limit {schedule.gpu_limit}"
        raise OrchestrationError(what, stage=STAGE, action=action) from error
    try:
        yield
    finally:
        try:
            with prefect_errors(f"the slot of {name} is free when its lease ends, in {lease:g} s at most"):
                held.close()
        except OrchestrationError as error:  # the work is done: a server that is away undoes nothing
            progress.report("prefect", 0, 0, str(error))


@contextmanager
def gpu_slot_if_limited(params: Params) -> Iterator[None]:
    """`gpu_slot` where the server has the limit, else nothing: for an erasure started by hand."""
    limit = read_gpu_limit(params)
    if limit is None:
        yield
        return
    if limit.active_slots >= limit.limit:
        waiting = f"waiting for a slot of {params.schedule.gpu_limit_name}: another erasure is on"
        progress.report("prefect", 0, 0, waiting)
    with gpu_slot(params):
        yield


def read_gpu_limit(params: Params) -> GlobalConcurrencyLimitResponse | None:
    """The global limit on the server; None when it has none. Raises OrchestrationError."""
    from prefect.exceptions import ObjectNotFound

    name = params.schedule.gpu_limit_name
    with prefect_client(f"the concurrency limit {name!r} cannot be read") as client:
        try:
            return client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            return None


def ensure_gpu_limit(params: Params, *, change: bool) -> None:
    """Make the global limit; ``change``: also set one that exists. Raises OrchestrationError."""
    schedule = params.schedule
    if not change and read_gpu_limit(params) is not None:
        return
    with prefect_client(f"the concurrency limit {schedule.gpu_limit_name!r} cannot be made") as client:
        client.upsert_global_concurrency_limit_by_name(schedule.gpu_limit_name, schedule.gpu_limit)


@contextmanager
def prefect_client(
    what: str, stage: str = STAGE, action: str = "see whether Prefect's server is well."
) -> Iterator[SyncPrefectClient]:
    """Prefect's client; its errors become an OrchestrationError that begins with ``what``."""
    from prefect.client.orchestration import get_client

    with prefect_errors(what, stage, action), get_client(sync_client=True) as client:
        yield client


@contextmanager
def prefect_errors(
    what: str, stage: str = STAGE, action: str = "see whether Prefect's server is well."
) -> Iterator[None]:
    """Errors of Prefect's client as an OrchestrationError that begins with ``what``."""
    import httpx
    from prefect.exceptions import PrefectException

    try:
        yield
    except (httpx.HTTPError, PrefectException) as error:
        raise OrchestrationError(f"{what}: {error}.", stage=stage, action=action) from error
