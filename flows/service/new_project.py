"""`fade init`: the folder of a project for somebody's own model, pictures and judge."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fade.data.importers.records import read_record
from fade.data.manifest import MANIFEST, read_manifest
from fade.errors import DataError, UsageError
from fade.models.layout import pipeline_class
from fade.utils.files import make_folder, write_whole

STAGE = "init"
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "sd": {"sampler": {"scheduler": "dpmpp_2m", "steps": 25, "guidance_scale": 7.5}, "dtype": "fp32"},
    "sdxl": {"sampler": {"scheduler": "dpmpp_2m", "steps": 30, "guidance_scale": 5.0}, "dtype": "bf16"},
    "sd3": {"sampler": {"scheduler": "euler", "steps": 28, "guidance_scale": 7.0}, "dtype": "bf16"},
    "flux": {"sampler": {"scheduler": "euler", "steps": 28, "guidance_scale": 3.5}, "dtype": "bf16"},
}
"""Starting points by family: solver, steps and guidance as its pipeline's own defaults have them."""
PIPELINES = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd3",
    "FluxPipeline": "flux",
}
REQUESTS = """\
# The team's erasure requests: `fade requests add` appends one, `fade requests` shows each one's state.
requests: []
"""
IGNORED = (
    "/runs/",
    "/.dvc/tmp",
    "/.dvc/cache",
    "/.dvc/config.local",
    "keys/",
    "*.pem",
    "/.requests.yaml.lock",
)


@dataclass(frozen=True)
class ProjectOptions:
    """What a project is made of; models are local directories or pinned hub ids."""

    base: str
    images: Path
    judge: str
    clip: str
    family: str = ""
    """Of the base; "": as its model_index.json has it."""
    name: str = "fade"
    """Prefix of the registered models."""
    licences: Sequence[str] = ()
    """Of the pictures; (): as their manifest has them."""


def create_project(folder: Path, options: ProjectOptions) -> dict[str, Any]:
    """Write params.yaml, requests.yaml, .gitignore and .dvc/ in ``folder``; returns ``folder``, ``family``,
    ``files``. Nothing that is there is replaced. Raises UsageError, BaseModelError, StorageError."""
    family = options.family or _family_of(options.base)
    if family not in FAMILIES:
        what = f"the family of {options.base} is not known." if not family else f"{family!r} is no family."
        raise UsageError(what, stage=STAGE, action=f"name it with --family: {', '.join(FAMILIES)}.")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,40}", options.name):
        action = "use letters, digits, - and _."
        raise UsageError(f"{options.name!r} is no name for models.", stage=STAGE, action=action)
    texts = {
        "params.yaml": _params(folder, family, options),
        "requests.yaml": REQUESTS,
        ".gitignore": "\n".join(IGNORED) + "\n",
    }
    if there := [name for name in (*texts, ".dvc") if (folder / name).exists() and name != ".gitignore"]:
        what = f"{folder} has {', '.join(there)} already."
        raise UsageError(what, stage=STAGE, action="name a new folder; nothing was written.")
    make_folder(folder)
    for name, text in texts.items():
        if not (folder / name).exists():
            write_whole(folder / name, text, stage=STAGE)
    _init_dvc(folder)
    return {"folder": str(folder), "family": family, "files": sorted([*texts, ".dvc/config"])}


def _family_of(base: str) -> str:
    """By a local directory's model_index.json; "" for a hub id or a single file."""
    if not (Path(base) / "model_index.json").is_file():
        return ""
    return PIPELINES.get(pipeline_class(Path(base)), "")


def _params(folder: Path, family: str, options: ProjectOptions) -> str:
    """The text of params.yaml: what differs from the defaults, each section with its reason."""
    profile = FAMILIES[family]
    known, photographs = _pictures(options.images)
    licences = [*options.licences] or known
    prompt = "a photo of a {concept}" if photographs else "a {concept}"
    sections: list[tuple[str, dict[str, Any]]] = [
        (
            "What the project works on. A relative path is looked up from this file.",
            {
                "data": {
                    "dvc_file": [],
                    "images": _place(folder, str(options.images)),
                    "base": _place(folder, options.base),
                    "clip": _place(folder, options.clip),
                    "judge": _place(folder, options.judge),
                }
            },
        ),
        (
            f"The {family} family's own precision; fp32 where memory allows.",
            {"model": {"dtype": profile["dtype"]}},
        ),
        (
            "The pictures: photographs have any size; these licences may be among them.",
            {"checks": {"kind": "photographs" if photographs else "drawings", "licences": licences}},
        ),
        (
            f"How pictures are made: the {family} pipeline's own defaults, a starting point.",
            {"sampler": {**profile["sampler"], "batch_size": 8, "prompt": prompt}},
        ),
        ("Names in the registry begin with it.", {"register": {"model_prefix": options.name}}),
    ]
    head = (
        "# Every key that is not here has its default; an unknown key is an error. No learning rate was\n"
        "# measured on this base: try one target first, and look at its report.\n"
    )
    body = "\n".join(
        f"# {why}\n{yaml.safe_dump(values, sort_keys=False, allow_unicode=True)}" for why, values in sections
    )
    return f"{head}\n{body}"


def _pictures(images: Path) -> tuple[list[str], bool]:
    """(licences in the manifest, whether the pictures were imported as photographs)."""
    try:
        licences = sorted(set(read_manifest(images / MANIFEST)["licence"]))
    except DataError:  # no pictures yet: `fade doctor` says so
        licences = []
    return licences or ["CC0-1.0"], bool(read_record(images)) or not licences


OWN_FOLDERS = ("judges", "models", "sets")
"""Where a project's own things lie by the guide: what begins so and is not there yet is no model of a hub."""


def _place(folder: Path, where: str) -> str:
    """A local path as the project's folder sees it; anything else as it is."""
    path = Path(where)
    if not path.exists():
        return f"./{where}" if path.parts[:1] and path.parts[0] in OWN_FOLDERS else where
    home = folder.resolve()
    return str(path.resolve().relative_to(home) if path.resolve().is_relative_to(home) else path.resolve())


def _init_dvc(folder: Path) -> None:
    from dvc.repo import Repo

    from tasks.launch.environment import configure_environment

    configure_environment()
    with contextlib.redirect_stdout(io.StringIO()):  # its greeting
        Repo.init(str(folder), no_scm=not (folder / ".git").exists()).close()
