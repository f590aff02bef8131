"""Evidence: what an eraser removed and what it left. One metric a file; nothing here trains, but an attack
that undoes it again."""

from fade.evaluation.evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
