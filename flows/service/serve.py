"""`fade serve`: this process serves the deployments until it is stopped; each run is a process of its own."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from fade.config import Params
from fade.errors import OrchestrationError
from flows.server import runtime
from tasks.launch.process_group import process_tree, stop_processes
from tasks.requests.project import Project

GRACE = 20.0
"""Seconds between TERM and KILL for runs that are left when the scheduler stops."""


def serve(project: Project, params: Params, on_progress: Callable[[str], None]) -> None:
    """Serve until TERM or Ctrl-C. Raises OrchestrationError when the server does not answer or every cron is
    empty, RequestFileError when there is no requests.yaml."""
    refuse_sqlalchemy()
    project.requests(params)  # the file as a whole; faults of single requests are reported by the runs
    runtime.start(whole=True)
    runtime.await_server()
    import prefect

    from flows.server.gpu_slot import ensure_gpu_limit
    from flows.service.schedule import crons, deployments

    ensure_gpu_limit(params, change=True)
    if not any(crons(params.schedule).values()):
        action = "set schedule.erase_cron, for instance."
        raise OrchestrationError("every cron of `schedule` is empty.", stage="serve", action=action)
    served, address = deployments(project, params), runtime.announce(project.runs)
    for one in served:
        cron = crons(params.schedule)[str(one.name)] or "only when asked"
        on_progress(f"{one.flow_name}/{one.name}  {cron}  ({params.schedule.timezone})")
    on_progress(f"serving at {os.environ.get('PREFECT_API_URL')}; stop with Ctrl-C")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:  # other schedulers of the same server go on: nothing is paused when this one stops
        prefect.serve(*served, pause_on_shutdown=False, print_starting_message=False)
    except KeyboardInterrupt:
        pass
    finally:
        if address is not None:
            address.unlink(missing_ok=True)
        end_children()


def refuse_sqlalchemy() -> None:
    """Raises OrchestrationError for SQLAlchemy 2.1: an embedded server answers with it, and never starts
    anything by the clock."""
    from importlib.metadata import version

    installed = version("sqlalchemy")
    if "PREFECT_API_URL" not in os.environ and not installed.startswith("2.0."):
        why = "Prefect's scheduler does not work with it, no cron would ever start anything."
        what = f"SQLAlchemy {installed}: {why}"
        raise OrchestrationError(what, stage="serve", action='pip install "sqlalchemy<2.1"')


def end_children() -> None:
    """TERM to the runs that are left, KILL to those that live after GRACE seconds: their leases are released
    or taken over. The embedded server stays until the runs have ended."""
    server = runtime.server_pid()
    spared = {os.getpid()} | {process.pid for process in (process_tree(server) if server else [])}
    stop_processes([one for one in process_tree(os.getpid()) if one.pid not in spared], grace=GRACE)
