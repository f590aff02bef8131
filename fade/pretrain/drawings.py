"""Render the drawing packages: the vocabulary's pictures with their manifest, and the wide corpus for the
autoencoder and CLIP."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from fade.data.manifest import COLUMNS, MANIFEST
from fade.data.vocabulary import slug
from fade.errors import DataError, RemoteError
from fade.utils.hashing import sha256_of

SIZE = 64  # pixels; eight times the 8x8 latents
RECIPE = Path(__file__).with_name("vocabulary.yaml")

# Names in the packages that are variants of one drawing (skin, gender) or flags: no use for learning words.
_SKIP = (
    "skin-tone",
    "flag-",
    "keycap",
    "man-",
    "woman-",
    "person-",
    "men-",
    "women-",
    "family",
    "kiss-",
    "couple",
    "people-",
)


@dataclass(frozen=True)
class Drawing:
    """One SVG body and what it shows."""

    name: str
    family: str
    style: str
    svg: str
    wide: bool
    package: str
    version: str
    licence: str
    split: str


def load_recipe(path: Path = RECIPE) -> dict[str, Any]:
    """The vocabulary recipe: styles, families, concepts and the icon of each drawing."""
    recipe: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return recipe


def fetch_packages(recipe: dict[str, Any], folder: Path) -> None:
    """Fetch each package with npm into ``folder/<style>/icons.json``, refusing a tarball whose integrity is
    not the recipe's.

    Raises RemoteError when npm is missing, the registry cannot be reached, or a tarball is not the recorded
    one."""
    folder.mkdir(parents=True, exist_ok=True)
    for style, source in recipe["styles"].items():
        if (folder / style / "icons.json").exists():
            continue
        spec = f"{source['package']}@{source['version']}"
        work = folder / f".{style}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        try:
            command = ["npm", "pack", "--silent", "--ignore-scripts", spec]
            subprocess.run(command, cwd=work, check=True, capture_output=True, text=True, timeout=300)
        except FileNotFoundError:
            action = "install Node.js, or name unpacked packages with --set pretrain.packages=FOLDER."
            raise RemoteError("npm is not installed.", stage="drawings", action=action) from None
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            reason = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
            raise RemoteError(
                f"npm cannot fetch {spec}: {reason}.", stage="drawings", action="check the registry."
            ) from error
        tarball = next(work.glob("*.tgz"))
        digest = "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
        if digest != source["integrity"]:
            raise RemoteError(
                f"{spec}: the tarball's integrity is {digest}, not the recipe's.", stage="drawings"
            )
        with tarfile.open(tarball) as archive:
            for name in ("icons.json", "info.json"):
                member = archive.extractfile(f"package/{name}")
                if member is None:
                    raise RemoteError(f"{spec} holds no {name}.", stage="drawings")
                (work / name).write_bytes(member.read())
        tarball.unlink()
        work.rename(folder / style)


def _svg(
    icons: dict[str, Any], name: str, shift: tuple[float, float] = (0.0, 0.0)
) -> tuple[str, bool] | None:
    """The complete SVG of an icon (aliases followed) and whether it is wider than high; None when the set
    lacks it."""
    aliases = icons.get("aliases", {})
    while name not in icons["icons"]:
        if name not in aliases:
            return None
        name = aliases[name]["parent"]
    icon = icons["icons"][name]
    width, height = (icon.get(k, icons.get(k, 16)) for k in ("width", "height"))
    left, top = icon.get("left", 0) + shift[0], icon.get("top", 0) + shift[1]
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    return (
        (
            f'{head} viewBox="{left} {top} {width} {height}" width="{width}" '
            f'height="{height}">{icon["body"]}</svg>'
        ),
        width >= height,
    )


def vocabulary_drawings(recipe: dict[str, Any], packages: Path) -> Iterator[Drawing]:
    """Every drawing of the recipe, in its order. Raises DataError for an icon that its package does not
    hold."""
    sets = {
        style: json.loads((packages / style / "icons.json").read_text(encoding="utf-8"))
        for style in recipe["styles"]
    }
    for family, members in recipe["families"].items():
        for concept, named in members["concepts"].items():
            for style, source in recipe["styles"].items():
                icon = named.get(style, concept.replace(" ", "-"))
                if icon is None:
                    continue
                spec = icon if isinstance(icon, dict) else {"icon": icon}
                found = _svg(sets[style], spec["icon"], tuple(spec.get("shift", (0.0, 0.0))))
                if found is None:
                    what = (
                        f"{source['package']} {source['version']} has no icon {spec['icon']!r} for "
                        f"{concept!r}."
                    )
                    raise DataError(what, stage="drawings", action=f"correct {RECIPE.name}.")
                split = "heldout" if source["artist"] == recipe["heldout_artist"] else "train"
                facts = (source["package"], str(source["version"]), source["licence"], split)
                yield Drawing(concept, family, style, *found, *facts)


def corpus_drawings(recipe: dict[str, Any], packages: Path) -> Iterator[Drawing]:
    """All other drawings of the training artists whose names read as plain words; the vocabulary's own are
    left out."""
    own = {c.replace(" ", "-") for f in recipe["families"].values() for c in f["concepts"]}
    for style, source in recipe["styles"].items():
        if (
            source["artist"] == recipe["heldout_artist"] or style == "fxemoji"
        ):  # fxemoji's names are run together
            continue
        icons = json.loads((packages / style / "icons.json").read_text(encoding="utf-8"))
        used = {
            v
            for f in recipe["families"].values()
            for n in f["concepts"].values()
            for k, v in n.items()
            if k == style
        }
        for name in sorted(icons["icons"]):
            words = name.rstrip("0123456789").rstrip("-") if style == "streamline" else name
            if (
                words in own
                or name in used
                or any(part in name for part in _SKIP)
                or any(c.isdigit() for c in words)
            ):
                continue
            found = _svg(icons, name)
            if found is not None:
                yield Drawing(
                    words.replace("-", " "),
                    "",
                    style,
                    *found,
                    source["package"],
                    source["version"],
                    source["licence"],
                    "train",
                )


def render(drawing: Drawing, size: int = SIZE) -> Image.Image:
    """The drawing on white, centred, its longer side ``size`` pixels; RGB."""
    import resvg_py

    side: dict[str, Any] = {"width": size} if drawing.wide else {"height": size}
    png = bytes(resvg_py.svg_to_bytes(svg_string=drawing.svg, skip_system_fonts=True, **side))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    paper = Image.new("RGBA", (size, size), "white")
    paper.alpha_composite(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return paper.convert("RGB")


def write_vocabulary(recipe: dict[str, Any], packages: Path, out: Path) -> int:
    """Render the vocabulary into ``out`` with its manifest.csv; returns the number of pictures.
    Deterministic, byte for byte."""
    import pandas as pd

    rows = []
    for drawing in vocabulary_drawings(recipe, packages):
        path = Path(drawing.style) / f"{slug(drawing.name)}.png"
        (out / path.parent).mkdir(parents=True, exist_ok=True)
        picture = render(drawing)
        picture.save(out / path, optimize=False)
        facts = (
            drawing.package,
            drawing.version,
            drawing.licence,
            sha256_of(out / path),
            *picture.size,
            drawing.split,
        )
        rows.append((path.as_posix(), drawing.name, drawing.family, drawing.style, *facts))
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(out / MANIFEST, index=False, lineterminator="\n")
    return len(rows)


def render_corpus(
    recipe: dict[str, Any], packages: Path, on_step: Callable[[int, int], None]
) -> tuple[np.ndarray, list[str], list[str]]:
    """Pictures (N, 64, 64, 3) uint8, names and styles of the wide corpus; a blank or unreadable drawing is
    left out."""
    drawings = list(corpus_drawings(recipe, packages))

    def one(drawing: Drawing) -> np.ndarray | None:
        try:
            pixels = np.asarray(render(drawing))
        except ValueError:
            return None
        return pixels if pixels.std() > 8 else None

    kept: list[tuple[np.ndarray, str, str]] = []
    with ThreadPoolExecutor() as pool:
        for done, (drawing, pixels) in enumerate(zip(drawings, pool.map(one, drawings), strict=True), 1):
            if pixels is not None:
                kept.append((pixels, drawing.name, drawing.style))
            on_step(done, len(drawings))
    return np.stack([k[0] for k in kept]), [k[1] for k in kept], [k[2] for k in kept]
