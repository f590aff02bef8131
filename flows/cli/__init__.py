"""The command line: parses and prints, nothing else. Heavy imports happen inside the commands."""

from flows.cli import erase, draw, registry, release, schedule, audit, compare, pretrain as world  # noqa: I001  in the order of `fade --help`
from flows.cli.app import app, main, unwrap_help

unwrap_help(app)

__all__ = ["app", "audit", "compare", "draw", "erase", "main", "registry", "release", "schedule", "world"]
