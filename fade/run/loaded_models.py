"""The models of a run, each loaded once and only when it is needed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fade.config import DataConfig

if TYPE_CHECKING:
    from fade.judges.classifier import Classifier
    from fade.mining.image_encoder import TimedEncoder
    from fade.models.base import DiffusionModel
    from fade.run.self_tests import SelfTests


class LoadedModels:
    """The base, its CLIP and the judge that ``data`` names, relative to the project's ``root``; each is
    tested when it is loaded."""

    def __init__(self, data: DataConfig, self_tests: SelfTests, root: Path = Path()) -> None:
        self._data, self._root, self.self_tests = data, root, self_tests

    def local(self, where: str) -> str:
        """A model directory relative to the project's root; a hub id stays as it is."""
        inside = self._root / where
        return str(inside) if inside.is_dir() or where.startswith("data/") else where

    @cached_property
    def base(self) -> DiffusionModel:
        """The original model. Raises BaseModelError, also for a self-test that differs (`SelfTests`)."""
        from fade.models.loading import load_model, suppress_library_output
        from fade.training.determinism import enable_determinism

        suppress_library_output()
        enable_determinism()
        base = load_model(self.local(self._data.base))
        self.self_tests.base(base)
        return base

    @cached_property
    def encoder(self) -> TimedEncoder:
        """CLIP's image encoder, on the base's device. Raises BaseModelError."""
        from fade.mining.image_encoder import TimedEncoder

        encoder = TimedEncoder(self.local(self._data.clip), self.base.device)
        self.self_tests.clip(encoder, self._data.clip)
        return encoder

    @cached_property
    def judge(self) -> Classifier:
        """The classifier, on the base's device. Raises BaseModelError."""
        from fade.judges.classifier import Classifier

        judge = Classifier(self.local(self._data.judge), self.base.device)
        self.self_tests.judge(judge, self._data.judge)
        return judge
