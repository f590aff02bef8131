"""`fade serve`: this process serves the deployments until it is stopped; each run is a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable

import psutil

from fade.config import Params
from fade.errors import OrchestrationError
from fade.utils.locks import lock_folder
from flows.server import runtime
from tasks.launch.process_group import process_tree, stop_processes, uninterrupted
from tasks.requests.project import Project

STAGE, LOCK = "serve", "serving.lock"
GRACE = 20.0
"""Seconds between TERM and KILL for runs that are left when the scheduler stops."""


def serve(project: Project, params: Params, on_progress: Callable[[str], None], site: str = "") -> None:
    """Serve until TERM or Ctrl-C. ``site``: see `flows.service.publish.published`.

    Raises ConfigError for a cron that Prefect does not take, BusyError when another scheduler serves this
    runs folder, OrchestrationError when the server does not answer or every cron is empty, RequestFileError
    when there is no requests.yaml."""
    refuse_sqlalchemy()
    project.requests(params)  # the file as a whole; faults of single requests are reported by the runs
    from flows.service.schedule import check_crons, crons

    check_crons(params.schedule)
    if not any(crons(params.schedule).values()):
        action = "set schedule.erase_cron, for instance."
        raise OrchestrationError("every cron of `schedule` is empty.", stage=STAGE, action=action)
    with lock_folder(project.runs, f"{project.runs} is served", STAGE, name=LOCK):
        runtime.start(whole=True)
        runtime.await_server()
        _serve(project, params, on_progress, site)


def _serve(project: Project, params: Params, on_progress: Callable[[str], None], site: str) -> None:
    from prefect.runner import Runner

    from flows.server.gpu_slot import ensure_gpu_limit, prefect_client
    from flows.service.schedule import FLOWS, crons, deployment_options

    ensure_gpu_limit(params, change=True)
    # the flows themselves, not deployments: the runner then never loads code by the server's record of it.
    # Other schedulers of the same server go on: nothing is paused when this one stops.
    runner = Runner(pause_on_shutdown=False)
    with prefect_client("the deployments cannot be made", STAGE):
        for name, options in deployment_options(project, params, site).items():
            runner.add_flow(FLOWS[name], name, **options)
            cron = crons(params.schedule)[name] or "only when asked"
            on_progress(f"{FLOWS[name].name}/{name}  {cron}  ({params.schedule.timezone})")
    address = runtime.announce(project.runs)
    on_progress(f"serving at {os.environ.get('PREFECT_API_URL')}; stop with Ctrl-C")
    # asyncio answers SIGINT by cancelling its task; an exception in the middle of the loop would leave others
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs with it ignored
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        asyncio.run(runner.start())
    except KeyboardInterrupt:
        pass
    finally:
        with uninterrupted():
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
        raise OrchestrationError(what, stage=STAGE, action='pip install "sqlalchemy<2.1"')


def end_children() -> None:
    """TERM to the runs that are left, KILL to those that live after GRACE seconds: their leases are released
    or taken over. The embedded server stays until the runs have ended."""
    server = runtime.server_pid()
    spared = {os.getpid()} | {process.pid for process in (process_tree(server) if server else [])}
    runs = [one for one in process_tree(os.getpid()) if one.pid not in spared and not _ends_with_us(one)]
    stop_processes(runs, grace=GRACE)


def _ends_with_us(process: psutil.Process) -> bool:
    """Whether it is Python's resource tracker, which ignores TERM and ends when this process does."""
    with contextlib.suppress(psutil.Error):
        return any("multiprocessing.resource_tracker" in part for part in process.cmdline())
    return False
