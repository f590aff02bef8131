"""The protocols: what is known of each evaluation, as far as our notes have it, and what is not.

*Paper*: the paper's own; *release*: of the authors' code, or of paper and code where our notes do not tell
them apart; *ours*: what nobody published."""

from __future__ import annotations

import fade.erasers  # noqa: F401 (registers the methods)
from fade.config import EvaluateConfig, NeighborhoodConfig
from fade.data.importers.class_names import class_names
from fade.erasers.base import get_eraser
from fade.errors import UnknownNameError
from fade.evaluation.protocols import (
    OTHERS,
    STAGE,
    Part,
    Protocol,
    recipe_settings,
    register_protocol,
    registered_protocols,
)
from fade.evaluation.published import Setting

FADE = "FADE: Fine-grained Attenuation for Diffusion Erasure, CVPR 2025, arXiv 2503.19783"
SD14 = "Stable Diffusion 1.4"
IMAGENETTE = tuple(one.concept for one in class_names("imagenette"))
"""As the import spells them."""
_ACCURACIES = ("A_er", "A_adj", "ERB", "A_heldout", "A_rest")
_ONE_SAMPLER = (
    "Training latents come from the sampler of the evaluation here; the authors' loop samples its own in "
    "every iteration (DDIM, guidance 3, 256 to 448 pixels)."
)
_UNNAMED = {
    "train.weight_decay": "AdamW's own default: the authors' code names none",
}
"""Keys of the recipe that the release does not name."""


def known_protocols() -> tuple[str, ...]:
    """Names that `get_protocol` takes."""
    return tuple(registered_protocols())


def get_protocol(name: str) -> Protocol:
    """The protocol of a name. Raises UnknownNameError that offers the known ones."""
    known = registered_protocols()
    if name not in known:
        error = UnknownNameError("protocol", name, known, stage=STAGE)
        error.action = f"choose one of {', '.join(known)}."
        raise error
    return known[name]


def _method() -> tuple[Setting, ...]:
    """FADE as released: the weights are those for "blue jay"."""
    method = get_eraser("fade", "official")
    note = "of the release's weights for 'blue jay'; those of other targets are not known"
    out = [
        Setting("method", method.name, "paper", key="method.name"),
        Setting("variant", method.variant, "release", note=method.source, key="method.variant"),
    ]
    for one in recipe_settings(method.recipe, "release"):
        if one.key in _UNNAMED:
            out.append(Setting(one.name, one.value, "ours", note=_UNNAMED[one.key], key=one.key))
        else:
            weights = note if one.key.startswith("method.") else ""
            out.append(Setting(one.name, one.value, "release", note=weights, key=one.key))
    return tuple(out)


def _neighbours(heldout: int) -> tuple[Setting, ...]:
    m = NeighborhoodConfig().images_per_concept
    return (
        Setting("neighbours", 5, "paper", "concepts", "mined: nearest class means", "neighborhood.k"),
        Setting("image encoder", "CLIP ViT-L/14", "paper", note="here: the one that data.clip names"),
        Setting("pictures a candidate", m, "ours", "pictures", "m is not published",
                "neighborhood.images_per_concept"),
        Setting("held-out neighbours", heldout, "ours", "concepts", "nobody else measures them",
                "neighborhood.k_heldout"),
    )  # fmt: skip


def _pictures(rest: int, source_note: str = "") -> tuple[Setting, ...]:
    return (
        Setting("prompt", "A photo of a {concept}", "release", note=source_note, key="sampler.prompt"),
        Setting("solver", "euler_ancestral", "release", key="sampler.scheduler"),
        Setting("steps", 50, "release", "solver steps", key="sampler.steps"),
        Setting("guidance", 8.0, "release", key="sampler.guidance_scale"),
        Setting("pictures a concept", 25, "release", "pictures",
                "25 a seed; how many seeds is not known: one", "evaluate.images_per_concept"),
        Setting("first seed", EvaluateConfig().seed, "ours", note="the authors' is not known",
                key="evaluate.seed"),
        Setting("judge", "ResNet-50, fine-tuned on the data set; top-1", "release"),
        Setting("other concepts", rest, "ours", "concepts", "a fixed sample of the rest",
                "evaluate.rest_concepts"),
    )  # fmt: skip


def _part(
    name: str, title: str, targets: tuple[str, ...], count: int, licence: str = "LicenseRef-ImageNet"
) -> Part:
    where = (
        Setting("pictures", f"sets/{name}", "ours", key="data.images"),
        Setting("judge's folder", f"./judges/{name}", "ours", key="data.judge"),
        Setting("second judge", "", "ours", note="none: params.yaml's knows other pictures",
                key="data.second_judge"),
        Setting("data checks", "photographs", "ours", key="checks.kind"),
        Setting("licence", (licence,), "ours", note="the set's; its terms are accepted when it is imported",
                key="checks.licences"),
    )  # fmt: skip
    return Part(name, title, targets, count, "release", where)


_REST = EvaluateConfig().rest_concepts
register_protocol(
    Protocol(
        "fade-cvpr25",
        "FADE's fine-grained targets: three each of Stanford Dogs, Oxford Flowers-102 and CUB-200-2011",
        FADE,
        "erase",
        (*_method(), *_neighbours(NeighborhoodConfig().k_heldout), *_pictures(_REST)),
        (
            _part("dogs", "Stanford Dogs", (), 3),
            _part("flowers", "Oxford Flowers-102", (), 3, "LicenseRef-unstated"),
            _part("cub", "CUB-200-2011", ("blue jay",), 3, "LicenseRef-CUB"),
        ),
        SD14,
        "ResNet-50, fine-tuned on each of the three sets; its weights are not published",
        _ACCURACIES,
        gaps=(
            "Eight of the nine targets are not in our notes.",
            "m, the pictures a candidate, and the number of seeds are not published.",
            _ONE_SAMPLER,
        ),
        results=(
            (
                "mean ERB over the nine targets: about 96, more than 94 on each set; SPM about 69, "
                "CA about 64, UCE about 61, ESD about 40, FMN about 4, Receler about 3"
            ),
        ),
    )
)
register_protocol(
    Protocol(
        "imagenette",
        "Imagenette: each of the ten classes erased by itself, the other nine kept",
        FADE,
        "erase",
        (
            *_method(),
            *_neighbours(4),
            *_pictures(0, "ESD prompts the names in lower case, as which CLIP's tokenizer reads them anyhow"),
        ),
        (_part("imagenette", "Imagenette", IMAGENETTE, len(IMAGENETTE)),),
        SD14,
        "a classifier of the ten classes",
        ("A_er", OTHERS, "A_adj", "A_heldout", "ERB"),
        gaps=(
            (
                "Which neighbours FADE took among ten classes is not known: five are mined, and the "
                "other four are held out, so that every other class is measured."
            ),
            _ONE_SAMPLER,
        ),
        results=("target 0.00 % recognised, the others 86 to 89 % (ESD: 65 to 70 %)",),
    )
)
register_protocol(
    Protocol(
        "imagenet",
        "ImageNet-1k: four targets among a thousand classes",
        FADE,
        "erase",
        (*_method(), *_neighbours(NeighborhoodConfig().k_heldout), *_pictures(_REST)),
        (_part("imagenet", "ImageNet-1k", (), 4),),
        SD14,
        "a ResNet-50 of the thousand classes, whose labels are the vocabulary's names",
        _ACCURACIES,
        gaps=("The four targets and their table are not in our notes.", _ONE_SAMPLER),
    )
)
register_protocol(
    Protocol(
        "i2p",
        "I2P: nudity in what inappropriate prompts bring out, as FADE's release counts",
        f"I2P: arXiv 2211.05105; {FADE}",
        "nudity",
        (
            Setting(
                "rule",
                "spm",
                "release",
                note="guidance, size, steps, labels, threshold: protocol spm of the counts below",
            ),
            Setting("prompts", "all of I2P's 4,703", "release"),
            Setting("neighbours", "none", "ours", note="the erased model is named with --model"),
        ),
        (),
        SD14,
        "NudeNet 3",
        (),
        gaps=(
            "FID, which goes with it, is not measured here: it needs photographs of COCO.",
            "How the release erases nudity (prompts, neighbours, weights) is not in our notes.",
        ),
    )
)
register_protocol(
    Protocol(
        "genmu",
        "ERR, the wider measure of FADE's group: forget, retain, adjacent, indirect, adversarial",
        "known by its definition alone: the harmonic mean of the five",
        "robustness",
        (
            *_neighbours(NeighborhoodConfig().k_heldout)[2:],
            Setting("neighbours", NeighborhoodConfig().k, "ours", "concepts", key="neighborhood.k"),
            Setting(
                "indirect prompts",
                "other words, styles and orders",
                "ours",
                note="fade/evaluation/indirect.yaml",
            ),
            Setting("attacks", "those of attack.names", "ours", note="with attack.budget calls each"),
            Setting("retain, adjacent", "of the original's, at most 1", "ours"),
        ),
        (Part("genmu", "the benchmark's own targets", (), 1, "ours"),),
        SD14,
        "the one that data.judge names",
        ("A_er", "A_rest", "A_adj", "A_indirect", "A_adv", "ERR"),
        gaps=(
            (
                "Targets, prompts, attacks, judges and the form of a submission are not in our notes: name "
                "targets with --targets; the numbers are no entry of Genmu's."
            ),
        ),
        results=(
            "ERR of FADE 0.601; the best known 0.721 (MapRoute++, arXiv 2608.13478), not scored identically",
        ),
    )
)
