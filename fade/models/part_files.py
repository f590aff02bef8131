"""Which files of a model are read: of each part its configuration, its safetensors weights, its tokenizer.

The same choice for a local directory and for a hub, so that a hub is asked for nothing else. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fade.errors import BaseModelError
from fade.models.judge_checks import STAGE as JUDGE_STAGE
from fade.models.judge_checks import import_action
from fade.models.safetensors_file import read_header
from fade.utils.parsing import MalformedError, parse_json
from fade.utils.reading import RECORD, read_text

Find = Callable[[str], Path | None]
"""A file's path by its name below the model, POSIX; None when the model has no such file."""
VARIANTS = ("", "fp16")
"""Weights that are read, the first that is there; every other twin is ignored."""
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl", ".pickle")
"""Ends of files that can hold code; one of a judge is read by `fade judge import`, as tensors alone."""
HARMLESS = ("position_ids", "num_batches_tracked")
"""Ends of tensors' names that the libraries count themselves; their presence means nothing."""
WEIGHTS, INTEGERS = (".weight", ".bias"), ("I", "U", "BOOL")
"""Ends of the names of tensors that are real numbers in every class; beginnings of dtypes that are none."""
UNQUANTISED = "fetch the model in fp32, fp16 or bf16: quantised weights are not supported."
TOKENIZER_FILES = ("special_tokens_map.json", "added_tokens.json")
_CLIP_TEXT, _TEXT_PREFIX = ("CLIPTextModel", "CLIPTextModelWithProjection"), "text_model."
_CONVERT = (
    'where you trust its author (a pickle can run code), convert it: python -c "from {library} import {kind} '
    "as M; M.from_pretrained('{folder}', use_safetensors=False).save_pretrained('{folder}')\""
)


@dataclass(frozen=True)
class PartFiles:
    """The files of one part that are read."""

    name: str
    """Its folder below the model; "" for a model of one part."""
    kind: str
    """The class that is loaded."""
    configs: tuple[Path, ...]
    weights: tuple[Path, ...] = ()
    """Safetensors files, shards in order; () for a tokenizer or a scheduler."""
    variant: str = ""
    """One of `VARIANTS`."""
    index: Path | None = None
    """Of sharded weights: which shard holds which tensor."""
    prefix: str | None = None
    """Of weights in the original key layout: what the names of its tensors begin with in the one file."""

    @property
    def folder(self) -> Path:
        return self.configs[0].parent

    @property
    def place(self) -> Path:
        """Where its weights are: for sentences."""
        return self.folder if self.prefix is None else self.weights[0]

    def tensors(self, stage: str) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Name (without the file's prefix) -> (dtype, shape) of every tensor of the part. Raises
        BaseModelError for a file that is no safetensors file, for a tensor that is there twice, and for
        weights in whole numbers."""
        found: dict[str, tuple[str, tuple[int, ...]]] = {}
        prefix = self.prefix or ""
        for file in self.weights:
            for whole, entry in tensor_entries(file, stage).items():
                if not whole.startswith(prefix):
                    continue
                if (name := whole.removeprefix(prefix)) in found:
                    raise _fault(f"{self.place} holds the tensor {name} in two files.", stage)
                found[name] = entry["dtype"], tuple(entry["shape"])
        names: dict[str, str] = {}
        for name, (dtype, _) in found.items():
            if (other := names.setdefault(plain_name(name, self.kind), name)) != name:
                # one of the two would win silently
                both = f"{prefix}{other} and as {prefix}{name}"
                raise _fault(f"{self.place} holds one tensor as {both}.", stage)
            if name.endswith(WEIGHTS) and dtype.startswith(INTEGERS):
                what = f"{self.place} holds {prefix}{name} in whole numbers ({dtype}): it is quantised."
                raise _fault(what, stage, UNQUANTISED)
        return found


def _fault(what: str, stage: str, action: str = "fetch the model anew.") -> BaseModelError:
    return BaseModelError(what, stage=stage, action=action)


def plain_name(name: str, kind: str) -> str:
    """A tensor's name in the layout of transformers since 5.6, where CLIP's text models have no prefix."""
    return name.removeprefix(_TEXT_PREFIX) if kind in _CLIP_TEXT else name


def tensor_entries(file: Path, stage: str) -> dict[str, dict[str, Any]]:
    """Name -> dtype, shape, data_offsets, in the order of the bytes. Raises BaseModelError."""
    try:
        header = read_header(file, None)
        entries = sorted(header.tensors.items(), key=lambda item: (item[1]["data_offsets"], item[0]))
        end = 0
        for name, entry in entries:
            start, stop = entry["data_offsets"]
            if start != end or stop < start or not isinstance(entry["shape"], list):
                raise MalformedError(f"the bytes of {name[:80]!r} are not where its head puts them")
            end = stop
        size = header.end + end
        if size != file.stat().st_size:
            raise MalformedError(f"it has {file.stat().st_size} bytes, its head names {size}: it is cut off")
    except (OSError, MalformedError, KeyError, TypeError, ValueError) as error:
        raise _fault(f"{file} is no whole safetensors file: {error}.", stage) from None
    return dict(entries)


def select_files(
    find: Find, name: str, kind: str, stage: str, where: str, single: tuple[Path, str | None] | None = None
) -> PartFiles:
    """The files of a part of the class ``kind``; single: the one file in the original layout, and the prefix
    of the part in it (None: the part's weights are the directory's). Raises BaseModelError that names what is
    missing."""
    base = f"{name}/" if name else ""

    def need(file: str) -> Path:
        if (path := find(base + file)) is None:
            raise _fault(f"{where}/{base}{file} is missing.", stage)
        return path

    if "Scheduler" in kind:
        return PartFiles(name, kind, (need("scheduler_config.json"),))
    if "Tokenizer" in kind:
        words = tokenizer_files(find, name, stage, where)
        return PartFiles(name, kind, (need("tokenizer_config.json"), *words))
    config, stem = need("config.json"), weights_stem(kind)
    if single and single[1] is not None:
        return PartFiles(name, kind, (config,), (single[0],), prefix=single[1])
    for variant in VARIANTS:
        tag = f".{variant}" if variant else ""
        whole, index = find(f"{base}{stem}{tag}.safetensors"), f"{stem}.safetensors.index{tag}.json"
        shards = find(base + index)
        if whole and shards:
            what = f"{where}/{base}: {whole.name} and the shards of {index} are both there."
            raise _fault(what, stage, "remove one of the two: they may differ.")
        if whole:
            return PartFiles(name, kind, (config,), (whole,), variant)
        if shards:
            files = tuple(need(one) for one in _shards(shards, stage))
            return PartFiles(name, kind, (config,), files, variant, shards)
    place = f"{single[0]} has no {name}, and {config.parent}" if single else f"{where}/{name}".rstrip("/")
    raise _no_weights(config.parent, place, kind, stem, stage)


def tokenizer_files(find: Find, name: str, stage: str, where: str) -> tuple[Path, ...]:
    """A tokenizer's files beside its configuration. Raises BaseModelError when it has no vocabulary:
    transformers would make an empty one, and all prompts would be one."""
    base = f"{name}/" if name else ""
    main = [path for path in (find(f"{base}tokenizer.json"),) if path]
    if not main:
        main = [path for path in map(find, (f"{base}vocab.json", f"{base}merges.txt")) if path]
        if len(main) < 2:
            main = [path for path in (find(f"{base}spiece.model"),) if path]
    if not main:
        what = f"{where}/{name}".rstrip("/") + " has no tokenizer.json, no vocab.json with merges.txt."
        raise _fault(f"The tokenizer of {what}", stage)
    return (*main, *(path for path in (find(base + one) for one in TOKENIZER_FILES) if path))


def weights_stem(kind: str) -> str:
    """A weights file's name without its ending, by the library of the class."""
    diffusers = kind.startswith("Autoencoder") or kind.endswith(("ConditionModel", "Transformer2DModel"))
    return "diffusion_pytorch_model" if diffusers else "model"


def _shards(index: Path, stage: str) -> list[str]:
    try:
        content = parse_json(read_text(index, RECORD), ours=False)
        names = sorted({str(one) for one in content["weight_map"].values()})
    except (OSError, MalformedError, KeyError, TypeError, AttributeError) as error:
        raise _fault(f"{index} cannot be read: {error}.", stage) from None
    for name in names:
        if PurePosixPath(name).name != name or not name.endswith(".safetensors"):
            raise _fault(f"{index} names {name[:80]!r}, no safetensors file beside it.", stage)
    return names


def _no_weights(folder: Path, where: str, kind: str, stem: str, stage: str) -> BaseModelError:
    what = f"{where} holds no safetensors weights ({stem}.safetensors, its shards, or the fp16 twin)"
    pickles = [file.name for file in sorted(folder.iterdir()) if file.suffix.lower() in PICKLES]
    if not pickles:
        return _fault(f"{what}.", stage)
    library = "transformers" if stem == "model" else "diffusers"
    action = _CONVERT.format(library=library, kind=kind, folder=folder)
    if stage == JUDGE_STAGE:
        action = import_action(folder)
    return _fault(f"{what}, only {', '.join(pickles[:3])}, and no pickle is loaded.", stage, action)


def in_folder(home: Path) -> Find:
    """`Find` of a local directory."""
    return lambda name: path if (path := home / name).is_file() else None


def paths_of(parts: Iterable[PartFiles]) -> list[Path]:
    """Every file that is read."""
    return [path for part in parts for path in (*part.configs, *part.weights, part.index) if path]
