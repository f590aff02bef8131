"""The data set's own pictures of a concept as clean latents: for erasers and attacks that use them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from fade.data.images import read_pictures
from fade.data.manifest import MANIFEST, read_manifest
from fade.errors import DataError
from fade.models.base import DiffusionModel

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


def real_latents(base: DiffusionModel, folder: Path, concepts: Sequence[str]) -> dict[str, Tensor]:
    """Clean, scaled latents (m, C, h, w), float32 on the CPU, of each concept's training pictures in the
    manifest's order.

    The mean of the autoencoder's posterior, hence without a draw. Raises DataError for a concept without a
    training picture."""
    frame = training_pictures(folder, concepts)
    latents = base.encode_pictures(read_pictures([folder / name for name in frame["path"]]))
    owner = frame["concept"].to_numpy()
    return {name: latents[torch.from_numpy(np.flatnonzero(owner == name))] for name in concepts}


def training_pictures(folder: Path, concepts: Sequence[str]) -> pd.DataFrame:
    """The manifest's rows of the concepts' training pictures. Raises DataError for a concept without any."""
    frame = read_manifest(folder / MANIFEST)
    frame = frame[(frame["split"] == "train") & frame["concept"].isin(concepts)]
    if missing := [name for name in concepts if name not in set(frame["concept"])]:
        what = f"{folder / MANIFEST} has no training picture of {missing[0]!r}."
        raise DataError(what, stage="pictures", action="add one, or name another concept.")
    return frame
