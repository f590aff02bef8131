"""The command line: parses and prints, nothing else. Heavy imports happen inside the commands."""

from flows.cli import erase, generate, exchange, registry, keys, release  # noqa: I001, F401  in the order of `fade --help`
from flows.cli import schedule, audit, site, compare, protocol, data, judge, project, pretrain  # noqa: F401
from flows.cli.app import app, main, unwrap_help

unwrap_help(app)

__all__ = ["app", "main"]
