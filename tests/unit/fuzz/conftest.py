"""The same few examples in seconds by `make test`; FUZZ=1000 others a parser, minutes, by `make failures`."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, configuration, settings

ROOM = 2 << 30
"""Bytes of address space that the parsers may take on top of what is imported."""
COMMON = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}

settings.register_profile("short", max_examples=25, derandomize=True, **COMMON)
settings.register_profile("long", max_examples=int(os.environ.get("FUZZ", "1000")), **COMMON)
settings.load_profile("long" if "FUZZ" in os.environ else "short")
_HOME = tempfile.TemporaryDirectory(prefix="fade-fuzz-")
configuration.set_hypothesis_home_dir(_HOME.name)


@pytest.fixture(autouse=True, scope="module")
def _bounded_memory() -> Iterator[None]:
    before, most = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    wanted = pages * resource.getpagesize() + ROOM
    resource.setrlimit(
        resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most)
    )
    yield
    resource.setrlimit(resource.RLIMIT_AS, (before, most))
