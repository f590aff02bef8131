"""The application, and how it ends: exit codes and the sentences of errors."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import NoReturn

import typer

from flows.cli.screen import escape, say

app = typer.Typer(
    name="fade",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Erase concepts from text-to-image diffusion models, and prove that the neighbours survived.",
    epilog='Example: fade run --target "panda"',
)


def unwrap_help(group: typer.Typer) -> None:
    """Join the wrapped lines of each command's first paragraph: the list of commands shows them as they
    are."""
    for command in group.registered_commands:
        if command.help is None and command.callback is not None:
            first, blank, rest = inspect.cleandoc(command.callback.__doc__ or "").partition("\n\n")
            command.help = " ".join(first.split()) + blank + rest
    for child in group.registered_groups:
        if child.typer_instance is not None:
            unwrap_help(child.typer_instance)


def main() -> NoReturn:
    """Run the command line. Exit codes: 0, 1 (the job failed), 2 (bad usage or config)."""
    import signal

    from fade.errors import FadeError

    # A scheduler stops a job by TERM: end as Ctrl-C does, with the workers and the embedded server.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False) or 0
        if code == 128 + signal.SIGINT:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
    except FadeError as error:
        say(f"[bold red]error[/] {escape(str(error))}")
        code = error.exit_code
    except KeyboardInterrupt:
        say("[bold red]stopped[/] What was made so far is kept; the same command continues.")
        code = 1
    except OSError as error:
        code = _disk(error)
    except Exception as error:
        code = _usage(error)
    sys.exit(code)


def _usage(error: Exception) -> int:
    """Bad usage in the parser's own words; anything else is a fault of ours and is shown whole."""
    if type(error).__name__ in ("Abort",):
        say("[bold red]stopped[/] What was made so far is kept; the same command continues.")
        return 1
    if not hasattr(error, "format_message"):
        raise error
    context = getattr(error, "ctx", None)
    hint = f" Next: see `{context.command_path} --help`." if context else ""
    say(f"[bold red]error[/] {escape(error.format_message())}{hint}")
    return 2


def _disk(error: OSError) -> int:
    """A full or unwritable disk that no stage had words for; anything else is a fault of ours and is shown
    whole."""
    from fade.utils.files import UNWRITABLE, storage_error

    if error.errno not in UNWRITABLE:
        raise error
    say(f"[bold red]error[/] {escape(str(storage_error(error, Path(str(error.filename or '.')))))}")
    return 1
