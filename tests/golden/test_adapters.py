"""Every method variant trains the adapter that it trained when the golden file was made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.golden import adapters, machine

GOLDEN = machine.read(adapters.FILE)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, dict[str, Any]], bytes]:
    return adapters.trainer(tmp_path_factory.mktemp("golden"))


def test_the_variants_and_their_own_settings_are_those_of_the_golden_file() -> None:
    assert adapters.variants() == {name: entry["settings"] for name, entry in GOLDEN["adapters"].items()}


@pytest.mark.parametrize("name", GOLDEN["adapters"])
def test_the_adapter_is_that_of_the_golden_file(
    trained: Callable[[str, dict[str, Any]], bytes], name: str
) -> None:
    """To the byte on a machine of the same kind, to the stated share of its norm on any other."""
    expected = GOLDEN["adapters"][name]
    actual = adapters.summary(trained(name, expected["settings"]))
    assert actual["metadata"] == expected["metadata"]
    shapes = {key: one["shape"] for key, one in expected["tensors"].items()}
    assert {key: one["shape"] for key, one in actual["tensors"].items()} == shapes
    tolerance = adapters.TOLERANCES.get(name, adapters.TOLERANCE)
    assert {
        key: share for key, share in adapters.distances(expected, actual).items() if not share <= tolerance
    } == {}
    if machine.facts(adapters.THREADS) == GOLDEN["machine"]:
        assert actual["sha256"] == expected["sha256"]


def test_control_another_seed_is_beyond_the_tolerance(
    trained: Callable[[str, dict[str, Any]], bytes],
) -> None:
    """A variant whose down projections are drawn, and whose other draws decide the rest."""
    name = "fade/paper"
    expected = GOLDEN["adapters"][name]
    settings = {**expected["settings"], "train": {**expected["settings"]["train"], "seed": 1}}
    found = adapters.distances(expected, adapters.summary(trained("control", settings)))
    assert max(found.values()) > 100 * adapters.TOLERANCE
