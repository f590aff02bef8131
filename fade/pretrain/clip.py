"""The CLIP that mines: a finished text tower, and an image tower trained against it on scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTextModelWithProjection

from fade.config import SightConfig
from fade.judges.image_set import soften
from fade.judges.supervised_loop import Logs, Training, fit
from fade.models.text import token_ids
from fade.pretrain.captions import Scene, with_article
from fade.pretrain.text import CPU, off_diagonal

AT_ONCE = 256
"""Captions of one call of the text tower."""


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


@torch.no_grad()
def name_features(model: CLIPModel, tokenizer: Any, names: Sequence[str]) -> Tensor:
    """(N, D) unit features of the names' plain captions."""
    ids = token_ids(tokenizer, [with_article(name) for name in names], CPU)
    parts = [model.get_text_features(input_ids=part).pooler_output for part in ids.split(AT_ONCE)]
    return F.normalize(torch.cat(parts), dim=-1)


def shown_names(scenes: Sequence[Scene], names: Mapping[str, int]) -> Tensor:
    """(B, N) shares of the names in what each scene shows; a row's sum is 1. names: each one's column."""
    shares = torch.zeros(len(scenes), len(names))
    for row, scene in zip(shares, scenes, strict=True):
        row[[names[one.name] for one in scene.things]] = 1 / len(scene.things)
    return shares


def train(model: CLIPModel, tokenizer: Any, pictures: Any, config: SightConfig, training: Training) -> None:
    """Train the image tower in place on ``pictures`` (`fade.pretrain.scenes.SceneSampler`) against the frozen
    text tower. The loss of a picture: the cross-entropy of its names among all names, one minus the cosine to
    its names' mean text feature, and the squared difference of the pictures' cosines to those of their means.

    All names at once are a stronger signal than the other captions of a batch: with those alone a tower of
    the same cost told 68 % of its training drawings by name, and 79 % of the five nearest were kin, not 93 %.
    Pictures are softened as the autoencoder softens them, for it is the model's own pictures that are mined.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("vision_model.", "visual_projection.", "logit_scale")))
    column = {name: i for i, name in enumerate(sorted(set(pictures.names)))}
    named = name_features(model, tokenizer, [*column])

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        batch = pictures.batch(config.batch_size, generator)
        pixels = soften(batch.x, generator)
        image = F.normalize(model.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        shares = shown_names(batch.scenes, column)
        goal = F.normalize(shares @ named, dim=-1)
        naming = F.cross_entropy(model.logit_scale.exp().clamp(max=50) * image @ named.T, shares)
        alignment = 1 - (image * goal).sum(-1).mean()
        geometry = off_diagonal(image @ image.T - goal @ goal.T)
        terms = {"naming": naming, "alignment": alignment, "geometry": geometry}
        loss = naming + config.alignment_weight * alignment + config.geometry_weight * geometry
        return loss, {name: term.item() for name, term in terms.items()}

    fit(model, loss_at, config, training)
