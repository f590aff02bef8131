"""Judges in the registry: each that was trained is a version, with its bytes and what it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tasks.registry.connection import registry_errors
from tasks.registry.models import ensure_model, model_name
from tasks.registry.runs import Run

PREFIX = "judge"
"""Begins the names of their models: no concept's model is read as a judge's, nor a judge's as a concept's."""
FOLDER = "judge"
"""Of the run's artifacts."""


def register_judge(run: Run, judge: Path, tags: Mapping[str, str]) -> dict[str, str]:
    """Upload a judge's directory to its run, and register it; returns ``name``, ``version``, ``run_id``.
    Raises RegistryError."""
    name = model_name(PREFIX, judge.name)
    run.log_file(judge, FOLDER)
    with registry_errors(run.tracking.address):
        ensure_model(run.tracking, name, description="A judge: an image classifier that knows the concepts.")
        source = f"{run.client.get_run(run.run_id).info.artifact_uri}/{FOLDER}"
        version = run.client.create_model_version(name, source, run.run_id, tags=dict(tags))
    return {"name": name, "version": str(version.version), "run_id": run.run_id}
