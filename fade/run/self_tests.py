"""The self-test of every model that is loaded, against the one that this runs folder holds for the same
weights, and against a version's record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import SelfTestConfig
from fade.errors import BaseModelError
from fade.provenance.lineage import SELF_TESTS
from fade.provenance.self_tests import SelfTest, deviation, make_self_test
from fade.utils.files import make_folder, read_json, write_json
from fade.utils.notes import note

if TYPE_CHECKING:
    from fade.judges.classifier import Classifier
    from fade.mining.image_encoder import ImageEncoder
    from fade.models.base import DiffusionModel

STAGE = "self-test"


class SelfTests:
    """The self-tests of the models that were loaded, by ``base``, ``clip`` and ``judge``."""

    def __init__(self, folder: Path, config: SelfTestConfig) -> None:
        """folder: of the self-tests that are kept, one file a model."""
        self.folder, self.config = folder, config
        self.measured: dict[str, SelfTest] = {}

    def base(self, model: DiffusionModel) -> None:
        """Test a model that was loaded just now. Raises BaseModelError when it puts out something else than
        the weights did before, unless ``self_test.difference`` is warn; StorageError."""
        from fade.models.self_test import measure_model

        self._keep("base", model.path, make_self_test(measure_model(model), model.sha256, _name(model.dtype)))

    def clip(self, encoder: ImageEncoder, where: str) -> None:
        """As `base`, of CLIP's features."""
        self._vision("clip", encoder, encoder, where)

    def judge(self, judge: Classifier, where: str) -> None:
        """As `base`, of the judge's logits."""
        self._vision("judge", judge, judge.logits, where)

    def _vision(self, name: str, vision: Any, output: Any, where: str) -> None:
        from fade.models.self_test import measure_vision

        dtype = _name(next(vision.model.parameters()).dtype)
        self._keep(name, where, make_self_test(measure_vision(vision, output), vision.sha256, dtype))

    def _keep(self, name: str, where: str, measured: SelfTest) -> None:
        self.measured[name] = measured
        file = self.folder / f"{name}-{measured['sha256']}.json"
        kept = read_json(file)
        if not isinstance(kept, dict) or kept.get("version") != measured["version"]:
            make_folder(file.parent)
            write_json(file, dict(measured))
        else:
            undo = f"delete {file} if it is this machine that is right"
            self._compare(f"{where} ({name})", kept, measured, f"the same weights here before ({file})", undo)

    def to_json(self) -> dict[str, Any]:
        """For a lineage: each model's self-test, and the tolerance."""
        return {"tolerance": self.config.tolerance, **self.measured}

    def require_as_recorded(self, lineage: Mapping[str, Any], label: str) -> None:
        """Compare the models that are loaded with the lineage of a version. Raises BaseModelError as `base`;
        a record without self-tests, or of other weights, is no difference."""
        section = lineage.get(SELF_TESTS)
        recorded = section if isinstance(section, Mapping) else {}
        for name, measured in self.measured.items():
            if name in recorded:
                self._compare(f"the {name}", recorded[name], measured, f"where {label} was made", "")

    def _compare(self, what: str, before: SelfTest, now: SelfTest, where: str, undo: str) -> None:
        if not (differs := deviation(before, now, self.config.tolerance)):
            return
        what = f"{what} puts out something else than {where}: the self-test differs in its {differs}."
        action = "install the libraries and use the precision of the record"
        way = "--set self_test.difference=warn goes on, but what is made then is no evidence"
        action = f"{', '.join(one for one in (action, undo) if one)}; {way}."
        if self.config.difference == "refuse":
            raise BaseModelError(what, stage=STAGE, action=action)
        note(f"{STAGE}: {what}")


def _name(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
