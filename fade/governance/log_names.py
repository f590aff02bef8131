"""Names of the logs of a registry, and what each is about."""

from __future__ import annotations

DECISIONS, AUDITS, HISTORY = LOGS = ".decisions", ".audits", ".history"
"""Behind a model's name: the models whose versions are the entries of its logs."""
REQUEST = ".request."
"""Between prefix and id: the name of the model whose versions are the events of an erasure request."""


def log_kind(name: str) -> str:
    """``REQUEST``, ``DECISIONS``, ``AUDITS`` or ``HISTORY``; empty for a model whose versions are adapters. A
    request's id stands last and may end in anything, so ``REQUEST`` comes first."""
    if REQUEST in name:
        return REQUEST
    return next((end for end in LOGS if name.endswith(end)), "")


def is_log(name: str) -> bool:
    """True for a model whose versions are the entries of a log, and no adapters."""
    return bool(log_kind(name))


def subject(log: str) -> str:
    """The model that a log is about, or the log itself (a request's): ``"fade-panda.audits"`` ->
    ``"fade-panda"``."""
    return log if REQUEST in log else log.removesuffix(log_kind(log))
