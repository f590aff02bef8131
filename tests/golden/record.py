"""Write the golden files anew: ``python -m tests.golden.record [adapters] [help] [interfaces] [run]``. No test does that.

They were made by the code before the house was rebuilt. A difference is a fault until its reason is written into the commit that
records it.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.golden import machine


def adapters() -> None:
    from tests.golden import adapters

    with tempfile.TemporaryDirectory() as folder:
        made = adapters.trainer(Path(folder))
        found = {name: {"settings": one, **adapters.summary(made(name, one))} for name, one in adapters.variants().items()}
    machine.write(adapters.FILE, {"machine": machine.facts(adapters.THREADS), "adapters": found})


def help_texts() -> None:
    from tests.golden import commands

    machine.write(commands.FILE, commands.present())


def interface() -> None:
    from tests.golden import interfaces

    kept = machine.read(interfaces.FILE) if (machine.FOLDER / interfaces.FILE).is_file() else {}
    machine.write(interfaces.FILE, {**kept, "exit_codes": interfaces.exit_codes(), "parameters": interfaces.parameters()})


PARTS = {"adapters": adapters, "help": help_texts, "interfaces": interface}

if __name__ == "__main__":
    for name in sys.argv[1:] or PARTS:
        PARTS[name]()
