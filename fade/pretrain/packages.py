"""Python packages that carry weights: needed to rebuild the world only, not to use it."""

from __future__ import annotations

import importlib
from pathlib import Path

from fade.errors import DataError


def package_folder(package: str, what: str, stage: str) -> Path:
    """Where a package lies. Raises DataError, of which ``what`` is the sentence, when it is not installed."""
    try:
        return Path(str(importlib.import_module(package).__file__)).parent
    except ImportError:
        raise DataError(what, stage=stage, action="pip install -e '.[pretrain]'.") from None
