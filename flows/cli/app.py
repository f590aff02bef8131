"""The application, and how it ends: exit codes and error messages."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import NoReturn

import typer

from flows.cli.screen import escape, print_note

STOPPED = "[bold red]stopped[/] What was made so far is kept; the same command continues."
END_SECONDS = 30.0
"""The servers' and workers' end takes less."""

app = typer.Typer(
    name="fade",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Erase concepts from text-to-image diffusion models, and prove that the neighbours survived.",
    epilog='Example: fade run --target "panda"',
)


def unwrap_help(group: typer.Typer) -> None:
    """Join the lines of each command's first paragraph, which the list of commands shows as they are."""
    for command in group.registered_commands:
        if command.help is None and command.callback is not None:
            first, blank, rest = inspect.cleandoc(command.callback.__doc__ or "").partition("\n\n")
            command.help = " ".join(first.split()) + blank + rest
    for child in group.registered_groups:
        if child.typer_instance is not None:
            unwrap_help(child.typer_instance)


def main() -> NoReturn:
    """Run the command line. Exit codes: 0, 1 (the job failed), 2 (bad usage or config)."""
    import atexit
    import signal

    from fade.redact import redact_logs
    from tasks.launch.environment import open_standard_streams

    open_standard_streams()
    redact_logs()
    # Registered first, so it runs last: the interpreter's own end would put the deadly default back.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    # A scheduler stops a job by TERM: end as Ctrl-C does, with the workers and the embedded server.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False) or 0
        if code == 128 + signal.SIGINT:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
    except (Exception, KeyboardInterrupt) as error:
        _ignore_interrupts()
        code = _explain(error)
    sys.exit(code)


def _ignore_interrupts() -> None:
    """From here on the process ends: a further Ctrl-C or TERM does not break the end off, which stops the
    servers; after END_SECONDS it ends at once."""
    import os
    import signal
    import time

    until = time.monotonic() + END_SECONDS

    def handle(*_: object) -> None:
        if time.monotonic() > until:
            os._exit(1)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)


def _os_error(error: OSError) -> Exception:
    """The error that no stage has a message for: a name that the system refuses, a folder that is gone, a
    disk. Any other stays."""
    import errno
    import os

    from fade.errors import UsageError
    from fade.utils.files import UNWRITABLE, storage_error

    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
        name = os.fsdecode(error.filename or "a name")
        what = f"{name[:80]}{'...' * (len(name) > 80)}: {error.strerror}."
        return UsageError(what, stage="options", action="name another file or model.")
    try:
        os.getcwd()  # noqa: PTH109 (Path.cwd() is the same, but this is about the system)
    except OSError:
        what = "the folder in which this command runs was deleted."
        return UsageError(what, stage="options", action="change to another folder.")
    return storage_error(error, Path(str(error.filename or "."))) if error.errno in UNWRITABLE else error


def _explain(error: BaseException) -> int:
    """Print the message of an expected error and return its exit code; any other is a fault of ours and is
    raised."""
    from fade.errors import FadeError

    if isinstance(error, OSError):
        error = _os_error(error)
    if isinstance(error, FadeError):
        print_note(f"[bold red]error[/] {escape(str(error))}")
        return error.exit_code
    if isinstance(error, KeyboardInterrupt) or type(error).__name__ == "Abort":
        print_note(STOPPED)
        return 1
    if not hasattr(error, "format_message"):
        raise error
    context = getattr(error, "ctx", None)  # the parser's own message
    hint = f" Next: see `{context.command_path} --help`." if context else ""
    print_note(f"[bold red]error[/] {escape(error.format_message())}{hint}")
    return 2
