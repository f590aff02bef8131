"""The section `signing` by itself: whatever else is wrong in params.yaml delays no revocation."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.config import SigningConfig
from fade.errors import ConfigError
from fade.run.read_signing import read_signing

SECTION = "signing:   # the team's\n  private_key: a.pem\n# a remark\n  public_key: 'a.pub'\n\n"
WANTED = SigningConfig(private_key="a.pem", public_key="a.pub")


@pytest.mark.parametrize(
    "text",
    [
        SECTION,
        f"train:\n  steps: -9\nunknown: key\n{SECTION}gate:\n  erased: yes\n",
        f"train: [1, 2\n{SECTION}method: {{\n",
        f"data: &a [*a, *a]\n{SECTION}",
        f"{SECTION}bench: \ud83d\n".encode("utf-8", "surrogatepass").decode("utf-8", "replace"),
    ],
)
def test_mistakes_elsewhere_in_the_file_do_not_matter(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    assert read_signing(tmp_path / "params.yaml", ["train.steps=-1", "nonsense"]) == WANTED


def test_without_a_file_or_a_section_it_is_empty_and_overrides_win(tmp_path: Path) -> None:
    assert read_signing(tmp_path / "none.yaml") == SigningConfig()
    (tmp_path / "params.yaml").write_text("train:\n  steps: 3\n")
    assert read_signing(tmp_path / "params.yaml") == SigningConfig()
    (tmp_path / "params.yaml").write_text(SECTION)
    found = read_signing(tmp_path / "params.yaml", ["signing.public_key=b.pub", "signing.witness=w.json"])
    assert (found.private_key, found.public_key, found.witness) == ("a.pem", "b.pub", "w.json")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("signing:\n  privat_key: a\n", "private_key"),
        ("signing:\n  witness: ../w.json\n", "below the folder"),
        ("signing:\n  witness: /w.json\n", "below the folder"),
        ("signing: [\n", "section `signing`"),
        ("signing:\n  public_key: [1]\n", "public_key"),
    ],
)
def test_a_mistake_in_the_section_is_named(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=match):
        read_signing(tmp_path / "params.yaml")
