"""Pictures by an erased model whose adapter acts as much as each prompt means the erased concept: SPM's
Facilitated Transport at evaluation, see `fade.adapters.gating`."""

from __future__ import annotations

from collections.abc import Sequence

from fade.adapters.gating import gated, gates
from fade.adapters.lora import LoraAdapter
from fade.config import MethodConfig
from fade.erasers.base import get_eraser
from fade.generation.generator import STAGE, ImageGenerator, OnBatch, Pictures
from fade.generation.picture_checks import flat, require_pictures


class GatedGenerator(ImageGenerator):
    """An `ImageGenerator` of the same cache; a picture's key names the gate under which it was made."""

    def __init__(self, plain: ImageGenerator, lora: LoraAdapter, concepts: Sequence[str]) -> None:
        """plain: makes the pictures, prompt by prompt, in this process; its counts go on.
        concepts: the erased ones, of which the nearest decides."""
        super().__init__(plain.base, plain.sampler, plain.cache)
        self._plain, self._lora, self._concepts = plain, lora, list(concepts)

    def generate(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        adapter: str = "",
        on_batch: OnBatch = lambda done, total: None,
    ) -> dict[str, Pictures]:
        """As `ImageGenerator.generate`; without ``adapter`` those of the original model."""
        if not adapter:
            return self._plain.generate(prompts, seeds, adapter, on_batch)
        strengths = self._strengths(prompts)
        out: dict[str, Pictures] = {}
        for i, (prompt, strength) in enumerate(strengths.items()):
            label = _label(adapter, strength)
            with gated(self._lora, strength):  # here: a worker would merge the adapter at full strength
                self._plain.share([prompt], seeds, label)
            out |= self._plain._read([[prompt]], seeds, label)[0]
            on_batch((i + 1) * len(seeds), len(strengths) * len(seeds))
        require_pictures({prompt: flat(one.pixels) for prompt, one in out.items()}, (), STAGE, adapter)
        return out

    def labels(self, prompts: Sequence[str], adapter: str) -> dict[str, str]:
        """Prompt -> what stands for the adapter in the key of its pictures, of which each prompt is a batch
        of its own."""
        return {prompt: _label(adapter, strength) for prompt, strength in self._strengths(prompts).items()}

    def _strengths(self, prompts: Sequence[str]) -> dict[str, float]:
        """Prompt -> its gate."""
        unique = list(dict.fromkeys(prompts))
        each = [gates(self.base, unique, concept, self.sampler.prompt) for concept in self._concepts]
        return dict(zip(unique, (max(some) for some in zip(*each, strict=True)), strict=True))


def _label(adapter: str, strength: float) -> str:
    return f"{adapter} gate {strength:.6f}"


def generator_of(
    method: MethodConfig, plain: ImageGenerator, lora: LoraAdapter, concepts: Sequence[str]
) -> ImageGenerator:
    """What makes the pictures of an evaluation: ``plain``, or with the gate of a gated method."""
    eraser = get_eraser(method.name, method.variant)
    return GatedGenerator(plain, lora, concepts) if eraser.gated else plain
