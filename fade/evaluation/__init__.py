"""Evidence: what an eraser removed and what it left. One metric a file; nothing here trains, but an attack that undoes it again."""

from fade.evaluation.evaluate import Evaluation, evaluate
from fade.evaluation.judge import Judge

__all__ = ["Evaluation", "Judge", "evaluate"]
