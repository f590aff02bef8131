"""MATLAB files of lists. scipy reads versions 4 to 7.2; nothing in them is run."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from fade.data.importers.members import STAGE
from fade.errors import DataError


def read_mat(name: str, content: bytes, *keys: str) -> list[Any]:
    """The variables ``keys`` of a .mat file. Raises DataError for one that lacks them, is no such file, or is
    of version 7.3 (HDF5)."""
    import scipy.io

    def fault(what: str, action: str = "fetch it again.") -> DataError:
        return DataError(f"{name}: {what}.", stage=STAGE, action=action)

    if content.startswith(b"MATLAB 7.3") or content[:8] == b"\x89HDF\r\n\x1a\n":
        raise fault("it is a MATLAB 7.3 file (HDF5), which is not read here", "use the set's own file.")
    try:
        stored = scipy.io.loadmat(io.BytesIO(content))
    except Exception as error:  # scipy raises a dozen kinds for a damaged file
        raise fault(f"it is no MATLAB file that can be read: {error}") from None
    if missing := [key for key in keys if key not in stored]:
        raise fault(f"it holds no {' and no '.join(missing)}", "use the set's own file.")
    return [stored[key] for key in keys]


def texts(cells: Any) -> list[str]:
    """The strings of an (N, 1) or (1, N) cell array."""
    return [str(cell.item() if isinstance(cell, np.ndarray) else cell) for cell in np.ravel(cells)]


def numbers(values: Any) -> list[int]:
    """The whole numbers of an array, of whatever type MATLAB stored."""
    return [int(value) for value in np.ravel(values)]
