"""What the stages of one erasure share: parameters, folders, the lock and the key."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fade.config import Params
from fade.data.manifest import MANIFEST
from fade.data.vocabulary import TOGETHER, Concept, Vocabulary, slug
from fade.errors import BaseModelError
from fade.models.layout import JUDGE, SECOND_JUDGE, read_config, resolve
from fade.provenance.lineage import SELF_TESTS
from fade.run.loaded_models import LoadedModels
from fade.run.self_tests import SelfTests
from fade.utils.files import make_folder
from fade.utils.hashing import fingerprint
from fade.utils.locks import lock_folder

if TYPE_CHECKING:
    from fade.generation.cache import Cache
    from fade.generation.generator import ImageGenerator


class RunContext:
    """One target (or several, erased together), one set of parameters, one runs folder.

    Not a dataclass: it is handed around, never compared or copied.
    """

    def __init__(
        self,
        params: Params,
        target: str | Sequence[str],
        runs: Path,
        root: Path = Path(),
        models: LoadedModels | None = None,
    ) -> None:
        self.params, self.runs, self.root = params, runs, root
        self_tests = SelfTests(runs / "cache" / SELF_TESTS, params.self_test)
        self.models = models or LoadedModels(params.data, self_tests, root, params.model)
        self.targets = (target,) if isinstance(target, str) else tuple(dict.fromkeys(target))
        self.target = TOGETHER.join(self.targets)

    def with_params(self, params: Params, target: str | Sequence[str]) -> RunContext:
        """A run of other parameters and targets with the models that are loaded here; ``params`` must name
        the same models and data."""
        run = RunContext(params, target, self.runs, self.root, self.models)
        run.__dict__["vocabulary"] = self.vocabulary
        return run

    @cached_property
    def cache(self) -> Cache:
        from fade.generation.cache import Cache

        return Cache(self.runs / "cache")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What can be erased: the manifest's concepts, or its styles."""
        whole = Vocabulary.from_file(self.root / self.params.data.images / MANIFEST)
        if self.params.data.erase == "concepts":
            return whole
        return Vocabulary(tuple(Concept(style, family="") for style in whole.styles))

    def labels(self) -> list[str] | None:
        """The concepts that the judge knows: `judge_labels`; None for a judge of styles, which knows none."""
        return None if self.params.data.erase == "styles" else self.judge_labels()

    def judge_labels(self, role: str = JUDGE) -> list[str] | None:
        """What the judge, or the second one, tells apart, without loading it.

        A hub id is resolved as where the judge is loaded: to the files of its revision, in the hub's cache.
        None when it cannot be read (loading it says why)."""
        try:
            config = read_config(resolve(self.models.where(role), JUDGE) / "config.json", JUDGE)
            return [str(label) for label in config["id2label"].values()]
        except (BaseModelError, KeyError, AttributeError):
            return None

    @cached_property
    def generator(self) -> ImageGenerator:
        from fade.generation.generator import ImageGenerator

        return ImageGenerator(self.models.base, self.params.sampler, self.cache)

    @cached_property
    def key(self) -> str:
        """What decides the outcome: the parameters, the target, the base, the judge, the encoder, the
        vocabulary."""
        names: Sequence[str] = self.vocabulary.names
        models = [self.models.base.sha256, self.models.judge.sha256, self.models.encoder.sha256]
        models += [self.models.sha256(SECOND_JUDGE)] if self.params.data.second_judge else []
        params = self.params.run_fields()
        return fingerprint({"target": self.target, "params": params, "models": models, "names": names})

    @cached_property
    def folder(self) -> Path:
        """The run's folder below ``runs/erase``; made when first asked for. Raises StorageError."""
        folder = self.home / self.key[:12]
        make_folder(folder)
        return folder

    @property
    def home(self) -> Path:
        return self.runs / "erase" / slug(self.target)

    def lock_target(self) -> AbstractContextManager[None]:
        """Hold the target's lock. Raises BusyError, naming the process, when another run of the target holds
        it."""
        return lock_folder(self.home, f"{self.target!r} is being erased", "run")
