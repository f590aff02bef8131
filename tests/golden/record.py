"""Write the golden files anew: ``python -m tests.golden.record [adapters|help|interfaces|protocols|run]``.
No test does that.

They were made by the code before the house was rebuilt. A difference is a fault until its reason is written
into the commit that records it."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from tests.golden import machine


def adapters() -> None:
    from tests.golden import adapters

    with tempfile.TemporaryDirectory() as folder:
        made = adapters.trainer(Path(folder))
        found = {
            name: {"settings": one, **adapters.summary(made(name, one))}
            for name, one in adapters.variants().items()
        }
    machine.write(adapters.FILE, {"machine": machine.facts(adapters.THREADS), "adapters": found})


def help_texts() -> None:
    from tests.golden import commands

    machine.write(commands.FILE, commands.present())


def interface() -> None:
    from tests.golden import interfaces

    machine.write(
        interfaces.FILE, {"exit_codes": interfaces.exit_codes(), "parameters": interfaces.parameters()}
    )


def protocols() -> None:
    """The tables of docs/protocols.md, in place."""
    from tests.golden.protocols_page import PAGE, rendered

    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


def whole_run() -> None:
    """With one thread, as each of the workers of `make test` has."""
    import tests.conftest  # noqa: F401  its settings are those that the tests run under
    from tests.e2e.support import fade, small
    from tests.golden import run

    with tempfile.TemporaryDirectory() as folder:
        done = fade(
            "run",
            "--target",
            "panda",
            "--json",
            *small(),
            runs=Path(folder) / "runs",
            env={"OMP_NUM_THREADS": "1"},
        )
        if done.returncode:
            raise SystemExit(done.stderr)
        machine.write(run.FILE, run.outcome(Path(folder) / "runs", json.loads(done.stdout)))


PARTS = {
    "adapters": adapters,
    "help": help_texts,
    "interfaces": interface,
    "protocols": protocols,
    "run": whole_run,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
