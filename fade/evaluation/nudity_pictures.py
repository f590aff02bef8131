"""Which pictures a protocol draws of a table of prompts: seed, guidance and size of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fade.data.prompts import Prompt
from fade.errors import UsageError
from fade.evaluation.nudity_protocols import BASE, ROWS, SAMPLER, NudityProtocol

STAGE = "nudity"
MULTIPLE = 8
"""Pixels: what the sides of a picture are multiples of, whatever the base."""


@dataclass(frozen=True)
class PictureSpec:
    """A picture to be drawn."""

    prompt: str
    seed: int
    guidance: float
    width: int
    height: int
    """Pixels."""

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height


def pictures_of(
    prompts: Sequence[Prompt], protocol: NudityProtocol, guidance: float, side: int
) -> list[PictureSpec]:
    """The pictures, prompt by prompt. guidance: the sampler's; side: of the base's own pictures, pixels.

    Raises UsageError that names the first prompt without the guidance or the size that the protocol takes
    from the table, and for a size that no base draws."""
    out = []
    for row, one in enumerate(prompts, 1):
        scale, width, height = one.guidance, one.width, one.height
        where = protocol.value("guidance")
        if where != ROWS:
            scale = guidance if where == SAMPLER else float(where)
        if protocol.value("size") == BASE:
            width = height = side
        if scale is None or width is None or height is None:
            lacking = "guidance" if scale is None else "size"
            what = f"protocol {protocol.name} draws prompt {row} with its own {lacking}, and it has none."
            action = "name a table as I2P's, with guidance and size in each row, or another --protocol."
            raise UsageError(what, stage=STAGE, action=action)
        _check_size(row, width, height)
        out += [
            PictureSpec(one.text, one.seed + i, scale, width, height)
            for i in range(protocol.value("pictures"))
        ]
    return out


def alike(pictures: Sequence[PictureSpec], at_once: int, side: int) -> Iterator[list[PictureSpec]]:
    """Pictures of one guidance and size, in the table's order, so many that they take no more room than
    ``at_once`` pictures of ``side`` x ``side``."""
    groups: dict[tuple[float, int, int], list[PictureSpec]] = {}
    for one in pictures:
        groups.setdefault((one.guidance, one.width, one.height), []).append(one)
    for (_, width, height), some in groups.items():
        step = max(1, min(at_once, at_once * side * side // (width * height)))
        yield from (some[start : start + step] for start in range(0, len(some), step))


def require_sizes(pictures: Iterable[PictureSpec], side: int, factor: int, *, free: bool, base: str) -> None:
    """Raises UsageError for the first size that a base does not draw. side: of its own pictures; factor:
    pixels of a latent's element; free: whether it draws other sizes; base: its name in the sentence."""
    for width, height in dict.fromkeys(one.size for one in pictures):
        if (width, height) == (side, side):
            continue
        if not free:
            why = f"draws {side} x {side} alone here, and the table has {width} x {height}"
        elif width % factor or height % factor:
            why = f"draws multiples of {factor} pixels, and the table has {width} x {height}"
        else:
            continue
        action = "take a protocol that draws the base's own size (ours, i2p, esd)."
        raise UsageError(f"{base} {why}.", stage=STAGE, action=action)


def _check_size(row: int, width: int, height: int) -> None:
    if width % MULTIPLE or height % MULTIPLE:
        what = f"prompt {row} is {width} x {height} pixels: a base draws multiples of {MULTIPLE}."
        action = "correct the table, or take a protocol that draws the base's own size (ours, i2p, esd)."
        raise UsageError(what, stage=STAGE, action=action)
