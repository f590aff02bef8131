"""A worker of a process pool that runs the flows of this checkout and nothing else.

    python -m flows.service.worker --pool cpu

Prefect's own process worker executes what the server's record of a deployment holds: entrypoint, pull steps,
command, environment. This one compares entrypoint and pull steps with `flows.service.entrypoints`, refuses a
run of another record, and starts the flow by its name in this checkout, with its own environment."""

from __future__ import annotations

import abc
import argparse
import asyncio
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from prefect.runner._flow_run_executor import FlowRunExecutionResult, FlowRunExecutorContext
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.utilities.importtools import import_object
from prefect.utilities.processutils import setup_signal_handlers_worker
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from fade.errors import FadeError, OrchestrationError, ServerError
from flows.server.runtime import reach
from flows.service.entrypoints import CHECKOUT, ENTRYPOINTS, SET_FOLDER, STAGE, foreign, module_path
from tasks.launch.environment import NO_TELEMETRY, bypass_proxies, open_standard_streams

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun


class CheckoutWorker(ProcessWorker, abc.ABC):
    """Prefect's process worker with a `run` of ours. As an ABC it does not replace Prefect's in its list of
    types; it takes runs of the same pools."""

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Run a flow of this checkout in a process. Raises OrchestrationError for a deployment of other
        code; Prefect shows it as the flow run's crash. ``configuration``, the server's, is not used."""
        flow, folder = await self._accept(flow_run)
        execution: FlowRunExecutionResult | None = None

        async def own_flow(_: FlowRun) -> Any:
            return import_object(flow)  # for hooks; Prefect's default loads the record's code in this process

        async with FlowRunExecutorContext() as context:
            control = context.control_channel
            starter = EngineCommandStarter(entrypoint=flow, cwd=folder, control_channel=control)
            executor = context.create_executor(
                flow_run, starter, resolve_flow=own_flow, propose_submitting=False
            )

            async def execute(*, task_status: Any = anyio.TASK_STATUS_IGNORED) -> None:
                nonlocal execution
                execution = await executor.submit(task_status=task_status)

            async with anyio.create_task_group() as group:
                handle = await group.start(execute)
                if task_status is not None:
                    task_status.started(handle.pid)
        if execution is None or execution.status_code is None:
            raise ServerError(
                "the flow's process did not start.", stage=STAGE, action="see the worker's log."
            )
        return ProcessWorkerResult(status_code=execution.status_code, identifier=str(handle.pid))

    async def _accept(self, flow_run: FlowRun) -> tuple[str, Path]:
        """The flow's module path and the folder to run in. Raises OrchestrationError."""
        if flow_run.deployment_id is None:
            what, action = f"run {flow_run.name} has no deployment.", "call the deployment of prefect.yaml."
            raise OrchestrationError(what, stage=STAGE, action=action)
        record = await self.client.read_deployment(flow_run.deployment_id)
        flow = (await self.client.read_flow(record.flow_id)).name
        problem = foreign(flow, record.entrypoint, record.pull_steps)
        if problem:
            what = f"run {flow_run.name} refused: the deployment {flow}/{record.name}: {problem}."
            action = "find out who changed it; `prefect deploy --all` writes it anew."
            raise OrchestrationError(what, stage=STAGE, action=action)
        folders = [step[SET_FOLDER]["directory"] for step in record.pull_steps or []]
        return module_path(ENTRYPOINTS[flow]), Path(folders[-1]) if folders else CHECKOUT


def main(argv: list[str]) -> int:
    """Work until it is stopped; an error's sentence goes to stderr."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.service.worker",
        description=str(__doc__).split("\n")[0],
        epilog="Example: FADE_HOME=/srv/fade python -m flows.service.worker --pool gpu --limit 1",
    )
    parser.add_argument("--pool", required=True, help="a work pool of type process")
    parser.add_argument("--name", help="of this worker (default: one that Prefect makes)")
    parser.add_argument("--limit", type=int, help="runs at once (default: any number)")
    parser.add_argument("--run-once", action="store_true", help="do what waits, then end")
    parser.add_argument("--with-healthcheck", action="store_true", help="answer /health on port 8080")
    options = parser.parse_args(argv)
    open_standard_streams()
    bypass_proxies()
    for key, value in NO_TELEMETRY.items():
        os.environ.setdefault(key, value)
    try:
        reach()
    except FadeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    worker = CheckoutWorker(work_pool_name=options.pool, name=options.name, limit=options.limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Prefect's, of its own runner
        asyncio.run(worker.start(options.run_once, options.with_healthcheck))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
