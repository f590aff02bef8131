"""`fade serve`: the deployments served by this process until it is stopped; runs are processes of their
own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from fade.config import Params
from fade.errors import OrchestrationError
from flows.server import runtime
from flows.service.process_requests import Where
from tasks.launch.process_group import process_tree, stop_processes

GRACE = 20.0
"""Seconds that runs get to end after the scheduler was stopped."""


def serve(where: Where, params: Params, say: Callable[[str], None]) -> None:
    """Until TERM or Ctrl-C. Raises OrchestrationError when the server does not answer, LedgerError when there
    is no ledger."""
    refuse_sqlalchemy()
    where.ledger(params)  # what is wrong with single requests, the runs say
    runtime.reach()
    runtime.serve(whole=True)
    runtime.await_server()
    from prefect import serve as keep_serving

    from flows.server.gpu_slot import ensure_gpu_limit
    from flows.service.schedule import deployments

    ensure_gpu_limit(params, change=True)
    served = deployments(where, params)
    if not any(one.schedules for one in served):
        raise OrchestrationError(
            "every cron of `schedule` is empty.",
            stage="serve",
            action="set schedule.erase_cron, for instance.",
        )
    note = runtime.announce(where.runs)
    for one in served:
        crons = ", ".join(getattr(s.schedule, "cron", "") for s in one.schedules or []) or "only when asked"
        say(f"{one.flow_name}/{one.name}  {crons}  ({params.schedule.timezone})")
    say(f"serving at {os.environ.get('PREFECT_API_URL')}; stop with Ctrl-C")
    # Another scheduler of the same server goes on: nothing is paused when this one stops.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        keep_serving(*served, pause_on_shutdown=False, print_starting_message=False)
    except KeyboardInterrupt:
        pass
    finally:
        if note is not None:
            note.unlink(missing_ok=True)
        end_children()


def refuse_sqlalchemy() -> None:
    """An embedded server beside SQLAlchemy 2.1 answers, and never starts anything by the clock: raises
    OrchestrationError."""
    from importlib.metadata import version

    found = version("sqlalchemy")
    if "PREFECT_API_URL" not in os.environ and not found.startswith("2.0."):
        what = f"SQLAlchemy {found}: Prefect's scheduler does not work with it, no cron would ever start anything."
        raise OrchestrationError(what, stage="serve", action='pip install "sqlalchemy<2.1"')


def end_children() -> None:
    """TERM to the runs that are left, KILL to those that live after GRACE seconds: their leases are released
    or taken over. The embedded server stays until the runs have ended."""
    server = runtime.server_pid()
    spared = {os.getpid()} | {process.pid for process in (process_tree(server) if server else [])}
    stop_processes([one for one in process_tree(os.getpid()) if one.pid not in spared], grace=GRACE)
