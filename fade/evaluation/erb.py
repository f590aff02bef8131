"""Erasing-Retention Balance (FADE, CVPR 2025, arXiv 2503.19783)."""

from __future__ import annotations

import numpy as np


def erasing_retention_balance(a_er: float | np.ndarray, a_adj: float | np.ndarray) -> np.ndarray:
    """ERB = 2 A_er A_adj / (A_er + A_adj), in percent; 0 where both are 0 (the harmonic mean's limit)."""
    er, adj = np.asarray(a_er, dtype=float), np.asarray(a_adj, dtype=float)
    total = er + adj
    return np.where(total > 0, 2 * er * adj / np.where(total > 0, total, 1.0), 0.0)
