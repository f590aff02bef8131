"""The models of a run, each loaded once and only when it is needed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fade.config import DataConfig, ModelConfig

if TYPE_CHECKING:
    from fade.judges.classifier import Classifier
    from fade.mining.image_encoder import TimedEncoder
    from fade.models.base import DiffusionModel


class LoadedModels:
    """The base, its CLIP and the judge that ``data`` names, relative to the project's ``root``."""

    def __init__(self, data: DataConfig, root: Path = Path(), model: ModelConfig | None = None) -> None:
        self._data, self._root, self._model = data, root, model or ModelConfig()

    def local(self, where: str) -> str:
        """A model directory relative to the project's root; a hub id stays as it is."""
        inside = self._root / where
        return str(inside) if inside.is_dir() or where.startswith("data/") else where

    @cached_property
    def base(self) -> DiffusionModel:
        """The original model. Raises BaseModelError."""
        from fade.models.loading import suppress_library_output
        from fade.models.memory import load_fitting
        from fade.training.determinism import enable_determinism

        suppress_library_output()
        enable_determinism()
        return load_fitting(self.local(self._data.base), self._model, beside=self.beside())

    def beside(self) -> int:
        """Bytes of the CLIP's and the judge's weights in their directories; 0 for those of a hub."""
        folders = (Path(self.local(where)) for where in (self._data.clip, self._data.judge))
        return sum(file.stat().st_size for folder in folders for file in folder.glob("*.safetensors"))

    @cached_property
    def encoder(self) -> TimedEncoder:
        """CLIP's image encoder, on the base's device. Raises BaseModelError."""
        from fade.mining.image_encoder import TimedEncoder

        return TimedEncoder(self.local(self._data.clip), self.base.device)

    @cached_property
    def judge(self) -> Classifier:
        """The classifier, on the base's device. Raises BaseModelError."""
        from fade.judges.classifier import Classifier

        return Classifier(self.local(self._data.judge), self.base.device)
