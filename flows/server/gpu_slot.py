"""One GPU, one erasure: the slots of Prefect's global concurrency limit."""

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

SHORTEST_LEASE = 60.0
"""Seconds; Prefect's own limit for a slot's lease."""


@contextmanager
def gpu(params: Params) -> Iterator[None]:
    """A slot of Prefect's global limit, waited for. Strict: raises OrchestrationError when there is no such
    limit."""
    from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
    from prefect.concurrency.sync import concurrency

    schedule = params.schedule
    name, lease = schedule.gpu_limit_name, max(SHORTEST_LEASE, schedule.lease_seconds)
    with ExitStack() as stack:
        # a server that was away for a while must not end a training of hours: the claim holds without it
        try:
            held = concurrency(
                name, occupy=1, strict=True, lease_duration=lease, raise_on_lease_renewal_failure=False
            )
            stack.enter_context(held)
        except ConcurrencySlotAcquisitionError as error:
            what = f"no slot of the concurrency limit {name!r}: {error}."
            action = f"`fade serve` makes it, or: prefect gcl create {name} --limit {schedule.gpu_limit}"
            raise OrchestrationError(what, stage=STAGE, action=action) from error
        yield


@contextmanager
def by_hand(params: Params) -> Iterator[None]:
    """`gpu` for who erases by hand: a slot where the server has the limit, nothing where nobody has asked for
    one."""
    there = find(params)
    if there is None:
        yield
        return
    if there.active_slots >= there.limit:
        progress.report(
            "prefect", 0, 0, f"waiting for a slot of {params.schedule.gpu_limit_name}: another erasure is on"
        )
    with gpu(params):
        yield


def find(params: Params) -> GlobalConcurrencyLimitResponse | None:
    """The global limit as the server has it; None when it has none. Raises OrchestrationError."""
    from prefect.exceptions import ObjectNotFound

    name = params.schedule.gpu_limit_name
    with _server(f"the concurrency limit {name!r} cannot be read") as client:
        try:
            return client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            return None


def limit(params: Params, *, change: bool) -> None:
    """Make the global limit; ``change``: and set it to what the parameters say when it is there. Raises
    OrchestrationError."""
    schedule = params.schedule
    if not change and find(params) is not None:
        return
    with _server(f"the concurrency limit {schedule.gpu_limit_name!r} cannot be made") as client:
        client.upsert_global_concurrency_limit_by_name(schedule.gpu_limit_name, schedule.gpu_limit)


@contextmanager
def _server(otherwise: str) -> Iterator[SyncPrefectClient]:
    """Prefect's client; what goes wrong with it is an OrchestrationError that begins with ``otherwise``."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectException

    try:
        with get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, PrefectException) as error:
        raise OrchestrationError(
            f"{otherwise}: {error}.", stage=STAGE, action="see whether Prefect's server is well."
        ) from error
