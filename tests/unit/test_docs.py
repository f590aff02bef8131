"""What the documents tell people to type can be typed, and what they point to is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support import command_line

REPO = Path(__file__).resolve().parents[2]
PAGES = sorted([REPO / "README.md", *(REPO / "docs").glob("*.md")])
INLINE, FENCED = (
    re.compile(r"`((?:fade|make|python bench/[^\s`]+) [^`]+)`"),
    re.compile(r"^((?:fade|make|python bench/[^\s`]+) .+)$"),
)


def commands() -> list[tuple[str, str]]:
    """(page, command) of every command in backticks or in a code block, comments cut."""
    found = []
    for page in PAGES:
        inside = False
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith("```"):
                inside = not inside
            some = FENCED.findall(line) if inside else INLINE.findall(line)
            found += [(page.name, command.split("  #")[0].split(" # ")[0].strip()) for command in some]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize(("page", "command"), commands())
def test_a_command_of_the_documents_is_understood(page: str, command: str) -> None:
    tool, *words = shlex.split(command)
    if tool == "fade":
        if not words or words == ["--help"]:
            return
        command_line().commands[words[0]].make_context(words[0], [w for w in words[1:] if w != "--help"])
    elif tool == "make":
        targets = set(
            re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        )
        assert words[0] in targets
    else:
        script = REPO / words[0]
        assert script.is_file()
        text = script.read_text(encoding="utf-8")
        assert [w for w in words[1:] if w.startswith("--") and f'"{w}"' not in text] == []


def test_there_are_commands_to_try() -> None:
    tools = {command.split()[0] for _, command in commands()}
    assert {"fade", "make", "python"} <= tools


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_of_the_documents_are_there(page: Path) -> None:
    links = [link.split("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))]
    missing = [
        link for link in links if link and not link.startswith("http") and not (page.parent / link).exists()
    ]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    """The generated and the user's own files aside, whose paths begin elsewhere."""
    text = page.read_text(encoding="utf-8")
    paths = set(re.findall(r"`((?:fade|tasks|flows|tests|docker)/[\w/.-]+\.\w+)(?:::[\w\[\]-]+)?`", text))
    assert [path for path in sorted(paths) if "NAME" not in path and not (REPO / path).exists()] == []


NAMED = sorted(
    set(re.findall(r"`(test_\w+\.py)::(test_\w+)`", (REPO / "docs" / "security.md").read_text("utf-8")))
)


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_the_page_on_security_names_is_there(file: str, name: str) -> None:
    paths = list(REPO.glob(f"tests/**/{file}"))
    assert any(f"\ndef {name}(" in path.read_text(encoding="utf-8") for path in paths)


def test_the_page_on_security_names_tests() -> None:
    assert len(NAMED) > 25
