"""The one exception tree: sentences, exit codes, nearest names, and the way across a process border."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from fade import errors
from fade.errors import (
    AdapterError,
    ConfigError,
    FadeError,
    RegistryError,
    UnknownNameError,
    UsageError,
    nearest,
    revive,
)

TREE = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, FadeError)]
KNOWN = ["panda", "koala", "red apple", "green apple", "grinning cat", "cat with tears of joy", "Tiger"]


def test_a_sentence_has_a_stage_a_fault_and_a_next_step() -> None:
    assert str(AdapterError("x.safetensors is unreadable.", stage="adapter", action="train again.")) == (
        "adapter: x.safetensors is unreadable. Next: train again."
    )
    assert str(AdapterError("it broke.")) == "it broke."


@pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
def test_exit_codes_follow_the_tree(cls: type[FadeError]) -> None:
    assert cls.exit_code == (2 if issubclass(cls, UsageError) else 1)
    assert cls.__doc__, f"{cls.__name__} does not say when it is raised"


@pytest.mark.parametrize(
    "cls", [cls for cls in TREE if cls is not UnknownNameError], ids=lambda cls: cls.__name__
)
def test_errors_cross_a_process_border_whole(cls: type[FadeError]) -> None:
    sent = cls("rank is 0.", stage="config", action="raise it.")
    got = pickle.loads(pickle.dumps(sent))
    assert (
        type(got) is cls
        and str(got) == str(sent)
        and (got.what, got.stage, got.action) == (sent.what, sent.stage, sent.action)
    )


def test_an_unknown_name_crosses_too_with_its_offer() -> None:
    sent = UnknownNameError("concept", "pnada", KNOWN, stage="target")
    got = pickle.loads(pickle.dumps(sent))
    assert type(got) is UnknownNameError and str(got) == str(sent)
    assert (got.kind, got.name, got.__dict__) == ("concept", "pnada", sent.__dict__)


def test_an_unknown_name_offers_the_nearest() -> None:
    error = UnknownNameError("concept", "pnada", KNOWN, stage="target")
    assert (
        str(error).startswith("target: unknown concept 'pnada'. Next: did you mean 'panda'")
        and error.exit_code == 2
    )
    assert "choose one of the known concepts" in str(UnknownNameError("concept", "zzz", KNOWN))


@pytest.mark.parametrize(
    ("asked", "first"),
    [
        ("pnada", "panda"),
        ("PANDA", "panda"),
        ("tiger", "Tiger"),
        ("red_apple", "red apple"),
        ("apple", "red apple"),
        ("joyful cat", "grinning cat"),
    ],
)
def test_nearest_goes_by_spelling_then_by_words(asked: str, first: str) -> None:
    assert nearest(asked, KNOWN)[0] == first


def test_nearest_offers_few_known_names_each_once() -> None:
    found = nearest("cat apple", KNOWN, n=2)
    assert len(found) == len(set(found)) == 2 and set(found) <= set(KNOWN)
    assert nearest("zzz", KNOWN) == [] and nearest("panda", []) == []


def test_an_error_that_another_process_wrote_down_is_revived() -> None:
    error = revive("RegistryError", "no answer.", "register", "run `fade register`.")
    assert type(error) is RegistryError and str(error) == "register: no answer. Next: run `fade register`."


@pytest.mark.parametrize("kind", ["Exception", "Iterable", "difflib", "nearest", "NoSuchError", "__name__"])
def test_only_our_own_errors_are_revived(kind: str) -> None:
    assert type(revive(kind, "no answer.", "register", "wait.")) is FadeError


def test_config_errors_are_usage_errors() -> None:
    assert issubclass(ConfigError, UsageError) and issubclass(UnknownNameError, UsageError)


def test_every_error_of_the_tree_has_a_user(repo: Path) -> None:
    """No class without a raise: what is not used is deleted (a class with subclasses in use is a branch)."""
    files = [
        path
        for package in ("fade", "tasks", "flows")
        for path in (repo / package).rglob("*.py")
        if path.name != "errors.py"
    ]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    unused = [
        cls.__name__
        for cls in TREE
        if not cls.__subclasses__() and not re.search(rf"\b{cls.__name__}\b", text)
    ]
    assert unused == []
