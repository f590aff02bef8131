"""The CLIP that mines: a finished text tower, and an image tower trained against it on scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextModelWithProjection

from fade.config import SightConfig
from fade.judges.image_set import soften
from fade.judges.supervised_loop import Logs, Training, fit
from fade.models.text import token_ids
from fade.pretrain.captions import Scene
from fade.pretrain.text import CPU, Meaning, off_diagonal


def build(text: CLIPTextModelWithProjection, config: SightConfig) -> CLIPModel:
    """A CLIP with the trained text tower and an untrained image tower that projects to its width."""
    width = text.config.projection_dim
    vision = {
        "hidden_size": config.hidden,
        "intermediate_size": 4 * config.hidden,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "projection_dim": width,
        "image_size": 64,
        "patch_size": config.patch,
    }
    model = CLIPModel(
        CLIPConfig(text_config=text.config.to_dict(), vision_config=vision, projection_dim=width)
    )
    model.text_model.load_state_dict(text.text_model.state_dict())
    model.text_projection.load_state_dict(text.text_projection.state_dict())
    return model


def shared_names(scenes: Sequence[Scene]) -> Tensor:
    """(B, B) squared share of the things' names that two scenes have in common: 1 for the same names."""
    names = [{one.name for one in scene.things} for scene in scenes]
    shares = [[len(a & b) / len(a | b) for b in names] for a in names]
    return torch.tensor(shares).square()


def contrast(text: Tensor, image: Tensor, positives: Tensor, scale: Tensor) -> Tensor:
    """Symmetric cross-entropy of features (B, D) against weights (B, B); rows are captions."""
    logits = scale.exp().clamp(max=50) * text @ image.T
    return (_soft_cross_entropy(logits, positives) + _soft_cross_entropy(logits.T, positives.T)) / 2


def train(
    model: CLIPModel, tokenizer: Any, pictures: Any, meaning: Meaning, config: SightConfig, training: Training
) -> None:
    """Train the image tower in place on ``pictures`` (`fade.pretrain.scenes.SceneSampler`) against the frozen
    text tower, until pictures of related things lie close together.

    Without the sentence encoder's cosines as a goal for pictures, they lie close by their colour first: the
    neighbours of a green heart were a green apple and a frog before any other heart. Pictures are softened as
    the autoencoder softens them, for it is the model's own pictures that are mined."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("vision_model.", "visual_projection.", "logit_scale")))

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        batch = pictures.batch(config.batch_size, generator)
        image = F.normalize(
            model.get_image_features(pixel_values=soften(batch.x, generator)).pooler_output, dim=-1
        )
        with torch.no_grad():
            ids = token_ids(tokenizer, batch.captions, CPU)
            text = F.normalize(model.get_text_features(input_ids=ids).pooler_output, dim=-1)
        named = meaning.of(batch.scenes)
        geometry = off_diagonal(image @ image.T - named @ named.T)
        loss = contrast(text, image, shared_names(batch.scenes), model.logit_scale)
        logs = {"contrast": loss.item(), "geometry": geometry.item()}
        return loss + config.geometry_weight * geometry, logs

    fit(model, loss_at, config, training)


def _soft_cross_entropy(logits: Tensor, weight: Tensor) -> Tensor:
    return -(F.log_softmax(logits, dim=1) * weight / weight.sum(1, keepdim=True)).sum(1).mean()
