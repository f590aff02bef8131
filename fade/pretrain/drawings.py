"""Render the drawing packages: the vocabulary with its manifest, and the corpus of all other drawings."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from fade.data.manifest import COLUMNS, MANIFEST
from fade.data.vocabulary import slug
from fade.errors import DataError, RemoteError
from fade.utils.hashing import sha256_of

SIZE = 64  # pixels; eight times the 8x8 latents
RECIPE = Path(__file__).with_name("vocabulary.yaml")

# Names in the packages that are variants of one drawing (skin, gender) or flags: no use for learning words.
_SKIP = re.compile("skin-tone|flag-|keycap|man-|person-|men-|family|kiss-|couple|people-")


@dataclass(frozen=True)
class Drawing:
    """One SVG body and what it shows. source: its package in the recipe."""

    name: str
    family: str
    style: str
    svg: str
    wide: bool
    source: Mapping[str, Any]
    split: str = "train"


def load_recipe() -> dict[str, Any]:
    """The vocabulary recipe: styles, families, concepts and the icon of each drawing."""
    recipe: dict[str, Any] = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    return recipe


def fetch_packages(recipe: dict[str, Any], folder: Path) -> None:
    """Fetch each package with npm into ``folder/<style>/icons.json``. One that was fetched by another
    integrity is fetched anew; one that somebody unpacked there is taken as it is.

    Raises RemoteError when npm is missing, the registry cannot be reached, or a tarball's integrity is not
    the recipe's."""
    folder.mkdir(parents=True, exist_ok=True)
    for style, source in recipe["styles"].items():
        fetched = folder / style / "integrity"
        unpacked = (folder / style / "icons.json").exists()
        if unpacked and (not fetched.exists() or fetched.read_text("utf-8") == source["integrity"]):
            continue
        work = folder / f".{style}"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        _fetch(f"{source['package']}@{source['version']}", source["integrity"], work)
        (work / "integrity").write_text(source["integrity"], "utf-8")
        shutil.rmtree(folder / style, ignore_errors=True)
        work.rename(folder / style)


def _fetch(spec: str, integrity: str, work: Path) -> None:
    try:
        command = ["npm", "pack", "--silent", "--ignore-scripts", spec]
        subprocess.run(command, cwd=work, check=True, capture_output=True, text=True, timeout=300)
    except FileNotFoundError:
        action = "install Node.js, or name unpacked packages with --set pretrain.packages=FOLDER."
        raise RemoteError("npm is not installed.", stage="drawings", action=action) from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        reason = str(getattr(error, "stderr", "") or error).strip().splitlines()[-1:]
        what = f"npm cannot fetch {spec}: {reason}."
        raise RemoteError(what, stage="drawings", action="check the registry.") from error
    tarball = next(work.glob("*.tgz"))
    digest = "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if digest != integrity:
        what = f"{spec}: the tarball's integrity is {digest}, not the recipe's."
        raise RemoteError(what, stage="drawings")
    with tarfile.open(tarball) as archive:
        for name in ("icons.json", "info.json"):
            member = archive.extractfile(f"package/{name}")
            if member is None:
                raise RemoteError(f"{spec} holds no {name}.", stage="drawings")
            (work / name).write_bytes(member.read())
    tarball.unlink()


def _load_icons(packages: Path, style: str) -> dict[str, Any]:
    icons: dict[str, Any] = json.loads((packages / style / "icons.json").read_text(encoding="utf-8"))
    return icons


def _svg(icons: dict[str, Any], name: str, shift: Sequence[float] = (0.0, 0.0)) -> tuple[str, bool] | None:
    """The SVG of an icon (aliases followed), and whether it is at least as wide as high; None for no icon."""
    aliases = icons.get("aliases", {})
    while name not in icons["icons"]:
        if name not in aliases:
            return None
        name = aliases[name]["parent"]
    icon = icons["icons"][name]
    width, height = (icon.get(k, icons.get(k, 16)) for k in ("width", "height"))
    left, top = icon.get("left", 0) + shift[0], icon.get("top", 0) + shift[1]
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    box = f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}"'
    return f"{head} {box}>{icon['body']}</svg>", width >= height


def vocabulary_drawings(recipe: dict[str, Any], packages: Path) -> Iterator[Drawing]:
    """Every drawing of the recipe, in its order. Raises DataError for an icon that a package lacks."""
    sets = {style: _load_icons(packages, style) for style in recipe["styles"]}
    for family, members in recipe["families"].items():
        for concept, named in members["concepts"].items():
            for style, source in recipe["styles"].items():
                icon = named.get(style, concept.replace(" ", "-"))
                if icon is None:
                    continue
                spec = icon if isinstance(icon, dict) else {"icon": icon}
                svg = _svg(sets[style], spec["icon"], spec.get("shift", (0.0, 0.0)))
                if svg is None:
                    package = f"{source['package']} {source['version']}"
                    what = f"{package} has no icon {spec['icon']!r} for {concept!r}."
                    raise DataError(what, stage="drawings", action=f"correct {RECIPE.name}.")
                split = "heldout" if source["artist"] == recipe["heldout_artist"] else "train"
                yield Drawing(concept, family, style, *svg, source, split)


def corpus_drawings(recipe: dict[str, Any], packages: Path) -> Iterator[Drawing]:
    """All other drawings of the training artists whose names read as plain words."""
    concepts = {c: named for f in recipe["families"].values() for c, named in f["concepts"].items()}
    own = {concept.replace(" ", "-") for concept in concepts}
    for style, source in recipe["styles"].items():
        # fxemoji's names are run together
        if source["artist"] == recipe["heldout_artist"] or style == "fxemoji":
            continue
        icons = _load_icons(packages, style)
        used = [named.get(style) for named in concepts.values()]
        for name in sorted(icons["icons"]):
            words = name.rstrip("0123456789").rstrip("-") if style == "streamline" else name
            variant = _SKIP.search(name) or any(c.isdigit() for c in words)
            if not words or words in own or name in used or variant:
                continue
            if svg := _svg(icons, name):
                yield Drawing(words.replace("-", " "), "", style, *svg, source)


def render_rgba(drawing: Drawing) -> np.ndarray:
    """The drawing on transparent ground, centred, its longer side SIZE pixels.

    (64, 64, 4) uint8, straight alpha. Raises ValueError for an SVG that cannot be read."""
    import resvg_py

    side: dict[str, Any] = {"width": SIZE} if drawing.wide else {"height": SIZE}
    png = bytes(resvg_py.svg_to_bytes(svg_string=drawing.svg, skip_system_fonts=True, **side))
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    ground = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    ground.paste(picture, ((SIZE - picture.width) // 2, (SIZE - picture.height) // 2))
    return np.asarray(ground)


def on_white(sprite: np.ndarray) -> np.ndarray:
    """A sprite (64, 64, 4) uint8 on white paper: (64, 64, 3) uint8."""
    paper = Image.new("RGBA", (sprite.shape[1], sprite.shape[0]), "white")
    paper.alpha_composite(Image.fromarray(sprite))
    return np.asarray(paper.convert("RGB"))


def render(drawing: Drawing) -> Image.Image:
    """As `render_rgba`, on white; RGB."""
    return Image.fromarray(on_white(render_rgba(drawing)))


def write_vocabulary(recipe: dict[str, Any], packages: Path, out: Path) -> None:
    """Render the vocabulary into ``out`` with its manifest.csv. Deterministic, byte for byte."""
    rows = []
    for drawing in vocabulary_drawings(recipe, packages):
        path = out / drawing.style / f"{slug(drawing.name)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = render(drawing)
        picture.save(path, optimize=False)
        shown = (path.relative_to(out).as_posix(), drawing.name, drawing.family, drawing.style)
        origin = (drawing.source[key] for key in ("package", "version", "licence"))
        rows.append((*shown, *origin, sha256_of(path), *picture.size, drawing.split))
    pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(out / MANIFEST, index=False, lineterminator="\n")


def render_sprites(recipe: dict[str, Any], packages: Path) -> np.ndarray:
    """Sprites (N, 64, 64, 4) uint8 of the vocabulary's training drawings, in the manifest's order."""
    drawings = vocabulary_drawings(recipe, packages)
    return np.stack([render_rgba(drawing) for drawing in drawings if drawing.split == "train"])


def render_corpus(
    recipe: dict[str, Any], packages: Path, on_step: Callable[[int, int], None]
) -> tuple[np.ndarray, list[str], list[str]]:
    """Sprites (N, 64, 64, 4) uint8 of the wide corpus, without blank and unreadable ones; names; styles."""
    drawings = list(corpus_drawings(recipe, packages))

    def sprite_of(drawing: Drawing) -> np.ndarray | None:
        try:
            sprite = render_rgba(drawing)
        except ValueError:
            return None
        return sprite if on_white(sprite).std() > 8 else None

    sprites, names, styles = [], [], []
    with ThreadPoolExecutor() as pool:
        for done, (drawing, sprite) in enumerate(
            zip(drawings, pool.map(sprite_of, drawings), strict=True), 1
        ):
            if sprite is not None:
                sprites.append(sprite)
                names.append(drawing.name)
                styles.append(drawing.style)
            on_step(done, len(drawings))
    return np.stack(sprites), names, styles
