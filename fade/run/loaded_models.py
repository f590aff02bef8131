"""The models of a run, each loaded once and only when it is needed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import DataConfig, ModelConfig
from fade.errors import BaseModelError
from fade.judges.making import making
from fade.models.hub import TRACKED, is_hub_id, origin
from fade.models.identity import file_hashes
from fade.models.layout import (
    BASE,
    CLIP,
    JUDGE,
    SECOND_JUDGE,
    files_of,
    legacy_sha256,
    model_sha256,
    resolve,
)
from fade.models.single_file import SUFFIX, join

if TYPE_CHECKING:
    from fade.judges.classifier import Classifier
    from fade.mining.image_encoder import TimedEncoder
    from fade.models.base import DiffusionModel
    from fade.run.self_tests import SelfTests


class LoadedModels:
    """The base, its CLIP, the judge and the second one that ``data`` names, relative to the project's
    ``root``; each is tested when it is loaded."""

    def __init__(
        self,
        data: DataConfig,
        self_tests: SelfTests,
        root: Path = Path(),
        model: ModelConfig | None = None,
    ) -> None:
        self._data, self._root, self.self_tests = data, root, self_tests
        self._model = model or ModelConfig()

    def local(self, where: str) -> str:
        """A model directory or file relative to the project's root; a hub id stays as it is."""
        inside = self._root / where
        return str(inside) if inside.exists() or where.startswith(TRACKED) else where

    @property
    def kinds(self) -> dict[str, str]:
        """Role -> what its model is (BASE, CLIP, JUDGE), of the models that ``data`` names."""
        second = {SECOND_JUDGE: JUDGE} if self._data.second_judge else {}
        return {BASE: BASE, CLIP: CLIP, JUDGE: JUDGE, **second}

    def where(self, role: str) -> str:
        """What ``data`` names for a role: a directory, a hub id, or a base's file with its configurations.
        Raises BaseModelError for a ``base_config`` beside any other base."""
        where = self.local(str(getattr(self._data, role)))
        if role != BASE or not self._data.base_config:
            return where
        if not where.endswith(SUFFIX):
            what = f"data.base_config is set, and data.base = {self._data.base} is no {SUFFIX} file."
            action = 'set data.base_config="" for a directory or a hub id.'
            raise BaseModelError(what, stage=BASE, action=action)
        return join(where, self.local(self._data.base_config))

    def sha256(self, role: str) -> str:
        """The hash of a model that need not be loaded. Raises BaseModelError for one that is not there."""
        kind = self.kinds[role]
        return model_sha256(resolve(self.where(role), kind), kind)

    def legacy_sha256(self, role: str) -> str:
        """The hash by which earlier versions name it."""
        kind = self.kinds[role]
        return legacy_sha256(resolve(self.where(role), kind), kind)

    def record(self) -> dict[str, dict[str, Any]]:
        """Role -> the model's hashes, those of its files, and where it is from: hub id, revision, licence;
        of a judge also how it was made (`making`). Raises BaseModelError."""
        out = {}
        for role, kind in self.kinds.items():
            where = self.where(role)
            home = resolve(where, kind)
            files = file_hashes(home, files_of(home, kind))
            hashes = {"sha256": model_sha256(home, kind), "legacy_sha256": legacy_sha256(home, kind)}
            made = making(home) if kind == JUDGE else {}
            out[role] = {**hashes, **origin(where, home), **made, "files": files}
        return out

    def inputs(self) -> dict[str, str]:
        """Role -> hash, as it is now, of the models that are local directories."""
        return {role: self.sha256(role) for role in self.kinds if not is_hub_id(self.where(role))}

    @cached_property
    def base(self) -> DiffusionModel:
        """The original model. Raises BaseModelError, also for a self-test that differs (`SelfTests`)."""
        from fade.models.loading import suppress_library_output
        from fade.models.memory import load_fitting
        from fade.training.determinism import enable_determinism

        suppress_library_output()
        enable_determinism()
        base = load_fitting(self.where(BASE), self._model, beside=self.beside())
        self.self_tests.base(base)
        return base

    def beside(self) -> int:
        """Bytes of the CLIP's and the judges' weights in their directories; 0 for those of a hub."""
        folders = (Path(self.where(role)) for role in self.kinds if role != BASE)
        return sum(file.stat().st_size for folder in folders for file in folder.glob("*.safetensors"))

    @cached_property
    def encoder(self) -> TimedEncoder:
        """CLIP's image encoder, on the base's device. Raises BaseModelError."""
        from fade.mining.image_encoder import TimedEncoder

        encoder = TimedEncoder(self.where(CLIP), self.base.device)
        self.self_tests.clip(encoder, self._data.clip)
        return encoder

    @cached_property
    def judge(self) -> Classifier:
        """The classifier, on the base's device. Raises BaseModelError."""
        from fade.judges.classifier import Classifier

        judge = Classifier(self.where(JUDGE), self.base.device)
        self.self_tests.judge(judge, self._data.judge)
        return judge

    @cached_property
    def second_judge(self) -> Classifier | None:
        """As `judge`, of data.second_judge; None where that names none."""
        if not self._data.second_judge:
            return None
        from fade.judges.classifier import Classifier

        judge = Classifier(self.where(SECOND_JUDGE), self.base.device, SECOND_JUDGE)
        self.self_tests.judge(judge, self._data.second_judge, SECOND_JUDGE)
        return judge
