"""Somebody else's image classifier as a judge: a hub's folder, torchvision's file, timm's folder or file.

A pickle is read once, here, as tensors alone (``weights_only``: no code of the file runs). What is written is
transformers' layout with safetensors, which every run reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fade.errors import BaseModelError
from fade.judges.judge_folder import require_free, write_judge
from fade.judges.label_tables import name_classes
from fade.judges.making import IMPORT
from fade.judges.preparation import Preparation, from_timm, from_transformers
from fade.judges.resnet_layout import ARCHITECTURES, fill, supported, to_transformers
from fade.models.complete import check_finite, load_complete
from fade.models.judge_checks import is_timm, label_names
from fade.models.layout import CODE_KEYS, JUDGE, LOCAL, check_model, read_config
from fade.models.part_files import tensor_entries
from fade.models.probe import check_output
from fade.utils import progress
from fade.utils.hashing import sha256_of
from fade.utils.reading import check_regular

STAGE = "judge"
PICKLE_SUFFIXES = (".pth", ".pt", ".bin")
SAFETENSORS, PICKLED, CONFIG = "model.safetensors", "pytorch_model.bin", "config.json"
PREPROCESSOR = "preprocessor_config.json"
TORCHVISION = {
    "f37072fd": ("resnet18 IMAGENET1K_V1", 256),
    "b627a593": ("resnet34 IMAGENET1K_V1", 256),
    "0676ba61": ("resnet50 IMAGENET1K_V1", 256),
    "11ad3fa6": ("resnet50 IMAGENET1K_V2", 232),
    "63fe2227": ("resnet101 IMAGENET1K_V1", 256),
    "cd907fc2": ("resnet101 IMAGENET1K_V2", 232),
    "394f9c45": ("resnet152 IMAGENET1K_V1", 256),
    "f82ba261": ("resnet152 IMAGENET1K_V2", 232),
}
"""Beginning of the sha256 of torchvision's file, which is in its name -> its weights, pixels of the shorter
side. All are cut to 224 pixels."""
_CUT = 224
_SHAPE = (
    "name a hub's folder (config.json, model.safetensors), timm's folder, or one .pth or .safetensors file."
)


@dataclass(frozen=True)
class Source:
    """A classifier as it was found."""

    model: Any
    """Transformers' network, float32 on the CPU, frozen, in eval mode."""
    layout: str
    """What was recognised, in words."""
    files: Mapping[str, str]
    """Name -> sha256 of what was read."""
    labels: tuple[str, ...] = ()
    """Of its classes; empty where its files name none."""
    preparation: Preparation | None = None
    """None where its files do not say."""

    @property
    def classes(self) -> int:
        return int(self.model.config.num_labels)

    def require_preparation(self, resize: int | None = None, crop: int | None = None) -> Preparation:
        """How it takes pictures; ``resize`` and ``crop`` win. Raises BaseModelError where neither says."""
        known = self.preparation
        if known is not None:
            return replace(known, resize=resize or max(known.resize, crop or 0), crop=crop or known.crop)
        if resize is None or crop is None:
            what = f"{self.layout}: how it takes pictures is not in the file."
            action = "give --resize and --crop (torchvision's weights: V1 256 and 224, V2 232 and 224)."
            raise BaseModelError(what, stage=STAGE, action=action)
        return Preparation(resize, crop)


def import_judge(
    path: Path, out: Path, names: str | None = None, resize: int | None = None, crop: int | None = None
) -> dict[str, Any]:
    """Read a classifier, name its classes and write it to the directory ``out``; returns what import.json
    holds, and where it is.

    names: see `fade.judges.label_tables.name_classes`; resize, crop: pixels, see `Preparation`. Raises
    BaseModelError for a network that is not imported, with the tensor or key that is at fault; DataError and
    UsageError for names; StorageError, also where ``out`` is taken."""
    require_free(out)
    progress.report("import", 0, 3, f"reading {path.name}")
    source = read_source(path)
    preparation = source.require_preparation(resize, crop)
    concepts = name_classes(source.labels, source.classes, names)
    progress.report("import", 1, 3, source.layout)
    check_output(source.model, preparation.crop, str(path), STAGE)
    own = source.labels or tuple(map(str, range(source.classes)))
    record = {
        "layout": source.layout,
        "source": {"name": path.name, "files": dict(source.files)},
        "classes": source.classes,
        "resize": preparation.resize,
        "crop": preparation.crop,
        "interpolation": preparation.interpolation,
        "names": _origin(names),
        "table": [
            {"position": i, "label": label, "concept": concept}
            for i, (label, concept) in enumerate(zip(own, concepts, strict=True))
        ],
    }
    progress.report("import", 2, 3, f"writing {out}")
    write_judge(out, source.model, concepts, preparation, {IMPORT: record})
    progress.report("import", 3, 3, source.layout)
    return {"out": str(out), **record}


def _origin(names: str | None) -> dict[str, str]:
    if names is None:
        return {"from": "the classifier"}
    path = Path(names)
    return {"from": path.name, "sha256": sha256_of(path)} if path.is_file() else {"from": names}


def read_source(path: Path) -> Source:
    """Recognise and read a classifier. Raises BaseModelError."""
    if path.is_dir():
        if not (path / CONFIG).is_file():
            raise _fault(f"{path / CONFIG} is missing.", _SHAPE)
        config = read_config(path / CONFIG, STAGE)
        if named := [key for key in CODE_KEYS if config.get(key)]:
            raise _fault(
                f"{path / CONFIG} is refused: its {named[0]} names code, which is never run.", _SHAPE
            )
        return _from_timm(path, config) if is_timm(config) else _from_hub(path, config)
    if not path.exists():
        raise _fault(f"{path} is not there.", _SHAPE)
    state = read_tensors(path)
    model, architecture = to_transformers(state, str(path))
    digest = sha256_of(path)
    weights, side = TORCHVISION.get(digest[:8], ("", 0))
    known = f"torchvision's {weights}" if weights else f"one file, by its tensors a {architecture.name}"
    preparation = Preparation(side, _CUT) if weights else None
    return Source(model, known, {path.name: digest}, preparation=preparation)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one file by name, on the CPU. Raises BaseModelError for a file of another kind, one that
    is cut off, and one that holds more than tensors, of which nothing is run."""
    suffix = path.suffix.lower()
    try:
        check_regular(path)
        if suffix == ".safetensors":
            tensor_entries(path, STAGE)  # its head, before its weights
            return dict(load_file(path))
        if suffix not in PICKLE_SUFFIXES:
            raise _fault(f"{path} is no classifier's file.", _SHAPE)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except BaseModelError:
        raise
    except Exception as error:  # torch raises a dozen kinds
        why = " ".join(str(error).split())[:200]
        action = "fetch it anew; a pickle that holds more than tensors is not read."
        raise _fault(f"{path} cannot be read as tensors alone: {why}.", action) from None
    if isinstance(content, Mapping) and all(isinstance(one, Tensor) for one in content.values()):
        return {str(name): tensor for name, tensor in content.items()}
    keys = ", ".join(map(str, content))[:120] if isinstance(content, Mapping) else type(content).__name__
    action = "save the network's state_dict alone (torch.save(model.state_dict(), FILE)), and name FILE."
    raise _fault(f"{path} holds no mapping of names to tensors ({keys}).", action)


def _from_timm(path: Path, config: Mapping[str, Any]) -> Source:
    name = str(config.get("architecture") or (config.get("pretrained_cfg") or {}).get("architecture"))
    if name not in ARCHITECTURES:
        what = f"{path / CONFIG} names timm's architecture {name[:80]!r}; imported are {supported()}."
        raise _fault(what, "name a folder of one of them.")
    file = _weights(path)
    model, architecture = to_transformers(read_tensors(file), str(file))
    classes = config.get("num_classes", model.config.num_labels)
    if (architecture.name, classes) != (name, model.config.num_labels):
        holds = f"{architecture.name} with {model.config.num_labels} classes"
        raise _fault(f"{path / CONFIG} names {name} with {classes} classes, {file.name} holds {holds}.")
    own = config.get("label_names")
    labels = tuple(map(str, own)) if isinstance(own, list) and len(own) == classes else ()
    return Source(model, f"timm's {name}", _hashes(path, CONFIG, file.name), labels, from_timm(config))


def _from_hub(path: Path, config: Mapping[str, Any]) -> Source:
    from transformers import AutoConfig, AutoModelForImageClassification

    held = [file.name for file in sorted(path.iterdir())]
    others = [name for name in held if name.endswith(PICKLE_SUFFIXES) and name != PICKLED]
    bare = not any(name.endswith(".safetensors") for name in held)
    if bare and others and PICKLED not in held:
        what = f"{path} holds neither {SAFETENSORS} nor {PICKLED}, only {', '.join(others[:3])}."
        raise _fault(what, f"name the file: `fade judge import {path / others[0]}`.")
    if bare and PICKLED in held:
        state = read_tensors(path / PICKLED)
        try:
            settings = AutoConfig.from_pretrained(path, **LOCAL)
            with torch.random.fork_rng(devices=[]):
                model = AutoModelForImageClassification.from_config(settings, trust_remote_code=False)
        except Exception as error:  # transformers raises a dozen kinds
            why = " ".join(str(error).split())[:200]
            raise _fault(f"{path / CONFIG} is no classifier's: {why}.", _SHAPE) from None
        model = model.float().eval().requires_grad_(False)
        fill(model, state, str(path / PICKLED), type(model).__name__)
        files = [PICKLED]
    else:
        (part,) = check_model(path, JUDGE, labels=False)
        model = load_complete(AutoModelForImageClassification, part, torch.float32, JUDGE)
        files = [file.relative_to(path).as_posix() for file in part.weights]
    check_finite(str(path), model, STAGE)
    names = label_names(config)
    labels = () if names == [f"LABEL_{i}" for i in range(len(names))] else tuple(names)
    given = path / PREPROCESSOR
    preparation = from_transformers(read_config(given, STAGE)) if given.is_file() else None
    files += [CONFIG, *([PREPROCESSOR] if preparation else [])]
    return Source(model, f"a hub's {type(model).__name__}", _hashes(path, *files), labels, preparation)


def _weights(path: Path) -> Path:
    for name in (SAFETENSORS, PICKLED):
        if (path / name).is_file():
            return path / name
    raise _fault(f"{path} holds neither {SAFETENSORS} nor {PICKLED}.")


def _hashes(path: Path, *names: str) -> dict[str, str]:
    return {name: sha256_of(path / name) for name in names}


def _fault(what: str, action: str = "fetch it anew.") -> BaseModelError:
    return BaseModelError(what, stage=STAGE, action=action)
