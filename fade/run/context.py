"""What the stages of one erasure share: settings, folders, and the models, each loaded once and only when it
is needed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fade.config import Params
from fade.data.manifest import MANIFEST
from fade.data.vocabulary import TOGETHER, Concept, Vocabulary, slug
from fade.utils.files import make_folder
from fade.utils.hashing import fingerprint
from fade.utils.locks import lock_folder

if TYPE_CHECKING:
    from fade.generation.cache import Cache
    from fade.generation.generator import ImageGenerator
    from fade.judges.classifier import Classifier
    from fade.mining.image_encoder import TimedEncoder
    from fade.models import Base


class RunContext:
    """One target (or several, erased together), one set of parameters, one runs folder.

    Not a dataclass: it is handed around, never compared or copied.
    """

    def __init__(self, params: Params, target: str | Sequence[str], runs: Path, root: Path = Path()) -> None:
        self.params, self.runs, self.root = params, runs, root
        self.targets = (target,) if isinstance(target, str) else tuple(dict.fromkeys(target))
        self.target = TOGETHER.join(self.targets)

    def beside(self, params: Params, target: str | Sequence[str]) -> RunContext:
        """A workshop of other parameters and targets around the models that are loaded here; they must name
        the same models and data."""
        run = RunContext(params, target, self.runs, self.root)
        for name in ("base", "judge", "encoder", "vocabulary"):
            run.__dict__[name] = getattr(self, name)
        return run

    def local(self, where: str) -> str:
        """A model directory relative to the project's root; a hub id stays as it is."""
        inside = self.root / where
        return str(inside) if inside.is_dir() or where.startswith("data/") else where

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

    @cached_property
    def base(self) -> Base:
        from fade.models import Base
        from fade.models.stable_diffusion import suppress_library_output
        from fade.training.determinism import enable_determinism

        suppress_library_output()
        enable_determinism()
        return Base.load(self.local(self.params.data.base))

    @cached_property
    def encoder(self) -> TimedEncoder:
        from fade.mining.image_encoder import TimedEncoder

        return TimedEncoder(self.local(self.params.data.clip), self.base.device)

    @cached_property
    def judge(self) -> Classifier:
        from fade.judges.classifier import Classifier

        return Classifier(self.local(self.params.data.judge), self.base.device)

    def labels(self) -> list[str] | None:
        """The concepts that the judge knows, without loading it.

        None when it is no local directory (it will say so itself), and for a judge of styles, which knows
        none."""
        if self.params.data.erase == "styles":
            return None
        config = Path(self.local(self.params.data.judge)) / "config.json"
        if not config.is_file():
            return None
        try:
            return [
                str(label) for label in json.loads(config.read_text(encoding="utf-8"))["id2label"].values()
            ]
        except (ValueError, KeyError, AttributeError):
            return None

    @cached_property
    def generator(self) -> ImageGenerator:
        from fade.generation.generator import ImageGenerator

        return ImageGenerator(self.base, self.params.sampler, self.cache)

    @cached_property
    def key(self) -> str:
        """What decides the outcome: the parameters, the target, the base, the judge, the encoder, the
        vocabulary."""
        names: Sequence[str] = self.vocabulary.names
        models = [self.base.sha256, self.judge.sha256, self.encoder.sha256]
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

    def alone(self) -> AbstractContextManager[None]:
        """Hold the target's lock. Raises BusyError, naming the process, when another run of the target holds
        it."""
        return lock_folder(self.home, f"{self.target!r} is being erased", "run")
