"""The section `signing` by itself: whatever else is wrong in params.yaml delays no revocation."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.config import SigningConfig
from fade.errors import ConfigError
from fade.run.read_signing import read_signing
from fade.run.resolve_params import load_params

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


@pytest.mark.parametrize(
    "text",
    [
        '"signing":\n  public_key: a.pub\n',
        "'signing':\n  public_key: a.pub\n",
        '"sign\\x69ng": {public_key: a.pub}\n',
        "? signing\n: public_key: a.pub\n",
        "!!str signing:\n  public_key: a.pub\n",
        "&a signing:\n  public_key: a.pub\n",
        '{"signing": {"public_key": "a.pub"}}',
        "{signing: {public_key: a.pub}, train: {steps: -3}}",
        "  signing:\n    public_key: a.pub\n",
        "\ufeffsigning:\n  public_key: a.pub\n",
        "--- {signing: {public_key: a.pub}}\n",
        "signing: !!map\n  public_key: !!str a.pub # the team's\n",
        "x: &b {signing: {public_key: a.pub}}\n<<: *b\n",
    ],
)
def test_every_spelling_that_yaml_knows_is_heard(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    assert read_signing(tmp_path / "params.yaml") == SigningConfig(public_key="a.pub")


@pytest.mark.parametrize(
    "text",
    [
        'train: [1\n"signing":\n  public_key: a.pub\n',
        "train: [1\n  signing: {public_key: a.pub}\n",
        f'{SECTION}"signing":\n  public_key: b.pub\n',
        f"{SECTION}{SECTION}",
        "- signing\n",
        "signing:\n",
        "singing:\n  public_key: a.pub\n",
        "Signing:\n  public_key: a.pub\n",
        '" signing": {public_key: a.pub}\n',
    ],
)
def test_a_section_that_is_not_certain_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError):
        read_signing(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    "item",
    [
        "signing={public_key: x}",
        "signing .public_key=x",
        " signing. public_key = x # the team's",
        "signing.public_key=!!str x",
        "signing.public_key='x'",
    ],
)
def test_overrides_are_heard_as_every_other_command_hears_them(tmp_path: Path, item: str) -> None:
    (tmp_path / "params.yaml").write_text("train:\n  steps: 3\n")
    found = read_signing(tmp_path / "params.yaml", [item, "method.name=nonsense"])
    assert found == load_params(tmp_path / "params.yaml", [item]).signing == SigningConfig(public_key="x")


@pytest.mark.parametrize(
    "item",
    [
        "signing.public_key=~",
        "signing.public_key='x",
        "signing..public_key=x",
        '"signing".public_key=x',
        "signing",
        "singing.public_key=x",
        "signing.public_key.x=y",
        "signing=x",
        "signing=",
    ],
)
def test_an_override_that_is_not_certain_is_refused(tmp_path: Path, item: str) -> None:
    with pytest.raises(ConfigError):
        read_signing(tmp_path / "none.yaml", [item])
