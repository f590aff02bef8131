"""A registered version is verified before it is exported: its signature, and that it was not revoked."""

from __future__ import annotations

from pathlib import Path

import pytest

from fade.config import Params, PromotionPolicy
from fade.errors import AdapterError, SignatureError, UnknownNameError, UsageError
from fade.run.context import RunContext
from tasks.registry import signing
from tasks.registry.decisions import decide
from tasks.registry.register import register
from tasks.stages.export import export
from tests.registered import finished_run

pytestmark = pytest.mark.usefixtures("alone")


def run(store: Path, public_key: Path | str = "") -> RunContext:
    params = Params.model_validate({"signing": {"public_key": str(public_key)}})
    return RunContext(params, (), store)


def test_a_version_is_verified_before_it_leaves(tmp_path: Path, store: Path) -> None:
    made = finished_run(tmp_path, seed=31, model_prefix="leaving")
    version, out = f"{register(*made, runs=store).name}/1", tmp_path / "out.safetensors"
    found = export(run(store), version, "diffusers", out)
    assert out.read_bytes() == (made[3] / "adapter.safetensors").read_bytes()
    assert (found["format"], found["out"]) == ("diffusers", str(out))

    _, public = signing.make_keys(tmp_path, "team")
    with pytest.raises(SignatureError, match="is not signed"):
        export(run(store, public), version, "diffusers", tmp_path / "unsigned")
    with pytest.raises(UnknownNameError, match="leaving-panda/2"):
        export(run(store), "leaving-panda/2", "diffusers", tmp_path / "unknown")
    decide("revoke", version, store, PromotionPolicy(), by="ann", reason="an attack brings it back")
    with pytest.raises(AdapterError, match=f"{version} was revoked"):
        export(run(store), version, "diffusers", tmp_path / "revoked")
    assert not {"unsigned", "unknown", "revoked"} & {file.name for file in tmp_path.iterdir()}


@pytest.mark.parametrize("what", ["a file", "a folder", "a link that leads nowhere"])
def test_what_is_there_is_refused_before_anything_is_read(tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    if what == "a file":
        out.write_text("kept")
    elif what == "a folder":
        out.mkdir()
    else:
        out.symlink_to(tmp_path / "nowhere")
    for layout in ("diffusers", "kohya", "merged"):
        with pytest.raises(UsageError, match="out is there already"):
            export(run(tmp_path / "runs"), "no-such/1", layout, out)
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
