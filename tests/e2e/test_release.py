"""Releases through the command line, on the embedded world with small numbers: champions in, one model out, and the way back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fade.manifest import sha256_of
from tests.e2e.support import fade, small

WHY = ["--override", "small numbers, a test"]


def ok(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout


def champion(runs: Path, concept: str) -> dict[str, Any]:
    """A small run of a concept, promoted against the gate."""
    made: dict[str, Any] = ok(fade("run", "--target", concept, "--json", *small(), runs=runs))
    ok(fade("promote", f"fade-{concept}/1", *WHY, "--json", runs=runs))
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Two champions and their release, which the gate refuses: its runs folder and its JSON."""
    runs = tmp_path_factory.mktemp("runs")
    for concept in ("panda", "lemon"):
        champion(runs, concept)
    done = fade("release", "--by", "ann", "--json", *small(), "--set", "gate.erased=100", "--set", "gate.erb=100", runs=runs)
    assert done.returncode == 1, done.stderr
    assert "refused fade.release/1 is registered, but not current: " in done.stderr and "panda: erased" in done.stderr
    return runs, json.loads(done.stdout)


@pytest.mark.timeout(1800)
def test_releases_are_made_found_again_replaced_rolled_back_and_withdrawn(made: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    runs, first = made
    assert (first["version"], first["parts"], first["current"]) == ("1", ["fade-lemon/1", "fade-panda/1"], False)
    again = ok(fade("release", "--by", "ann", "--json", *small(), *WHY, runs=runs))
    assert (again["version"], again["made"], again["current"]) == ("1", False, True)
    assert again["adapter_sha256"] == first["adapter_sha256"]

    record = ok(fade("lineage", "fade.release/1", "--json", runs=runs))["lineage"]
    assert list(record["parts"]) == first["parts"] and record["neighbourhood"]["target"] == "lemon + panda"
    for concept, numbers in record["outputs"]["parts"].items():
        alone = ok(fade("lineage", f"fade-{concept}/1", "--json", runs=runs))["lineage"]
        assert alone["outputs"]["adapter_sha256"] == record["parts"][f"fade-{concept}/1"]["adapter_sha256"]
        assert set(numbers["metrics"]) == {"A_er", "A_adj", "A_heldout", "A_rest", "ERB"} == set(numbers["alone"])
        assert numbers["alone"]["A_er"] == alone["outputs"]["metrics"]["A_er"]  # the champion's own, over the same pictures
    found = ok(fade("lineage", "--adapter", first["adapter_sha256"][:12], "--json", runs=runs))
    assert [f"{one['name']}/{one['version']}" for one in found] == ["fade.release/1"]
    rows = {row["what"]: row["found"] for row in ok(fade("verify", "fade.release/1", "--json", runs=runs))}
    assert rows["header and record"] == "agree in concept, base_sha256, parts" and "verified" in rows["fade-panda/1"]

    (folder,) = [path.parent for path in runs.glob("release/fade.release/*/adapter.safetensors")]
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert "(pictures/release.png)" in card and (folder / "pictures" / "release.png").stat().st_size > 10_000
    assert "fade release --set neighborhood" in card and "| fade-panda/1 | panda |" in card

    champion(runs, "tulip")
    second = ok(fade("release", "--by", "bob", "--json", *small(), *WHY, runs=runs))
    assert (second["version"], second["parts_in"], second["was_current"]) == ("2", ["fade-tulip/1"], "1")
    back = ok(fade("rollback", "--reason", "the lemon is back", "--by", "ann", "--json", runs=runs))
    assert (back["from"], back["to"], back["parts_out"]) == ("2", "1", ["fade-tulip/1"])
    assert (
        back["adapter_sha256"] == first["adapter_sha256"] == sha256_of(Path(back["adapter"])) == sha256_of(folder / "adapter.safetensors")
    )
    refused = fade("release", "--json", *small(), "--set", "gate.erased=0", "--set", "gate.erb=0", runs=runs)
    assert (refused.returncode == 1 and "ann took it back" in refused.stderr) or "tulip" in refused.stderr

    drawn = ["generate", "a panda", "-n", "2", "--set", "sampler.steps=4"]
    ok(fade(*drawn, "--model", "fade.release@champion", "--out", str(tmp_path / "now.png"), runs=runs))
    ok(fade(*drawn, "--model", str(folder / "adapter.safetensors"), "--out", str(tmp_path / "file.png"), runs=runs))
    assert (tmp_path / "now.png").read_bytes() == (tmp_path / "file.png").read_bytes()

    ok(fade("revoke", "fade-panda/1", "--reason", "an attack", runs=runs))
    listed = fade("releases", runs=runs)
    assert listed.returncode == 0 and "HOLDS REVOKED" in listed.stdout and "refuses to load" in listed.stderr
    loaded = fade(*drawn, "--model", "fade.release@champion", "--out", str(tmp_path / "x.png"), runs=runs)
    assert loaded.returncode == 1 and "fade.release/1 holds fade-panda/1, which was revoked" in loaded.stderr
    nothing = fade("rollback", "--reason", "again", runs=runs)
    assert nothing.returncode == 1 and "there is no earlier release" in nothing.stderr
