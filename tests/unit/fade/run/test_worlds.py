"""The worlds of params.yaml: one is named, refused by a sentence, found by its md5, and never mixed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from fade.config import Params
from fade.data.dvcfile import hash_folder, listing_bytes, listing_md5, read_dvc_file
from fade.errors import AdapterError, ConfigError, DataError, UnknownNameError
from fade.models.hub import is_hub_id
from fade.run import resolve_params
from fade.run.context import RunContext
from fade.run.resolve_params import load_params, resolve
from fade.run.worlds import (
    ABSENT,
    DIFFERS,
    HERE,
    OTHER,
    in_world,
    list_worlds,
    other_world,
    recorded_md5s,
    require_base,
    require_here,
    world_hint,
    world_overrides,
)
from flows.cli.options import with_world
from tests.registered import adapter_bytes

FILES = {"emoji/panda.png": b"a panda", "base/unet": b"weights", "judge/config.json": b"{}"}


def track(root: Path, name: str, files: dict[str, bytes]) -> str:
    """Write a folder and the .dvc file beside it; returns its md5."""
    folder = root / name
    shutil.rmtree(folder, ignore_errors=True)
    for path, body in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(body)
    return point(root, name, listing_md5(hash_folder(folder)))


def point(root: Path, name: str, md5: str) -> str:
    size = sum(file.stat().st_size for file in (root / name).rglob("*") if file.is_file())
    out = {"md5": md5, "size": size, "hash": "md5", "path": Path(name).name}
    (root / f"{name}.dvc").write_text(yaml.safe_dump({"outs": [out]}))
    return md5


def settings(folder: str, judge: str = "") -> list[str]:
    parts = {"images": "emoji", "base": "base", "clip": "base/clip"}
    judged = f"data.judge={judge or folder}/judge"
    return [*(f"data.{key}={folder}/{part}" for key, part in parts.items()), judged]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project whose data.dvc is the world `new`; `old` lies in worlds/old, and `other` shares the pictures
    and the judge of `new`. Its params.yaml is made of these three."""
    new = track(tmp_path, "data", {**FILES, "base/unet": b"other weights"})
    old = track(tmp_path, "worlds/old", FILES)
    other = track(tmp_path, "worlds/other", {"unet": b"a third"})
    worlds = {
        "new": {"dvc_files": {"data.dvc": new}, "settings": settings("data")},
        "old": {"dvc_files": {"worlds/old.dvc": old}, "settings": settings("worlds/old")},
        "other": {
            "dvc_files": {"data.dvc": new, "worlds/other.dvc": other},
            "settings": ["data.base=worlds/other", "register.model_prefix=fade-other"],
        },
    }
    (tmp_path / "params.yaml").write_text(yaml.safe_dump({"worlds": worlds}))
    return tmp_path


def params(root: Path) -> Params:
    return load_params(root / "params.yaml")


def record(*md5s: str) -> dict[str, Any]:
    files = {"dvc_files": {str(i): md5 for i, md5 in enumerate(md5s)}} if len(md5s) > 1 else {}
    return {"data": {"md5": md5s[0], **files}}


def test_the_shipped_default_world_is_the_section_data_and_what_data_dvc_names(repo: Path) -> None:
    shipped = load_params(repo / "params.yaml")
    name, world = next(iter(shipped.worlds.items()))
    assert resolve(repo / "params.yaml", world_overrides(repo / "params.yaml", name)).data == shipped.data
    named = {item.partition("=")[0] for item in world.settings}
    parts = [*("images", "base", "clip", "judge"), *(["second_judge"] if shipped.data.second_judge else [])]
    assert named == {f"data.{part}" for part in parts}
    assert world.dvc_files == {"data.dvc": read_dvc_file(repo / "data.dvc").md5}


def test_every_shipped_world_has_its_dvc_files_and_names_no_part_of_another(repo: Path) -> None:
    for name, world in load_params(repo / "params.yaml").worlds.items():
        world_overrides(repo / "params.yaml", name)
        assert world.dvc_files == {file: read_dvc_file(repo / file).md5 for file in world.dvc_files}


def test_a_worlds_settings_come_first_and_set_wins(root: Path) -> None:
    made = world_overrides(root / "params.yaml", "other", ["register.model_prefix=mine"])
    data = resolve(root / "params.yaml", made).data
    assert [str(file) for file in data.dvc_files] == ["data.dvc", "worlds/other.dvc"]
    assert (data.base, data.judge) == ("worlds/other", "data/judge")
    assert resolve(root / "params.yaml", made).register_.model_prefix == "mine"
    one = resolve(root / "params.yaml", world_overrides(root / "params.yaml", "old")).data
    assert one.dvc_file == Path("worlds/old.dvc") and one.images == Path("worlds/old/emoji")


@pytest.mark.parametrize(
    ("name", "offer"), [("nwe", "did you mean 'new'?"), ("zzzz", "choose one of 'new', 'old', 'other'.")]
)
def test_an_unknown_world_is_refused_with_a_name_that_is_one(root: Path, name: str, offer: str) -> None:
    with pytest.raises(UnknownNameError, match=re.escape(f"unknown world '{name}'. Next: {offer}")) as caught:
        world_overrides(root / "params.yaml", name)
    assert caught.value.exit_code == 2


def test_a_dvc_file_that_names_other_data_is_no_silent_switch(root: Path) -> None:
    point(root, "data", "0" * 32 + ".dir")
    with pytest.raises(
        ConfigError, match=r"the world 'new' is \w+\.dir in params.yaml, and data\.dvc names 0"
    ):
        world_overrides(root / "params.yaml", "new")
    world_overrides(root / "params.yaml", "old")  # does not stand on data.dvc


@pytest.mark.parametrize(
    ("item", "says"),
    [
        ("data.judge=data/judge/styles", r"data\.judge = data/judge/styles is no part of the world 'old'"),
        ("data.images=worlds/old/../other", r"data\.images = worlds/old/\.\./other is no part"),
        ("data.dvc_file=data.dvc", r"data\.dvc_file is not that of the world 'old'"),
    ],
)
def test_worlds_are_not_mixed(root: Path, item: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        world_overrides(root / "params.yaml", "old", [item])
    world_overrides(root / "params.yaml", "old", ["data.judge=/mine/judge", "data.clip=openai/clip"])


def test_another_worlds_part_is_refused_however_its_path_is_spelled(root: Path) -> None:
    (root / "mine").symlink_to(root / "data", target_is_directory=True)
    for where in (f"{root}/data/judge", "./data/judge", f"../{root.name}/data/judge", "mine/judge"):
        with pytest.raises(ConfigError, match="is no part of the world 'old'"):
            world_overrides(root / "params.yaml", "old", [f"data.judge={where}"])
    world_overrides(root / "params.yaml", "old", [f"data.judge={root}/worlds/old/judge"])


def test_a_world_with_its_own_base_has_no_configurations_of_the_sections(root: Path) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["data"] = {"base": "one.safetensors", "base_config": "configs/sd"}
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    data = resolve(root / "params.yaml", world_overrides(root / "params.yaml", "old")).data
    assert (data.base, data.base_config) == ("worlds/old/base", "")
    assert in_world(params(root), "old", root).data.base_config == ""
    own = ["data.base=two.safetensors", "data.base_config=mine"]
    data = resolve(root / "params.yaml", world_overrides(root / "params.yaml", "old", own)).data
    assert (data.base, data.base_config) == ("two.safetensors", "mine")


def test_a_world_with_its_own_judge_has_no_second_one_of_the_sections(root: Path) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["data"] = {"second_judge": "judges/mine"}
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    data = resolve(root / "params.yaml", world_overrides(root / "params.yaml", "old")).data
    assert (data.judge, data.second_judge) == ("worlds/old/judge", "")
    own = world_overrides(root / "params.yaml", "old", ["data.second_judge=judges/theirs"])
    assert resolve(root / "params.yaml", own).data.second_judge == "judges/theirs"


NAMES = ["../data.dvc", "/data.dvc", "./data.dvc", "a/../data.dvc", "a,b.dvc", "a b.dvc", "data"]


@pytest.mark.parametrize("file", NAMES)
def test_a_worlds_dvc_file_is_one_of_the_project_in_its_one_spelling(root: Path, file: str) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["worlds"]["old"]["dvc_files"] = {file: "0" * 32 + ".dir"}
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"worlds\.old\.dvc_files"):
        params(root)


@pytest.mark.parametrize("item", ["data.dvc_file=data.dvc", " worlds . old=7", "worlds={}", "nonsense", ""])
def test_a_worlds_settings_name_no_other_data_and_no_world(root: Path, item: str) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["worlds"]["old"]["settings"].append(item)
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"worlds\.old\.settings"):
        params(root)


def test_a_world_without_its_dvc_file_or_its_entry_says_where_it_is_named(root: Path) -> None:
    (root / "worlds/old.dvc").unlink()
    with pytest.raises(ConfigError, match=r"the world 'old': .*old\.dvc does not exist") as caught:
        world_overrides(root / "params.yaml", "old")
    assert caught.value.action.startswith("correct worlds.old, or restore worlds/old.dvc from git")
    (root / "params.yaml").write_text("worlds: {}\n")
    with pytest.raises(UnknownNameError, match="under `worlds` in params"):
        world_overrides(root / "params.yaml", "old")


def test_a_world_that_is_not_here_is_refused_and_nothing_is_lost(root: Path) -> None:
    require_here(params(root), "old", root)
    (root / "worlds/old/base/unet").write_bytes(b"mine")
    before = hash_folder(root / "worlds")
    with pytest.raises(DataError, match="the world 'old' is not here: .*worlds/old is not what") as caught:
        require_here(params(root), "old", root)
    assert "Next: fetch it with `fade pull --world old`." in str(caught.value)
    assert hash_folder(root / "worlds") == before
    shutil.rmtree(root / "worlds/other")
    with pytest.raises(DataError, match="the world 'other' is not here"):
        require_here(params(root), "other", root)


def test_a_world_is_named_and_looked_for_by_one_reading_of_the_parameters(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings: list[Path] = []
    read = resolve_params._read
    monkeypatch.setattr(resolve_params, "_read", lambda path: readings.append(path) or read(path))
    file, own = root / "params.yaml", ["register.model_prefix=mine"]
    assert with_world(file, "old", own) == [*world_overrides(file, "old"), *own]
    assert readings == [file] * 2  # one by each of the two
    assert with_world(file, None, own) == own and len(readings) == 2
    (root / "worlds/old/base/unet").write_bytes(b"mine")
    with pytest.raises(DataError, match="the world 'old' is not here"):
        with_world(file, "old", own)
    assert with_world(file, "old", own, pulls=True)


def test_a_file_of_the_users_own_beside_a_world_is_none_of_it(root: Path) -> None:
    dvcfile = read_dvc_file(root / "worlds/old.dvc")
    listing = root / ".dvc/cache/files/md5" / dvcfile.md5[:2] / dvcfile.md5[2:]
    listing.parent.mkdir(parents=True)
    listing.write_bytes(listing_bytes(hash_folder(dvcfile.folder)))
    (root / "worlds/old/notes.txt").write_text("mine")
    require_here(params(root), "old", root)
    (root / "worlds/old/base/unet").write_bytes(b"mine")
    with pytest.raises(DataError, match="not here"):
        require_here(params(root), "old", root)


def test_the_list_has_each_worlds_state(root: Path) -> None:
    assert [(row["name"], row["default"], row["state"]) for row in list_worlds(params(root), root)] == [
        ("new", True, HERE),
        ("old", False, HERE),
        ("other", False, HERE),
    ]
    shutil.rmtree(root / "worlds/old")
    (root / "worlds/other/unet").write_bytes(b"mine")
    rows = {row["name"]: row for row in list_worlds(params(root), root)}
    assert (rows["old"]["state"], rows["other"]["state"]) == (ABSENT, DIFFERS)
    assert rows["other"]["size"] == rows["new"]["size"] + len(b"a third")
    shutil.rmtree(root / "worlds/other")  # the other of its two folders is the default's
    assert [row["state"] for row in list_worlds(params(root), root)] == [HERE, ABSENT, ABSENT]
    point(root, "worlds/old", "0" * 32 + ".dir")
    (row,) = (row for row in list_worlds(params(root), root) if row["name"] == "old")
    assert row["state"] == OTHER and "worlds/old.dvc names 0" in row["why"]


def test_a_version_is_of_the_world_whose_md5s_it_recorded(root: Path) -> None:
    old, new = (read_dvc_file(root / file).md5 for file in ("worlds/old.dvc", "data.dvc"))
    third = read_dvc_file(root / "worlds/other.dvc").md5
    assert recorded_md5s(record(new, third)) == {new, third}
    found = [
        other_world(params(root), record(*md5s), root) for md5s in ((old,), (new,), (new, third), ("0",))
    ]
    assert found == ["old", "", "other", ""]
    (root / "data.dvc").unlink()
    assert other_world(params(root), record(new), root) == "new"


def test_the_next_action_names_the_other_worlds_that_have_the_data(root: Path) -> None:
    old, new = (read_dvc_file(root / file).md5 for file in ("worlds/old.dvc", "data.dvc"))
    assert world_hint(params(root), old) == "add --world old (`fade pull --world old` fetches it)."
    assert world_hint(params(root), new).startswith("add --world other (")
    assert world_hint(params(root), "0") == ""


def test_an_adapter_of_another_worlds_base_is_refused_by_the_worlds_name(root: Path) -> None:
    old, path = read_dvc_file(root / "worlds/old.dvc").md5, root / "adapter.safetensors"
    base = SimpleNamespace(sha256="c" * 64, is_base=lambda sha256: sha256 == "c" * 64)
    run: Any = SimpleNamespace(params=params(root), models=SimpleNamespace(base=base))
    path.write_bytes(adapter_bytes(header={"data_md5": old}))
    with pytest.raises(
        AdapterError, match="the base bbbbbbbbbbbb of another world, this base is cccc"
    ) as caught:
        require_base(run, path)
    assert "Next: add --world old" in str(caught.value)
    path.write_bytes(adapter_bytes(header={"data_md5": old, "base_sha256": "c" * 64}))
    require_base(run, path)  # this base, on other data
    path.write_bytes(adapter_bytes(header={"data_md5": "0" * 32}))
    require_base(run, path)  # no world has it: what loads the adapter says why not


def test_parameters_are_moved_into_a_world_that_is_here(root: Path) -> None:
    moved = in_world(params(root), "old", root)
    assert (moved.data.base, moved.train) == ("worlds/old/base", params(root).train)
    shutil.rmtree(root / "worlds/old")
    with pytest.raises(DataError, match="fade pull --world old"):
        in_world(params(root), "old", root)


def test_a_world_that_is_not_here_is_no_model_of_a_hub(root: Path) -> None:
    shutil.rmtree(root / "worlds/other")
    models = RunContext(params(root), "", root / "runs", root).models
    assert not is_hub_id("worlds/other") and models.local("worlds/other") == str(root / "worlds/other")


@pytest.mark.parametrize("name", ["a.b", "../x", "a b", ""])
def test_a_worlds_name_can_be_written_in_a_command(root: Path, name: str) -> None:
    raw = yaml.safe_load((root / "params.yaml").read_text())
    raw["worlds"][name] = raw["worlds"]["new"]
    (root / "params.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match="worlds"):
        params(root)
