"""One job by its file: the flow of the deployment ``run-job/gpu``, on a machine that has a GPU."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from prefect import flow

from tasks.launch import run_job as launch


@flow(name="run-job", validate_parameters=False)
def run_job(job_path: str, device: str = "", deadline_seconds: float = 0) -> dict[str, Any]:
    """Run the job at ``job_path``, or take its finished result.

    device: ``cpu`` or ``cuda``; empty: what this machine has. deadline_seconds: 0 for none.
    """
    from fade.jobs.worker import read_job
    from fade.models.loading import pick_device

    job = read_job(Path(job_path))
    reused = launch.run_job(job, deadline=deadline_seconds or math.inf, device=pick_device(device or "auto"))
    return {"kind": job.KIND, "key": job.key(), "out": str(job.out), "reused": reused}
