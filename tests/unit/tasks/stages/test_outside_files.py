"""Files that a command names or finds: pictures, prompts, a registration that is pending."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fade.errors import FadeError, RegistryError, UsageError
from tasks.registry.register import PENDING, register_pending
from tasks.stages.nudity import read_prompts
from tasks.stages.purify import read_picture

ODD: dict[str, Callable[[Path], object]] = {
    "a named pipe": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": Path.mkdir,
    "NUL": lambda path: path.write_bytes(b"prompt\n\0\n"),
}


@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize(
    ("name", "read"), [("p.png", read_picture), ("p.txt", read_prompts), ("p.csv", read_prompts)]
)
def test_a_named_file_that_is_none_is_refused(
    tmp_path: Path, what: str, name: str, read: Callable[[Path], object]
) -> None:
    ODD[what](tmp_path / name)
    with pytest.raises(UsageError, match=name):
        read(tmp_path / name)


@pytest.mark.parametrize("what", ODD)
def test_a_pending_registration_that_is_no_file_is_refused(tmp_path: Path, what: str) -> None:
    ODD[what](tmp_path / PENDING)
    with pytest.raises(RegistryError, match=f"{PENDING} cannot be read"):
        register_pending(tmp_path)


@pytest.mark.parametrize(
    "body",
    [
        "[" * 100_000,
        "[1]",
        "7",
        '{"params": 7}',
        '{"params": {"train": {"steps": "many"}}}',
        json.dumps({"params": {}, "result": 7, "lineage": "x", "runs": 5}),
        '{"params": {}, "params": {}}',
        '{"params": {}, "result": {"a": NaN}}',
        '{"params": {"mesh": ' + '{"a":' * 90 + "1" + "}" * 92,
    ],
)
def test_a_pending_registration_of_numbers_or_nested_text_is_refused(tmp_path: Path, body: str) -> None:
    (tmp_path / PENDING).write_text(body)
    with pytest.raises(FadeError, match=PENDING) as caught:
        register_pending(tmp_path)
    assert caught.value.action
