"""The self-test of every model that is loaded, against the one that this runs folder holds for the same
weights, and against a version's record."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fade.config import SelfTestConfig
from fade.provenance.lineage import SELF_TESTS
from fade.provenance.self_tests import SelfTest, require_same
from fade.utils.files import make_folder, read_json, write_json

if TYPE_CHECKING:
    from fade.judges.classifier import Classifier
    from fade.mining.image_encoder import ImageEncoder
    from fade.models.base import DiffusionModel


class SelfTests:
    """The self-tests of the models that were loaded, by ``base``, ``clip``, ``judge`` and
    ``second_judge``."""

    def __init__(self, folder: Path, config: SelfTestConfig) -> None:
        """folder: of the self-tests that are kept, one file a model."""
        self.folder, self.config = folder, config
        self.measured: dict[str, SelfTest] = {}

    def base(self, model: DiffusionModel) -> None:
        """Test a model that was loaded just now. Raises BaseModelError when it puts out something else than
        the weights did before, unless ``self_test.difference`` is warn; StorageError."""
        from fade.jobs.self_tests import base_self_test

        self._keep("base", model.path, base_self_test(model))

    def clip(self, encoder: ImageEncoder, where: str) -> None:
        """As `base`, of CLIP's features."""
        from fade.jobs.self_tests import vision_self_test

        self._keep("clip", where, vision_self_test(encoder, encoder))

    def judge(self, judge: Classifier, where: str, name: str = "judge") -> None:
        """As `base`, of the logits of the judge that ``data`` names so."""
        from fade.jobs.self_tests import vision_self_test

        self._keep(name, where, vision_self_test(judge, judge.logits))

    def _keep(self, name: str, where: str, measured: SelfTest) -> None:
        self.measured[name] = measured
        file = self.folder / f"{name}-{measured['sha256']}.json"
        kept = read_json(file)
        if not isinstance(kept, dict) or kept.get("version") != measured["version"]:
            make_folder(file.parent)
            write_json(file, dict(measured))
        else:
            before = f"the same weights here before ({file})"
            undo = f"delete {file} if it is this machine that is right"
            require_same(kept, measured, self.config, what=f"{where} ({name})", where=before, undo=undo)

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
                made = f"where {label} was made"
                require_same(recorded[name], measured, self.config, what=f"the {name}", where=made)
