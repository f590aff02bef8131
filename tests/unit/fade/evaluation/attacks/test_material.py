"""Whose pictures the attackers hold, and that they are the pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fade.data.images import read_pictures
from fade.errors import DataError, UnknownNameError
from fade.evaluation.attacks import AttackContext
from fade.evaluation.attacks.material import gather, real_latents
from tests.datasets import make_dataset, write_manifest


def test_the_control_and_the_unrelated_are_of_other_families_and_seeded(
    subject: AttackContext, pictures: Path
) -> None:
    found = subject.material
    assert {found.control, *found.unrelated} == {"tulip", "rose"} and found.names == (
        "panda",
        "koala",
        "tulip",
        "rose",
    )
    assert set(found.pictures) == {"panda", found.control}
    seeds = [
        gather(subject.base, pictures, "panda", subject.config.model_copy(update={"seed": s})).control
        for s in (70, 70, *range(6))
    ]
    assert seeds[0] == seeds[1] == found.control and set(seeds) == {"tulip", "rose"}


def test_latents_are_those_of_the_training_pictures_in_order(subject: AttackContext, pictures: Path) -> None:
    base = subject.base
    latents = real_latents(base, pictures, ["rose", "panda"])
    x = torch.from_numpy(read_pictures([pictures / "fluent/rose.png"])).permute(0, 3, 1, 2) / 127.5 - 1
    wanted = base.vae.encode(x).latent_dist.mean * base.vae.config.scaling_factor
    assert {name: tuple(part.shape) for name, part in latents.items()} == {
        "rose": (2, 4, 8, 8),
        "panda": (2, 4, 8, 8),
    }
    assert torch.allclose(latents["rose"][1], wanted[0], atol=1e-5)
    assert torch.equal(latents["panda"], real_latents(base, pictures, ["panda"])["panda"])


def test_a_picture_of_another_size_is_resized(subject: AttackContext, pictures: Path) -> None:
    small = read_pictures([pictures / "noto/rose.png"])[:, :48, :32]
    assert subject.base.encode_pictures(small).shape == (1, 4, 8, 8)


def test_what_is_missing_is_named(subject: AttackContext, tmp_path: Path) -> None:
    frame = make_dataset(tmp_path, size=64)
    with pytest.raises(UnknownNameError, match="pandda"):
        gather(subject.base, tmp_path, "pandda", subject.config)
    frame.loc[frame["concept"] == "panda", "split"] = "heldout"
    write_manifest(tmp_path, frame)
    with pytest.raises(DataError, match=r"no training picture of 'panda'.* Next: "):
        gather(subject.base, tmp_path, "panda", subject.config)
    write_manifest(tmp_path, frame[frame["concept"].isin(["panda", "koala"])])
    with pytest.raises(DataError, match="2 in all"):
        gather(subject.base, tmp_path, "panda", subject.config)
