"""Releases through the command line, on the embedded world with small numbers: champions in, one model out,
and the way back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fade.config import PromotionPolicy
from fade.data.vocabulary import slug
from fade.errors import AdapterError
from fade.run.resolve_params import load_params
from fade.utils.hashing import sha256_of
from flows.audit import audit
from tasks.registry.decisions import decide
from tasks.registry.lineage import find, trace
from tasks.registry.verify import verify
from tasks.registry.versions import load_version
from tests.e2e.support import REPO, SMALL, environment, fade, small

pytestmark = pytest.mark.long
WHY = ["--override", "small numbers, a test"]
METHODS = {"panda": "uce", "lemon": "fade"}
"""uce is in closed form; six steps of fade erase nothing."""
ERASE = """
import sys
from pathlib import Path
from fade.run.resolve_params import method_overrides
from flows.cli.options import opened
opened(Path("params.yaml"), sys.argv[2:], Path(sys.argv[1]))
from flows.server import runtime
runtime.start()
from flows.erase import erase

def erased(target, method):
    asked = [*method_overrides(method), *sys.argv[2:]]
    settings = opened(Path("params.yaml"), asked, Path(sys.argv[1]))
    values = settings.model_dump(mode="json", by_alias=True)
    return runtime.run(erase, target=[target], params=values, overrides=asked, runs=sys.argv[1])

some = [erased(target, method) for target, method in {methods!r}.items()]
# far enough down the list to be held out, too, where another target is nobody's neighbour
near = {{name for one in some for name in [*one["neighbours"], *one["heldout"][:1], one["target"]]}}
third = next(name for one in some for name in reversed(one["heldout"]) if name not in near)
erased(third, "uce")
print(third)
"""


def ok(done: subprocess.CompletedProcess[str]) -> Any:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout


class Made(NamedTuple):
    """Three runs, two of them champions, and their release, which does not pass for lemon's sake."""

    runs: Path
    release: dict[str, Any]
    third: str
    """The concept that is no champion: a held-out neighbour of the others."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    runs = tmp_path_factory.mktemp("runs")
    line = [
        sys.executable,
        "-c",
        ERASE.format(methods=METHODS),
        str(runs),
        *SMALL,
    ]  # one process: libraries and server start once
    done = subprocess.run(line, cwd=REPO, env=environment(), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    third = done.stdout.splitlines()[-1]
    for concept in ("panda", "lemon"):
        promote(runs, concept)
    done = fade("release", "--by", "ann", "--json", *small(), runs=runs)
    assert done.returncode == 1, done.stderr
    assert (
        "refused fade.release/1 is registered, but not current: lemon: erased 0.0 (asked 97)" in done.stderr
    )
    return Made(runs, json.loads(done.stdout), third)


def promote(runs: Path, concept: str) -> None:
    decide(
        "promote",
        f"fade-{slug(concept)}/1",
        runs,
        PromotionPolicy(),
        by="ann",
        override="small numbers, a test",
    )


@pytest.mark.timeout(1800)
def test_releases_are_made_found_again_replaced_rolled_back_and_withdrawn(made: Made, tmp_path: Path) -> None:
    runs, first, third = made
    name = f"fade-{slug(third)}/1"
    assert (first["version"], first["parts"], first["current"]) == (
        "1",
        ["fade-lemon/1", "fade-panda/1"],
        False,
    )
    again = ok(fade("release", "--by", "ann", "--json", *small(), *WHY, runs=runs))
    assert (again["version"], again["made"], again["current"]) == ("1", False, True)
    assert again["adapter_sha256"] == first["adapter_sha256"]

    record = trace("fade.release/1", runs).lineage.content
    assert list(record["parts"]) == first["parts"] and record["neighbourhood"]["target"] == "lemon + panda"
    for concept, numbers in record["outputs"]["parts"].items():
        alone = trace(f"fade-{concept}/1", runs).lineage.content["outputs"]
        assert (
            alone["adapter_sha256"]
            == record["parts"][f"fade-{concept}/1"]["adapter_sha256"]
            != first["adapter_sha256"]
        )
        assert numbers["alone"]["A_er"] == alone["metrics"]["A_er"]  # the champion's own: the same pictures
    assert [record["outputs"]["parts"][name]["metrics"]["A_er"] for name in ("panda", "lemon")] == [100, 0]
    assert record["outputs"]["worst"]["A_er"] == "lemon" and record["outputs"]["metrics"]["A_er"] == 0
    assert third in record["neighbourhood"]["heldout"]  # nobody has erased it yet
    rows = {row["what"]: row["found"] for row in verify("fade.release/1", runs)}
    assert (
        rows["header and record"] == "agree in concept, base_sha256, parts"
        and "verified" in rows["fade-panda/1"]
    )
    (entry,) = find(runs, hashes={"adapter": first["adapter_sha256"][:12]})
    assert (entry["name"], entry["version"]) == ("fade.release", "1")

    (folder,) = [path.parent for path in runs.glob("release/fade.release/*/adapter.safetensors")]
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert "(pictures/release.png)" in card and (folder / "pictures" / "release.png").stat().st_size > 10_000
    assert "fade release --set neighborhood" in card and "| fade-panda/1 | panda |" in card

    promote(runs, third)
    second = ok(fade("release", "--by", "bob", "--json", *small(), *WHY, runs=runs))
    assert (second["version"], second["parts_in"], second["was_current"]) == ("2", [name], "1")
    assert third not in trace("fade.release/2", runs).lineage.content["neighbourhood"]["heldout"]
    back = ok(fade("rollback", "--reason", "the lemon is back", "--by", "ann", "--json", runs=runs))
    assert (back["from"], back["to"], back["parts_out"]) == ("2", "1", [name])
    assert (
        back["adapter_sha256"]
        == first["adapter_sha256"]
        == sha256_of(Path(back["adapter"]))
        == sha256_of(folder / "adapter.safetensors")
    )
    lenient = [
        part
        for key in ("erased", "neighbours_kept", "heldout_kept", "rest_kept", "erb")
        for part in ("--set", f"gate.{key}=0")
    ]
    refused = fade(
        "release", "--json", *small(), *lenient, runs=runs
    )  # the same champions as in 2: a rollback is not undone by the way
    assert refused.returncode == 1 and "ann took it back (rollback of 2: the lemon is back)" in refused.stderr

    drawn = ["generate", "a panda", "-n", "2", "--set", "sampler.steps=4", "--model", "fade.release@champion"]
    ok(fade(*drawn, "--out", str(tmp_path / "now.png"), runs=runs))
    assert (tmp_path / "now.png").is_file()
    decide("revoke", "fade-panda/1", runs, PromotionPolicy(), by="ann", reason="an attack")
    listed = fade("releases", runs=runs)
    assert listed.returncode == 0 and "HOLDS REVOKED" in listed.stdout and "refuses to load" in listed.stderr
    with pytest.raises(AdapterError, match="holds fade-panda/1, which was revoked"):
        load_version("fade.release@champion", runs)
    (audited,) = audit(
        "fade.release/1", load_params(REPO / "params.yaml"), runs, root=REPO
    )  # withdrawn, and still to be accounted for
    assert (audited["verdict"]["name"], audited["control"]) == ("identical", "different"), audited["evidence"]
    assert "added up again from fade-lemon/1, fade-panda/1" in audited["verdict"]["note"]
