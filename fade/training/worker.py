"""The trainer's process: ``python -m fade.training.worker job.json`` runs one job, repeatably on a GPU too,
and says why it ended.

``python -m fade.training.worker --wait NOTE`` does the same with the job whose path a file ``NOTE`` will
hold; what is slow to import is imported until then. ``fade.training.loop`` can be run the first way, too;
that is the same but on a GPU, where it repeats itself only nearly (`fade.training.determinism`)."""

from __future__ import annotations

import importlib
import os
import sys
import time
from contextlib import suppress
from pathlib import Path

from fade.errors import StorageError
from fade.importing import importing, lazily, without
from fade.training import job as files
from fade.training.determinism import enable_determinism
from fade.training.job import Job
from fade.utils.files import write_json
from fade.utils.parent import raise_if_orphaned

WAIT = "--wait"
LIBRARIES = (
    "fade.training.loop",
    "accelerate",
    "peft",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
)
"""What a training imports, some of it only when it is used."""
UNUSED = ("scipy", "boto3")
"""What those would import, too, for losses of object detectors and Amazon's machines: nearly a second."""
DRAWING = (
    "diffusers.models.autoencoders.autoencoder_kl",
    "diffusers.models.unets.unet_2d_condition",
    "diffusers.schedulers.scheduling_ddpm",
)
SELDOM = ("scipy.integrate", "scipy.stats")
"""What these use in a few schedulers (LMS, beta sigmas), and would import at once: a second more."""
_LOOK_EVERY = 0.02  # seconds


def main(argv: list[str]) -> int:
    """Run one job file. Errors go to stderr and, for the waiting process, to ``error.json`` beside the
    job."""
    if len(argv) != 1 and argv[:-1] != [WAIT]:
        sys.stderr.write(f"usage: python -m fade.training.worker job.json | {WAIT} NOTE\n")
        return 2
    path: Path | None = None
    load()
    from fade.training.loop import _explain, train

    try:
        path = Path(argv[0]) if len(argv) == 1 else awaited(Path(argv[1]))
        train(Job.read(path))
    except Exception as error:
        known = _explain(error)
        if path is not None and os.environ.get("RANK", "0") == "0":
            fact = {
                "type": type(known).__name__,
                "what": known.what,
                "stage": known.stage,
                "action": known.action,
            }
            with suppress(StorageError):  # a full disk: the waiting process looks for itself
                write_json(path.parent / files.ERROR, fact)
        sys.stderr.write(f"{type(known).__name__}: {known}\n")
        return known.exit_code
    return 0


def load() -> None:
    """Import everything that a training uses, and make torch repeat itself."""
    with importing():
        load_libraries()
        import torch

        if os.environ.get("ACCELERATE_USE_CPU") == "true" or not enable_determinism():
            torch.use_deterministic_algorithms(True, warn_only=True)


def load_libraries() -> None:
    """Import what a training, or drawing with the same models, uses; before there are other threads that
    import."""
    with without(*UNUSED):
        for name in LIBRARIES:
            importlib.import_module(name)
    with lazily(*SELDOM):
        for name in DRAWING:
            importlib.import_module(name)
    with suppress(
        ImportError, AttributeError
    ):  # where this transformers has another name for it, the first model has it made
        mapping = importlib.import_module("transformers.conversion_mapping")
        mapping.get_checkpoint_conversion_mapping("clip")  # a thousand patterns, compiled once: half a second


def awaited(note: Path) -> Path:
    """The job's path, as soon as ``note`` holds it. Raises TrainingError when nobody is left who could write
    it."""
    while True:
        raise_if_orphaned()
        with suppress(FileNotFoundError):
            return Path(note.read_text(encoding="utf-8"))
        time.sleep(_LOOK_EVERY)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # everything is written; Python would take torch apart for another second
