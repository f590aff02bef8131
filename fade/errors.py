"""The one exception tree. A message names the key or file, the stage, and what to do next.

Exit codes of the command line: ``FadeError`` 1 (the job failed), ``UsageError`` and everything below it 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from fade.redact import redact


class FadeError(Exception):
    """Base of every error that is raised on purpose: ``stage: what is wrong. Next: what to do.``

    No password enters it: `redact` is applied to what is wrong and to what to do."""

    exit_code = 1
    tampered = False
    """Whether two things were compared and differ, or something that was recorded is gone: only such an error
    is a finding of an audit. Any other says that the comparison could not be made."""

    def __init__(self, what: str, *, stage: str = "", action: str = "", tampered: bool = False) -> None:
        self.what, self.stage, self.action = redact(what), stage, redact(action)
        if tampered:
            self.tampered = True
        super().__init__(self.what)

    def __str__(self) -> str:
        head = f"{self.stage}: " if self.stage else ""
        tail = f" Next: {self.action}" if self.action else ""
        return f"{head}{self.what}{tail}"

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (workers, spawned ranks); the default reduce would drop the keywords.
        return (_rebuild, (type(self), self.what, self.stage, self.action), self.__dict__)


def _rebuild(cls: type[FadeError], what: str, stage: str, action: str) -> FadeError:
    error = cls.__new__(cls)
    FadeError.__init__(error, what, stage=stage, action=action)
    return error


class UsageError(FadeError):
    """What the user asked for cannot be asked for."""

    exit_code = 2


class ConfigError(UsageError):
    """params.yaml or an override: unknown key, wrong type, out of range."""


class UnknownNameError(UsageError):
    """A concept, method or style that does not exist; the nearest names are offered."""

    def __init__(self, kind: str, name: str, known: Iterable[str], *, stage: str = "") -> None:
        self.kind, self.name = kind, name
        near = nearest(name, known)
        offer = (
            f"did you mean {', '.join(repr(n) for n in near)}?"
            if near
            else f"choose one of the known {kind}s."
        )
        super().__init__(f"unknown {kind} {name!r}.", stage=stage, action=offer)


class DataError(FadeError):
    """The data set is not what it should be: manifest, pictures, counts, licences."""


class RemoteError(DataError):
    """A DVC remote cannot be reached, or an object there is missing, corrupt or hostile."""


class UnreachableError(RemoteError):
    """A remote did not answer: the only remote error that is worth trying again."""


class BaseModelError(FadeError):
    """A model directory is missing, incomplete, or in a format that is refused."""


class AdapterError(FadeError):
    """An adapter file is unreadable, foreign to this base, or has no effect."""


class PromotionError(FadeError):
    """A version may not be promoted, rejected or revoked, or the chain of decisions is broken."""


class AuditError(FadeError):
    """An audit could not be made, or the chain of audits is broken."""


class SignatureError(FadeError):
    """A version is not signed, or by another key, or something else was signed; or a key is missing."""


class CacheError(FadeError):
    """A cached artefact does not match the key under which it is stored."""


class JobError(FadeError):
    """A job's workers could not start, were stopped, or ended without its result."""


class TrainingError(FadeError):
    """Training could not start, was stopped, or lost its processes."""


class DivergedError(TrainingError):
    """A loss or a gradient is no longer finite. The last good checkpoint is kept."""


class EvaluationError(FadeError):
    """A metric cannot be computed from what was given."""


class RegistryError(FadeError):
    """MLflow could not record the run; the adapter is kept."""


class RegistryUnreachableError(RegistryError):
    """The tracking server does not answer: the one registry fault that is worth a retry."""


class RequestFileError(UsageError):
    """requests.yaml: unreadable, or a request in it is invalid."""


class RequestError(FadeError):
    """Requests failed, or the lease of one is another worker's."""

    result: object = None
    """What was done all the same, as the command's JSON shows it; None when there is nothing."""


class OrchestrationError(FadeError):
    """Prefect could not be reached or could not run the flow."""


class ServerError(FadeError):
    """A server of a team's set-up on this machine did not start, or ended."""


class BusyError(FadeError):
    """Another process works on the same thing."""


class StorageError(FadeError):
    """A folder cannot be written, or the disk is full."""


def revive(kind: str, what: str, stage: str, action: str) -> FadeError:
    """The error of the class named ``kind`` that another process wrote down; FadeError when there is no such
    class."""
    cls = globals().get(kind)
    return _rebuild(
        cls if isinstance(cls, type) and issubclass(cls, FadeError) else FadeError, what, stage, action
    )


def error_text(error: BaseException) -> str:
    """Any exception as a text without passwords: its type, unless it is ours (its sentence is enough), and
    its message."""
    return str(error) if isinstance(error, FadeError) else redact(f"{type(error).__name__}: {error}")


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The ``n`` known names closest to ``name``: by spelling first, then by shared words."""
    names = list(known)
    lower = {k.lower(): k for k in names}
    found = [lower[k] for k in difflib.get_close_matches(name.lower(), list(lower), n=n, cutoff=0.6)]
    words = set(name.lower().replace("_", " ").split())
    by_words = sorted((k for k in names if words & set(k.lower().replace("_", " ").split())), key=len)
    return list(dict.fromkeys([*found, *by_words]))[:n]
