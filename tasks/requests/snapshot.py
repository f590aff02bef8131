"""The registry at one moment, with the lease logs of requests."""

from __future__ import annotations

from fade.governance.leases import LeaseLog
from tasks.registry.models import REQUEST
from tasks.registry.snapshot import RegistrySnapshot
from tasks.requests.leases import lease_log, log_name


class RequestSnapshot(RegistrySnapshot):
    """``prefix``: that of the concepts' models."""

    def lease_log(self, request: str) -> LeaseLog:
        """The lease log of a request; empty when there is none. Raises RegistryError."""
        name = log_name(self.prefix, request)
        return lease_log(self.versions_of(name), name, self.models.get(name))

    def recorded_requests(self) -> list[str]:
        """The ids of all requests with a lease log."""
        start = f"{self.prefix}{REQUEST}"
        return sorted(name.removeprefix(start) for name in self.versions if name.startswith(start))
