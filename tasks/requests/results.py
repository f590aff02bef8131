"""What processing a request leaves in the registry: the request's text, tags of its version, a report, a
failed run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fade.governance.leases import DONE, LeaseLog
from fade.governance.requests import ErasureRequests, Request
from tasks.registry.connection import Tracking
from tasks.registry.lineage import read
from tasks.registry.models import all_versions, model_name
from tasks.registry.runs import open_run
from tasks.requests.leases import Lease, log_name, record_request, report
from tasks.requests.snapshot import RequestSnapshot
from tasks.requests.status import STALE, critical_checks

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


def record_requests(tracking: Tracking, requests: ErasureRequests, prefix: str, by: str) -> None:
    """Record every request that the registry does not have, or has with other fields: a request that vanishes
    from the file is then shown as missing. Raises RegistryError."""
    snapshot = RequestSnapshot.load(tracking, prefix)
    for request in requests.requests:
        recorded = snapshot.lease_log(request.id).recorded
        if recorded is None or dict(recorded.content) != request.to_json():
            record_request(tracking, log_name(prefix, request.id), request.to_json(), by)


def request_tags(request: Request) -> dict[str, str]:
    """Tags of a version that was made for a request; a version may carry those of several requests."""
    return {f"request.{request.id}": request.fingerprint()}


def find_unreported(tracking: Tracking, prefix: str, request: Request, log: LeaseLog) -> ModelVersion | None:
    """The version that a worker registered for the request before it died without a report; else None."""
    reported = {str(event.content.get("version")) for event in log.events if event.kind == DONE}
    for version in all_versions(tracking, model_name(prefix, request.concept)):
        made_for = all(version.tags.get(key) == value for key, value in request_tags(request).items())
        if made_for and STALE not in version.tags and f"{version.name}/{version.version}" not in reported:
            return version
    return None


def report_done(
    tracking: Tracking, lease: Lease, version: ModelVersion, content: Mapping[str, Any]
) -> dict[str, Any]:
    """Report DONE by ``version``, with the part of its record that the gate reads; returns that part. Raises
    RequestError when the lease was taken over."""
    content_of = read(tracking, version).lineage.content
    record = {
        "outputs": {key: content_of["outputs"].get(key) for key in ("metrics", "base_metrics")},
        "checks": critical_checks(content_of),
        "inputs": {"unchanged": content_of["inputs"]["unchanged"]},
    }
    label = f"{version.name}/{version.version}"
    report(tracking, lease, DONE, {**content, "version": label, "record": record})
    return record


def log_failure(
    tracking: Tracking, experiment: str, request: Request, error: BaseException, params_sha256: str
) -> str:
    """Make a failed MLflow run with the reason in its tags; returns its id. Raises RegistryError."""
    tags = {
        **request_tags(request),
        "request": request.id,
        "concept": request.concept,
        "error": type(error).__name__,
        "stage": getattr(error, "stage", ""),
        "reason": str(error)[:4000],
        "params_sha256": params_sha256,
    }
    run_id = ""
    try:
        with open_run(tracking, experiment, f"request {request.id}", tags) as run:
            run_id = run.run_id
            raise _Failed  # a run ends as FAILED when its body raises
    except _Failed:
        return run_id


class _Failed(Exception):
    pass
