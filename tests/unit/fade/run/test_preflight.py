"""What is refused before anything is pulled or started, and when that must wait for the pull."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.data.dvcfile import hash_folder, listing_md5
from fade.errors import BaseModelError, ConfigError, FadeError, UnknownNameError
from fade.run.context import RunContext
from fade.run.preflight import preflight
from fade.run.resolve_params import parse_params
from tests.datasets import make_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose data folder is what data.dvc names."""
    make_dataset(tmp_path / "data" / "emoji")
    for name in ("base/clip", "judge"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "config.json").write_text("{}")
    named(tmp_path)
    return tmp_path


def named(root: Path) -> None:
    md5 = listing_md5(hash_folder(root / "data"))
    (root / "data.dvc").write_text(
        f"outs:\n- md5: {md5}\n  size: 1\n  nfiles: 1\n  hash: md5\n  path: data\n"
    )


def run(root: Path, target: str = "panda", **data: str) -> RunContext:
    method = {"name": "surgical", "variant": "guidance", "replacement": data.pop("replacement", "")}
    near = {"k": int(data.pop("k", "2")), "k_heldout": 1}  # of four concepts
    return RunContext(
        parse_params({"data": data, "method": method, "neighborhood": near}), target, root / "runs", root
    )


def test_what_will_work_is_let_through(root: Path) -> None:
    preflight(run(root))
    preflight(run(root, base="some/hub-id"))  # fetched when its turn comes


@pytest.mark.parametrize(
    ("target", "data", "error", "says"),
    [
        ("pandda", {}, UnknownNameError, "'panda'"),
        ("panda", {"replacement": "rosse"}, UnknownNameError, "method.replacement"),
        ("panda", {"replacement": "panda"}, ConfigError, "cannot be replaced by itself"),
        ("panda", {"k": "3"}, ConfigError, "ask for 4 concepts beside the target, and there are 3"),
        ("panda", {"base": "data/nowhere"}, BaseModelError, "data/nowhere is not there"),
        ("panda", {"erase": "styles"}, UnknownNameError, "unknown concept 'panda'"),
    ],
)
def test_what_no_pull_will_mend_is_said_at_once(
    root: Path, target: str, data: dict[str, str], error: type[FadeError], says: str
) -> None:
    with pytest.raises(error, match=says):
        preflight(run(root, target, **data))


@pytest.mark.parametrize("why", ["changed", "gone", "no .dvc file"])
def test_where_the_pull_may_bring_what_is_missing_nothing_is_said(root: Path, why: str) -> None:
    manifest = root / "data" / "emoji" / "manifest.csv"
    if why == "changed":
        manifest.write_text(manifest.read_text() + "\n")
    elif why == "gone":
        manifest.unlink()
    else:
        (root / "data.dvc").unlink()
    preflight(run(root, "pandda", base="data/nowhere"))


def test_a_manifest_that_cannot_be_read_is_the_data_checks_business(root: Path) -> None:
    (root / "data" / "emoji" / "manifest.csv").write_bytes(b"\xff\xfe,concept\n\x00")
    named(root)
    preflight(run(root, "pandda"))
