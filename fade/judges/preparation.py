"""How a picture becomes a judge's input: the shorter side resized, the middle cut out, mean and deviation.

A generated picture is a square that `fade.data.images.Preprocessor` brings to the judge's size as it is; a
photograph of any shape comes through here, as the judge was trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from fade.data.images import MAX_SIDE
from fade.errors import BaseModelError

if TYPE_CHECKING:
    from PIL.Image import Image

STAGE = "judge"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pictures that torchvision's weights were trained on, of levels from 0 to 1."""
_BICUBIC, _BILINEAR = 3, 2
"""Pillow's numbers, which transformers' files hold."""
_SMALL = 384
"""Pixels of the shorter side below which transformers' ConvNeXT processor, which ResNets name, cuts."""
Triple = tuple[float, float, float]
Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class Preparation:
    """Raises BaseModelError for sizes, a mean or a deviation that cannot be used."""

    resize: int
    """Pixels of the shorter side."""
    crop: int
    """Pixels of the square in the middle: the judge's input."""
    interpolation: Interpolation = "bilinear"
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD

    def __post_init__(self) -> None:
        if not 1 <= self.crop <= self.resize <= MAX_SIDE:
            what = f"a square of {self.crop} pixels is not cut from a shorter side of {self.resize}."
            action = f"name 1 <= --crop <= --resize <= {MAX_SIDE}."
            raise BaseModelError(what, stage=STAGE, action=action)
        numbers = (*self.mean, *self.std)
        if len(self.mean) != 3 or len(self.std) != 3 or not all(map(math.isfinite, numbers)):
            raise _unusable("mean or deviation", numbers)
        if min(self.std) <= 0:
            raise _unusable("deviation", self.std)

    def scaled(self, side: int) -> Preparation:
        """The same for an input of ``side`` pixels."""
        resize = max(side, round(self.resize * side / self.crop))
        return Preparation(resize, side, self.interpolation, self.mean, self.std)

    def cut(self, picture: Image, *, whole: bool = False, wide: bool = False) -> np.ndarray:
        """An RGB picture as uint8 (crop, crop, 3). whole: a square that is resized and not cut; wide: the
        square (resize, resize, 3) from which a training cuts at random."""
        method: Any = _BICUBIC if self.interpolation == "bicubic" else _BILINEAR
        side = self.resize if wide else self.crop
        if whole:
            square = picture if picture.size == (side, side) else picture.resize((side, side), method)
            whole_square: np.ndarray = np.asarray(square)
            return whole_square
        width, height = picture.size
        short = min(width, height)
        size = (self.resize * width // short, self.resize * height // short)
        resized = picture if picture.size == size else picture.resize(size, method)
        left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
        middle: np.ndarray = np.asarray(resized.crop((left, top, left + side, top + side)))
        return middle

    def to_json(self) -> dict[str, Any]:
        """The content of preprocessor_config.json, as transformers and `fade.data.images` read it."""
        return {
            "image_processor_type": "BitImageProcessor",
            "do_convert_rgb": True,
            "do_resize": True,
            "size": {"shortest_edge": self.resize},
            "resample": _BICUBIC if self.interpolation == "bicubic" else _BILINEAR,
            "do_center_crop": True,
            "crop_size": {"height": self.crop, "width": self.crop},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(self.mean),
            "image_std": list(self.std),
        }


def from_transformers(config: Mapping[str, Any]) -> Preparation:
    """Of a preprocessor_config.json. Raises BaseModelError for one that lacks the size, the mean or the
    deviation."""
    try:
        size, crop = config["size"], config.get("crop_size")
        if isinstance(size, dict):
            size = size.get("shortest_edge") or size["height"]
        if isinstance(crop, dict):
            crop = crop["height"]
        resize, side = int(size), int(crop or size)
        if "crop_pct" in config and resize < _SMALL:
            resize = int(resize / float(config["crop_pct"]))
        method: Interpolation = "bicubic" if config.get("resample") == _BICUBIC else "bilinear"
        return Preparation(
            max(resize, side), side, method, _triple(config["image_mean"]), _triple(config["image_std"])
        )
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise _unusable("preprocessor_config.json", error) from None


def from_timm(config: Mapping[str, Any]) -> Preparation:
    """Of timm's config.json: the side of its input through its ``crop_pct`` is the shorter side. Raises
    BaseModelError for one that lacks a key, or cuts otherwise than in the middle."""
    given = config.get("pretrained_cfg") or config
    try:
        if (mode := given.get("crop_mode", "center")) != "center":
            raise _unusable("crop_mode", mode)
        side = int(given["input_size"][-1])
        method: Interpolation = "bicubic" if given["interpolation"] == "bicubic" else "bilinear"
        resize = math.floor(side / float(given["crop_pct"]))
        return Preparation(resize, side, method, _triple(given["mean"]), _triple(given["std"]))
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, OverflowError) as error:
        raise _unusable("pretrained_cfg", error) from None


def _triple(values: Any) -> Triple:
    red, green, blue = map(float, values)
    return red, green, blue


def _unusable(what: str, why: object) -> BaseModelError:
    action = "give --resize and --crop, in pixels."
    return BaseModelError(f"the judge's {what} cannot be used: {str(why)[:200]}.", stage=STAGE, action=action)
