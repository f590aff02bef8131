"""Memory and throughput of `fade data import`, beside plain decoding of the same pictures.

    python bench/imports.py --pictures 200000 --out bench/results/imports.json

Makes an archive in the layout of Stanford Dogs (120 classes, JPEGs of --side pixels, all different), imports
it with as many processes as there are cores, and decodes its pictures to their last pixel with as many
processes. Memory is the sum over the import's processes of what is theirs alone (USS), sampled. Throughput
is that of the import's reading and writing, from its first picture to its last, over that of the decoding. A
disk that makes fewer files a second than the processes decode pictures is what is measured then: TMPDIR names
another. Each goal is printed with its verdict; the exit code is 1 where one is missed."""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from fade.data.importers.class_names import class_names
from fade.data.importers.importing import import_pictures
from fade.data.importers.options import ImportOptions, Split
from fade.data.importers.plan import plan_import
from fade.data.importers.records import Accepted
from fade.data.importers.sets import picture_set
from fade.utils import progress

SAMPLED_EVERY = 0.5
"""Seconds; a sample takes milliseconds of the processes that are measured."""
LEAST_SHARE, MOST_MB = 0.6, 400.0
"""Goals: throughput as a share of plain decoding's, and the peak of memory for 200,000 pictures and fewer."""
PART = 64
"""Pictures that a decoding process takes at once, as an import's does."""


def make_archive(path: Path, pictures: int, side: int) -> None:
    """A tar of ``pictures`` JPEGs: one noise texture, of which each picture shows another part and tint."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 256, (side * 2, side * 2, 3), dtype=np.uint8)
    labels = [one.label for one in class_names("dogs")]
    with tarfile.open(path, "w") as tar:
        for i in range(pictures):
            top, left = rng.integers(0, side, 2)
            pixels = texture[top : top + side, left : left + side] // 2 + rng.integers(
                0, 128, 3, dtype=np.uint8
            )
            packed = io.BytesIO()
            Image.fromarray(pixels).save(packed, "JPEG", quality=75)
            member = tarfile.TarInfo(f"Images/{labels[i % 120]}/{labels[i % 120][:9]}_{i}.jpg")
            member.size = packed.tell()
            packed.seek(0)
            tar.addfile(member, packed)


def decode(archive: str, places: list[tuple[int, int]]) -> int:
    """Decode the pictures at (offset, bytes) of a file; returns how many."""
    with Path(archive).open("rb") as stream:
        for offset, size in places:
            stream.seek(offset)
            with Image.open(io.BytesIO(stream.read(size))) as picture:
                np.asarray(picture.convert("RGB"))
    return len(places)


def plain_decoding(archive: Path, workers: int) -> float:
    """Pictures a second."""
    places: list[tuple[int, int]] = []
    with tarfile.open(archive) as tar:
        while (member := tar.next()) is not None:
            tar.members = []
            places.append((member.offset_data, member.size))
    parts = [places[i : i + PART] for i in range(0, len(places), PART)]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(decode, [str(archive)] * workers, [parts[0]] * workers))  # started before the clock
        start = time.perf_counter()
        done = sum(pool.map(decode, [str(archive)] * len(parts), parts))
        return done / (time.perf_counter() - start)


class Peak(threading.Thread):
    """Highest memory of this process and its children, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.ended = 0, threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        while not self.ended.wait(SAMPLED_EVERY):
            used = 0
            for one in (me, *me.children(recursive=True)):
                try:
                    used += one.memory_full_info().uss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, used)


def measured(archive: Path, out: Path, workers: int) -> dict[str, Any]:
    """One import: seconds of the whole, pictures a second while it reads, peak in MB."""
    times: list[tuple[float, int]] = []
    peak = Peak()
    peak.start()
    start = time.perf_counter()
    options = ImportOptions(split=Split(0, 0.8))

    def on_progress(stage: str, done: int, total: int, text: str) -> None:
        if stage == "import":
            times.append((time.perf_counter(), done))

    with progress.on_progress(on_progress):
        plan = plan_import(picture_set("dogs"), archive, options)
        import_pictures(plan, archive, out, Accepted("imagenet-terms", "bench", "now"), workers)
    seconds = time.perf_counter() - start
    peak.ended.set()
    peak.join()
    (first, done), (last, total) = times[0], times[-1]
    rate = (total - done) / (last - first)
    return {"seconds": round(seconds, 1), "pictures_s": round(rate, 1), "peak_mb": round(peak.peak / 1e6, 1)}


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=200_000)
    parser.add_argument("--side", type=int, default=128, help="pixels")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        archive = Path(scratch) / "images.tar"
        make_archive(archive, options.pictures, options.side)
        decoding = plain_decoding(archive, options.workers)
        imported = measured(archive, Path(scratch) / "sets" / "dogs", options.workers)
    result = {
        "pictures": options.pictures,
        "side": options.side,
        "workers": options.workers,
        "decoding_pictures_s": round(decoding, 1),
        "import": imported,
        "share_of_decoding": round(imported["pictures_s"] / decoding, 3),
    }
    print(json.dumps(result, indent=1))
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    share, peak = result["share_of_decoding"], imported["peak_mb"]
    verdicts = [
        (f"at least {LEAST_SHARE:.0%} of plain decoding's throughput", f"{share:.1%}", share >= LEAST_SHARE),
        (f"at most {MOST_MB:.0f} MB", f"{peak:.0f} MB", peak <= MOST_MB),
    ]
    print("\n".join(f"{'met   ' if met else 'MISSED'}  {goal}: {found}" for goal, found, met in verdicts))
    raise SystemExit(not all(met for _, _, met in verdicts))


if __name__ == "__main__":
    main()
