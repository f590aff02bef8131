"""``accelerate launch`` as it is, begun and ended faster: ``python -m tasks.launcher FLAGS...``."""

from __future__ import annotations

import os
import sys
import traceback

from fade.importing import importing, without

UNUSED = ("boto3",)
"""accelerate would import it for machines that are rented from Amazon."""


def main() -> int:
    """Launch what the command line says; the exit status of what was launched, as accelerate tells it."""
    with importing(), without(*UNUSED):
        from accelerate.commands import launch
    try:
        launch.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Python would take torch apart for another second
