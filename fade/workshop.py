"""What the stages of one erasure share: settings, folders, and the models, each loaded once and only when it is needed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fade.concepts import TOGETHER, Concept, Vocabulary, slug
from fade.config import Params, fingerprint
from fade.errors import BusyError
from fade.files import make_folder, storage_error
from fade.manifest import MANIFEST, glance

if TYPE_CHECKING:
    from fade.base import Base
    from fade.cache import Cache
    from fade.encoder import TimedEncoder
    from fade.evaluation import Judge
    from fade.studio import Studio


class Workshop:
    """One target (or several, erased together), one set of parameters, one runs folder.

    Not a dataclass: it is handed around, never compared or copied.
    """

    def __init__(self, params: Params, target: str | Sequence[str], runs: Path, root: Path = Path()) -> None:
        self.params, self.runs, self.root = params, runs, root
        self.targets = (target,) if isinstance(target, str) else tuple(dict.fromkeys(target))
        self.target = TOGETHER.join(self.targets)

    def beside(self, params: Params, target: str | Sequence[str]) -> Workshop:
        """A workshop of other parameters and targets around the models that are loaded here; they must name the same models and data."""
        shop = Workshop(params, target, self.runs, self.root)
        for name in ("base", "judge", "encoder", "vocabulary"):
            shop.__dict__[name] = getattr(self, name)
        return shop

    def local(self, where: str) -> str:
        """A model directory relative to the project's root; a hub id stays as it is."""
        inside = self.root / where
        return str(inside) if inside.is_dir() or where.startswith("data/") else where

    @cached_property
    def cache(self) -> Cache:
        from fade.cache import Cache

        return Cache(self.runs / "cache")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What can be erased: the manifest's concepts, or its styles."""
        manifest = self.root / self.params.data.images / MANIFEST
        whole = _seen(glance(manifest)) or Vocabulary.from_file(manifest)
        if self.params.data.erase == "concepts":
            return whole
        return Vocabulary(tuple(Concept(style, family="") for style in whole.styles))

    @cached_property
    def base(self) -> Base:
        from fade.base import Base
        from fade.base.model import quiet_libraries
        from fade.repeatable import hold_still

        quiet_libraries()
        hold_still()
        return Base.load(self.local(self.params.data.base))

    @cached_property
    def encoder(self) -> TimedEncoder:
        from fade.encoder import TimedEncoder

        return TimedEncoder(self.local(self.params.data.clip), self.base.device)

    @cached_property
    def judge(self) -> Judge:
        from fade.evaluation import Judge

        return Judge(self.local(self.params.data.judge), self.base.device)

    def labels(self) -> list[str] | None:
        """The concepts that the judge knows, without loading it.

        None when it is no local directory (it will say so itself), and for a judge of styles, which knows none.
        """
        if self.params.data.erase == "styles":
            return None
        config = Path(self.local(self.params.data.judge)) / "config.json"
        if not config.is_file():
            return None
        try:
            return [str(label) for label in json.loads(config.read_text(encoding="utf-8"))["id2label"].values()]
        except (ValueError, KeyError, AttributeError):
            return None

    @cached_property
    def studio(self) -> Studio:
        from fade.studio import Studio

        return Studio(self.base, self.params.sampler, self.cache)

    @cached_property
    def key(self) -> str:
        """What decides the outcome: the parameters, the target, the base, the judge, the encoder, the vocabulary."""
        names: Sequence[str] = self.vocabulary.names
        models = [self.base.sha256, self.judge.sha256, self.encoder.sha256]
        beside = {"attack", *self.params.NO_PART_OF_A_RUN}
        params = self.params.model_dump(mode="json", by_alias=True, exclude=beside)
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
        """Hold the target's lock. Raises BusyError, naming the process, when another run of the target holds it."""
        return hold(self.home, f"{self.target!r} is being erased", "run")


def _seen(rows: Sequence[Mapping[str, str]]) -> Vocabulary | None:
    """`Vocabulary.from_file` of a manifest's rows; None where there are none."""
    pairs = dict.fromkeys((row["concept"], row["family"]) for row in rows)
    styles = dict.fromkeys(row["style"] for row in rows if row["split"] == "train")
    return Vocabulary(tuple(Concept(*pair) for pair in pairs), tuple(styles)) if pairs else None


@contextmanager
def hold(folder: Path, busy: str, stage: str) -> Iterator[None]:
    """Hold the lock of ``folder``. Raises BusyError: ``busy`` and the process that has it. StorageError when it cannot be made."""
    make_folder(folder)
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            action = "wait for it to end, or stop it; the work done so far is kept."
            raise BusyError(f"{busy} by process {holder}.", stage=stage, action=action) from None
        try:
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
        except OSError as error:
            raise storage_error(error, folder, stage) from error
        yield  # the lock goes with the process, so a killed run leaves none behind
