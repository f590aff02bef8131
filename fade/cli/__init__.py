"""The command line: parses and prints, nothing else. Heavy imports happen inside the commands."""

from fade.cli import erase, draw, registry, schedule, compare, world  # noqa: I001  in the order of `fade --help`: each adds its commands
from fade.cli.app import app, main

__all__ = ["app", "compare", "draw", "erase", "main", "registry", "schedule", "world"]
