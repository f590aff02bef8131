"""Pull and publish over real git and DVC repositories: every fault of a remote is named, and none costs a
file that existed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from dvc.exceptions import CheckoutError
from dvc.repo import Repo
from dvc.repo.checkout import checkout

from fade.config import DataConfig
from fade.data.dvcfile import hash_folder, listing_bytes
from fade.errors import (
    BusyError,
    DataError,
    FadeError,
    RemoteError,
    StorageError,
    UnknownNameError,
    UnreachableError,
)
from tasks.data.publish import publish
from tasks.data.pull import Pulled, pull, pull_task, worth_a_retry

ROOT = Path(__file__).parents[2]
FILES = {
    "emoji/noto/panda.png": b"a panda",
    "emoji/noto/tulip.png": b"a tulip",
    "base/model_index.json": b"{}\r\n",
    "README": b"data",
}

# DVC's `add` and `push` read a property that pygtrie is about to drop; nothing of ours does.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning")


@pytest.fixture(autouse=True)
def _own_dvc_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE"):
        monkeypatch.setenv(f"DVC_{name}_DIR", str(tmp_path / "dvc" / name))


def git(at: Path, *words: str) -> None:
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", *who, *words], cwd=at, check=True, capture_output=True)


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A published repository with the project's own .dvc/config, .dvcignore and .gitattributes, everything
    committed."""
    repo = tmp_path / "origin"
    (repo / ".dvc").mkdir(parents=True)
    for name in (".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitattributes"):
        shutil.copy(ROOT / name, repo / name)
    (repo / ".gitignore").write_text("/data/\n/runs/\n")
    write(repo / "data", FILES)
    git(repo, "init", "-q")
    publish(repo, repo / "runs")
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "data")
    return repo


@pytest.fixture
def clone(origin: Path, tmp_path: Path) -> Path:
    """A fresh clone: no data, no cache."""
    git(tmp_path, "clone", "-q", str(origin), "clone")
    assert not (tmp_path / "clone" / "data").exists()
    return tmp_path / "clone"


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def fetch(repo: Path, remote: str = "embedded", **more: bool) -> Pulled:
    return pull(DataConfig(remote=remote), repo, repo / "runs", **more)


def at(repo: Path, content: bytes) -> Path:
    """The object of ``content`` in the embedded remote."""
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return repo / "remote" / "files" / "md5" / md5[:2] / md5[2:]


def plant(repo: Path, listing: bytes) -> None:
    """Make data.dvc and the remote agree on a listing that DVC itself would never write."""
    md5 = hashlib.md5(listing, usedforsecurity=False).hexdigest()
    path = repo / "remote" / "files" / "md5" / md5[:2] / f"{md5[2:]}.dir"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(listing)
    content = yaml.safe_load((repo / "data.dvc").read_text())
    content["outs"][0]["md5"] = f"{md5}.dir"
    (repo / "data.dvc").write_text(yaml.safe_dump(content))


def overwrite(path: Path, content: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(content)


def test_pull_into_a_fresh_clone(clone: Path) -> None:
    got = fetch(clone)
    assert contents(clone / "data") == FILES
    assert got.md5 == yaml.safe_load((clone / "data.dvc").read_text())["outs"][0]["md5"]
    assert (got.nfiles, got.size) == (len(FILES), sum(map(len, FILES.values())))
    assert got.files == hash_folder(clone / "data") and got.fetched == len(FILES) and got.unlisted == ()
    assert not list((clone / ".dvc" / "tmp").glob("fade-pull*"))


def test_a_second_pull_needs_neither_cache_nor_remote(clone: Path) -> None:
    first = fetch(clone)
    before = {p: p.stat().st_mtime_ns for p in (clone / "data").rglob("*")}
    shutil.rmtree(clone / ".dvc" / "cache")
    shutil.rmtree(clone / "remote")
    second = fetch(clone)
    assert (second.md5, second.files, second.fetched) == (first.md5, first.files, 0)
    assert {p: p.stat().st_mtime_ns for p in (clone / "data").rglob("*")} == before


def test_a_deleted_file_comes_back_from_the_cache(clone: Path) -> None:
    fetch(clone)
    (clone / "data/emoji/noto/panda.png").unlink()
    shutil.rmtree(clone / "remote")
    assert fetch(clone).fetched == 0
    assert contents(clone / "data") == FILES


def test_a_corrupt_cache_object_is_fetched_again(clone: Path) -> None:
    fetch(clone)
    md5 = hashlib.md5(b"a panda", usedforsecurity=False).hexdigest()
    overwrite(clone / ".dvc/cache/files/md5" / md5[:2] / md5[2:], b"not a panda")
    (clone / "data/emoji/noto/panda.png").unlink()
    assert fetch(clone).fetched == 1
    assert contents(clone / "data") == FILES


def test_a_new_version_replaces_the_old_and_drops_what_left(origin: Path, clone: Path) -> None:
    fetch(clone)
    write(clone / "data", {"my-notes.txt": b"mine"})
    write(origin / "data", {"emoji/noto/panda.png": b"a better panda"})
    (origin / "data/emoji/noto/tulip.png").unlink()
    publish(origin, origin / "runs")
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "new data")
    git(clone, "pull", "-q")
    got = fetch(clone)
    expected = {**FILES, "emoji/noto/panda.png": b"a better panda", "my-notes.txt": b"mine"}
    del expected["emoji/noto/tulip.png"]
    assert contents(clone / "data") == expected
    assert got.unlisted == ("my-notes.txt",) and got.fetched == 1


def test_a_file_may_become_a_folder(origin: Path, clone: Path) -> None:
    fetch(clone)
    (origin / "data/README").unlink()
    shutil.rmtree(origin / "data/base")
    new = {"README/part": b"one", "base": b"now a file"}
    write(origin / "data", new)
    publish(origin, origin / "runs")
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "shapes")
    git(clone, "pull", "-q")
    fetch(clone)
    assert contents(clone / "data") == {**{k: v for k, v in FILES.items() if k.startswith("emoji")}, **new}


def test_local_changes_are_refused_and_set_aside_by_force(clone: Path) -> None:
    fetch(clone)
    (clone / "data/README").write_bytes(b"my own words")
    with pytest.raises(DataError, match=r"changed here and in no cache: data/README.*--force"):
        fetch(clone)
    assert (clone / "data/README").read_bytes() == b"my own words"
    got = fetch(clone, force=True)
    assert contents(clone / "data") == FILES
    assert got.set_aside is not None and contents(got.set_aside) == {"README": b"my own words"}


# Faults of the remote. Each runs twice: into an empty clone, and over an older version that must survive
# untouched.


def _corrupt(repo: Path) -> None:
    overwrite(at(repo, b"a panda"), b"a pandA")


def _truncated(repo: Path) -> None:
    overwrite(at(repo, b"a panda"), b"a p")


def _missing(repo: Path) -> None:
    at(repo, b"a panda").unlink()


def _unverified(repo: Path) -> None:
    config = repo / ".dvc" / "config"
    config.write_text(config.read_text().replace("verify = true", "verify = false"))
    _corrupt(repo)


def _two_faults(repo: Path) -> None:
    _corrupt(repo)
    at(repo, b"a tulip").unlink()


def _no_listing(repo: Path) -> None:
    next((repo / "remote").rglob("*.dir")).unlink()


def _corrupt_listing(repo: Path) -> None:
    path = next((repo / "remote").rglob("*.dir"))
    overwrite(path, path.read_bytes().replace(b"panda", b"pande"))


def _no_folder(repo: Path) -> None:
    shutil.rmtree(repo / "remote")


def _hostile(*entries: dict[str, str]) -> Callable[[Path], None]:
    good = {"relpath": "ok.txt", "md5": hashlib.md5(b"a panda", usedforsecurity=False).hexdigest()}
    return lambda repo: plant(repo, json.dumps([good, *({**good, **e} for e in entries)]).encode())


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "corrupt object": (_corrupt, r"'embedded'.*corrupt: data/emoji/noto/panda\.png \(object"),
    "corrupt, remote unverified": (_unverified, r"corrupt: data/emoji/noto/panda\.png"),
    "truncated object": (_truncated, r"corrupt: data/emoji/noto/panda\.png"),
    "missing object": (_missing, r"missing: data/emoji/noto/panda\.png \(object"),
    "two faults": (_two_faults, r"corrupt: data/emoji/noto/panda\.png.*missing: data/emoji/noto/tulip\.png"),
    "listing missing": (_no_listing, r"does not hold the listing of data/"),
    "listing corrupt": (_corrupt_listing, r"the listing of data/ .* is corrupt"),
    "remote folder missing": (_no_folder, r"'embedded' \(.*remote.*\): there is no such folder"),
    "dot-dot": (
        _hostile({"relpath": "../../evil.txt"}),
        r"hostile: '\.\./\.\./evil\.txt' would be written outside data/",
    ),
    "dot-dot inside": (_hostile({"relpath": "a/../../evil.txt"}), "hostile"),
    "absolute": (_hostile({"relpath": "/tmp/evil.txt"}), r"hostile: '/tmp/evil\.txt'"),
    "back slash": (_hostile({"relpath": "..\\evil.txt"}), "hostile"),
    "drive": (_hostile({"relpath": "C:evil.txt"}), "hostile"),
    "empty name": (_hostile({"relpath": ""}), "hostile"),
    "dot": (_hostile({"relpath": "./x"}), "hostile"),
    "path twice": (_hostile({"relpath": "ok.txt"}), r"'ok\.txt' is named twice"),
    "file and folder": (_hostile({"relpath": "ok.txt/x"}), r"'ok\.txt' is both a file and a folder"),
    "md5 that leaves the cache": (_hostile({"relpath": "x", "md5": "../../../../evil"}), r"'x' has the md5"),
    "no listing at all": (lambda repo: plant(repo, b'{"relpath": "x"}'), "is no listing"),
}


@pytest.mark.parametrize("older", [False, True], ids=["fresh", "over-older"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_remote_is_refused_by_name_and_costs_nothing(
    clone: Path, tmp_path: Path, fault: str, older: bool
) -> None:
    break_it, sentence = FAULTS[fault]
    if older:
        write(clone / "data", {"README": b"data", "own.txt": b"mine", "base/model_index.json": b"{}\r\n"})
    before = contents(clone / "data")
    break_it(clone)
    with pytest.raises(RemoteError, match=f"(?s)pull: .*{sentence}.*Next: ") as caught:
        fetch(clone)
    assert not isinstance(caught.value, UnreachableError)
    assert contents(clone / "data") == before
    assert not list(tmp_path.rglob("*evil*")) and not Path("/tmp/evil.txt").exists()


def test_a_repaired_remote_is_trusted_again(clone: Path) -> None:
    _corrupt(clone)
    with pytest.raises(RemoteError):
        fetch(clone)
    overwrite(at(clone, b"a panda"), b"a panda")
    fetch(clone)
    assert contents(clone / "data") == FILES


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"path": "../outside"}, "leaves the repository"),
        ({"path": "/tmp/outside"}, "leaves the repository"),
        ({"md5": "../../x.dir"}, "is not the md5 of a folder"),
        ({"hash": "sha1"}, "written by DVC 2"),
    ],
)
def test_a_bad_dvc_file_is_refused(clone: Path, change: dict[str, str], sentence: str) -> None:
    content = yaml.safe_load((clone / "data.dvc").read_text())
    content["outs"][0].update(change)
    (clone / "data.dvc").write_text(yaml.safe_dump(content))
    with pytest.raises(DataError, match=rf"data\.dvc.*{sentence}"):
        fetch(clone)


def test_missing_pieces_of_the_repository(clone: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown remote 'embeded'.*did you mean 'embedded'"):
        fetch(clone, "embeded")
    shutil.rmtree(clone / ".dvc")
    with pytest.raises(DataError, match="is no DVC repository"):
        fetch(clone)
    (clone / "data.dvc").unlink()
    with pytest.raises(DataError, match=r"data\.dvc does not exist"):
        fetch(clone)


def _rehash_fails(repo: Repo) -> None:
    """The disk is full when DVC is done."""
    checkout(repo, force=True)
    assert contents(Path(repo.root_dir) / "data") == FILES
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), repo.root_dir)


def _folder_deleted(repo: Repo) -> None:
    """What DVC does when it cannot create one of the files."""
    shutil.rmtree(Path(repo.root_dir) / "data")
    raise CheckoutError(["data"], {})


def _wrong_bytes(repo: Repo) -> None:
    """A disk, or a cache of links, that gives back other bytes than were written."""
    checkout(repo, force=True)
    overwrite(Path(repo.root_dir) / "data/README", b"datA")


@pytest.mark.parametrize(
    ("fault", "error", "sentence"),
    [
        (_rehash_fails, StorageError, "the disk is full"),
        (_folder_deleted, StorageError, "data cannot be written: DVC could not write"),
        (_wrong_bytes, RemoteError, "after the checkout .* not the promised ones: data/README"),
    ],
)
def test_a_failed_checkout_is_undone(
    clone: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Repo], None],
    error: type[FadeError],
    sentence: str,
) -> None:
    fetch(clone)
    old = {**FILES, "README": b"older words", "own.txt": b"mine", "base/own.txt": b"mine"}
    write(clone / "data", {name: old[name] for name in ("README", "own.txt", "base/own.txt")})
    old["emoji/noto/panda.png"] = b"a tulip"  # in the cache, at the wrong place
    overwrite(clone / "data/emoji/noto/panda.png", b"a tulip")
    monkeypatch.setattr(Repo, "checkout", lambda repo, **_: fault(repo))
    with pytest.raises(error, match=sentence):
        fetch(clone, force=True)
    assert contents(clone / "data") == old
    assert not list((clone / ".dvc/tmp").glob("fade-pull*")) and not contents(clone / "runs/set-aside")
    monkeypatch.undo()
    fetch(clone, force=True)
    assert contents(clone / "data") == {**FILES, "own.txt": b"mine", "base/own.txt": b"mine"}


def test_a_killed_pull_gives_back_the_files_of_the_user(clone: Path) -> None:
    fetch(clone)
    write(clone / "data", {"own.txt": b"mine"})
    script = """
import os, signal, sys
from pathlib import Path
from dvc.repo import Repo
from fade.config import DataConfig
from tasks.data.pull import pull
Repo.checkout = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
pull(DataConfig(), Path(sys.argv[1]), Path(sys.argv[1]) / "runs")
"""
    (clone / "data/README").unlink()
    killed = subprocess.run(
        [sys.executable, "-c", script, str(clone)], cwd=ROOT, check=False, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL and not (clone / "data/own.txt").exists()
    assert fetch(clone).unlisted == ("own.txt",)
    assert contents(clone / "data") == {**FILES, "own.txt": b"mine"}


@pytest.mark.parametrize("own", ["README/own.txt", "base"])
def test_a_file_of_the_user_where_the_data_have_a_folder(clone: Path, own: str) -> None:
    write(clone / "data", {own: b"mine"})
    with pytest.raises(DataError, match=f"changed here and in no cache: data/{own}"):
        fetch(clone)
    assert contents(clone / "data") == {own: b"mine"}
    got = fetch(clone, force=True)
    assert contents(clone / "data") == FILES
    assert got.set_aside is not None and contents(got.set_aside) == {own: b"mine"}


def test_the_data_folder_itself_may_be_a_link(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "big-disk").mkdir()
    (clone / "data").symlink_to(tmp_path / "big-disk")
    fetch(clone)
    (clone / "data/README").unlink()
    fetch(clone)
    assert (clone / "data").is_symlink() and contents(tmp_path / "big-disk") == FILES


def test_a_full_disk_is_not_a_fault_of_the_remote(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _corrupt(clone)
    monkeypatch.setattr("tasks.data.remote.free_bytes", lambda _: 0)
    with pytest.raises(StorageError, match="the disk is full"):
        fetch(clone)


def test_a_linked_folder_is_not_written_through(clone: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (clone / "data").mkdir()
    (clone / "data/emoji").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="emoji is a link to another folder"):
        fetch(clone)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_second_dvc_process_is_refused(clone: Path) -> None:
    import zc.lockfile

    (clone / ".dvc/tmp").mkdir(exist_ok=True)
    lock = zc.lockfile.LockFile(str(clone / ".dvc/tmp/lock"))
    try:
        with pytest.raises(BusyError, match="another DVC process"):
            fetch(clone)
    finally:
        lock.close()


# Remotes over the network.


def add_remote(repo: Path, name: str, **config: str) -> None:
    lines = [f"['remote \"{name}\"']", *(f"    {key} = {value}" for key, value in config.items())]
    with (repo / ".dvc/config").open("a") as stream:
        stream.write("\n".join(lines) + "\n")


@pytest.fixture
def web(clone: Path) -> Iterator[str]:
    """The clone's remote folder over HTTP."""
    handler = partial(_Quiet, directory=str(clone / "remote"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def dead_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_pull_over_http(clone: Path, web: str) -> None:
    add_remote(clone, "web", url=web, verify="true")
    assert fetch(clone, "web").fetched == len(FILES)
    assert contents(clone / "data") == FILES


@pytest.mark.parametrize("fault", ["corrupt object", "missing object", "listing missing", "dot-dot"])
def test_http_faults_are_named_too(clone: Path, web: str, fault: str) -> None:
    add_remote(clone, "web", url=web)
    break_it, sentence = FAULTS[fault]
    break_it(clone)
    with pytest.raises(RemoteError, match=sentence.replace("'embedded'", "'web'")) as caught:
        fetch(clone, "web")
    assert not isinstance(caught.value, UnreachableError)
    assert not (clone / "data").exists()


def test_http_refused_is_unreachable(clone: Path, dead_port: int) -> None:
    add_remote(clone, "web", url=f"http://127.0.0.1:{dead_port}/data")
    with pytest.raises(UnreachableError, match=r"'web' \(http://127.* cannot be reached.*check the network"):
        fetch(clone, "web")


@pytest.mark.parametrize("output", ["docs", ".git", ".dvc", "fade", "database"])
def test_a_folder_that_the_settings_do_not_name_is_left_alone(clone: Path, output: str) -> None:
    file = clone / "data.dvc"
    file.write_text(file.read_text().replace("path: data", f"path: {output}"))
    before = hash_folder(clone / output) if (clone / output).is_dir() else None
    with pytest.raises(DataError, match=rf"path '{output}' holds no folder of the section `data`"):
        fetch(clone)
    assert (hash_folder(clone / output) if (clone / output).is_dir() else None) == before
    file.write_text(file.read_text().replace(f"path: {output}", "path: data"))
    assert fetch(clone).nfiles == len(FILES)  # the control


@pytest.mark.parametrize("name", ["config", "config.local"])
def test_a_configuration_that_is_a_pipe_is_refused_at_once(clone: Path, name: str) -> None:
    path = clone / ".dvc" / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(DataError, match=rf"{name} cannot be read: it is a named pipe"):
        fetch(clone)


def test_no_error_shows_a_password(clone: Path, dead_port: int) -> None:
    add_remote(clone, "web", url=f"http://user:hunter2@127.0.0.1:{dead_port}/data?signature=hunter2")
    with pytest.raises(UnreachableError, match=r"'web' \(http://\*\*\*@127") as caught:
        fetch(clone, "web")
    assert "hunter2" not in str(caught.value)


def test_a_silent_server_is_given_up(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.data.remote.FIRST_CONTACT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        add_remote(clone, "web", url=f"http://127.0.0.1:{silent.getsockname()[1]}/data")
        with pytest.raises(UnreachableError, match="did not answer within 1 s"):
            fetch(clone, "web")


def test_s3_without_an_endpoint_is_unreachable(
    clone: Path, dead_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dvc_s3")
    _aws(monkeypatch)
    add_remote(clone, "team", url="s3://fade-data", endpointurl=f"http://127.0.0.1:{dead_port}")
    with pytest.raises(UnreachableError, match=r"'team' \(s3://fade-data\)"):
        fetch(clone, "team")
    assert not (clone / "data").exists()


def _aws(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {
        "AWS_ACCESS_KEY_ID": "fade",
        "AWS_SECRET_ACCESS_KEY": "fade-secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for key, value in keys.items():
        monkeypatch.setenv(key, value)


@pytest.mark.parametrize(
    "error", [UnreachableError("x"), BusyError("x"), RemoteError("x"), DataError("x"), OSError("x")]
)
def test_only_a_silent_remote_or_another_pull_is_tried_again(error: Exception) -> None:
    from prefect.states import Failed

    assert worth_a_retry(None, None, Failed(data=error)) is isinstance(error, UnreachableError | BusyError)
    assert pull_task.retries == 2 and pull_task.retry_condition_fn is worth_a_retry


def test_publish_again_prunes_the_old_objects(origin: Path) -> None:
    write(origin / "data", {"README": b"new words"})
    got = publish(origin, origin / "runs")
    assert (
        not at(origin, b"data").exists()
        and at(origin, b"new words").exists()
        and at(origin, b"a panda").exists()
    )
    objects = [p for p in (origin / "remote").rglob("*") if p.is_file()]
    assert len(objects) == got.nfiles + 1 == len(FILES) + 1
    listing = next(p for p in objects if p.suffix == ".dir")
    assert listing.read_bytes() == listing_bytes(got.files)


def test_publish_without_data_changes_nothing(origin: Path) -> None:
    before = contents(origin / "remote"), (origin / "data.dvc").read_bytes()
    shutil.rmtree(origin / "data")
    with pytest.raises(FadeError, match="holds no files"):
        publish(origin, origin / "runs")
    assert (contents(origin / "remote"), (origin / "data.dvc").read_bytes()) == before
