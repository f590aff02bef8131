"""The local stack: a team's servers on this machine, with users and passwords.

    python -m flows.local_stack.stack --folder runs/team

``make team`` calls this. Start order: PostgreSQL and S3; Prefect (on PostgreSQL) and MLflow (on both); a
process worker. All listen on loopback and continue on the data of the last start. What a client needs is
written to ``env`` in the folder (mode 0600). Ctrl-C or SIGTERM stops them all. A team's own
machines: docs/team.md."""

from __future__ import annotations

import argparse
import json
import secrets
import shlex
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fade.errors import ServerError, StorageError
from fade.utils.locks import lock_folder
from flows.local_stack import server
from flows.local_stack.mlflow_server import Mlflow
from flows.local_stack.postgres import Postgres
from flows.local_stack.prefect_server import Prefect, Worker
from flows.local_stack.s3 import GRPC_OFFSET, S3
from flows.local_stack.server import STAGE, Account, Server
from tasks.launch.watchdog import Watchdog

REPOSITORY = Path(__file__).resolve().parents[2]
DATA, ARTIFACTS = "fade-data", "fade-mlflow"
"""The two buckets."""
REMOTE = "team"
"""The DVC remote's name."""
POOL = "cpu"
MEMBER = "team"
"""The user that ``env`` is for."""
WATCH_SECONDS = 1.0
"""Between two checks that all servers run."""
S3_PORTS = ("s3", "s3-master", "s3-volume", "s3-filer")
PORTS = ("postgres", *S3_PORTS, "mlflow", "prefect")


class LocalStack:
    """All servers of one folder; ``secrets.json`` (0600) has their ports and passwords, chosen once."""

    postgres: Postgres
    s3: S3
    mlflow: Mlflow
    prefect: Prefect

    def __init__(
        self, folder: Path, *, worker: bool = True, on_progress: Callable[[str], None] = lambda line: None
    ) -> None:
        self.folder, self._with_worker, self._on_progress = folder.absolute(), worker, on_progress
        self.servers: dict[str, Server] = {}
        self._cleanup = ExitStack()

    def start(self) -> None:
        """Start all. Raises BusyError (the folder is in use), ServerError, StorageError; then none runs."""
        server.make_private(self.folder)
        with ExitStack() as cleanup:
            cleanup.enter_context(lock_folder(self.folder, f"{self.folder} is in use", STAGE))
            watchdog = Watchdog()
            cleanup.callback(watchdog.close)
            levels = self._build()
            self.servers = {one.name: one for level in levels for one in level}
            for one in self.servers.values():
                one.watchdog = watchdog
            for level in levels:
                cleanup.callback(_at_once, Server.stop, level)
                _at_once(self._start, level)
            self._write_client_files()
            self._cleanup = cleanup.pop_all()

    def stop(self) -> None:
        """Stop everything: first those that depend on others."""
        self._cleanup.close()

    def __enter__(self) -> LocalStack:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def watch(self) -> None:
        """Never return; raises ServerError when a server has ended by itself."""
        while True:
            for name, one in self.servers.items():
                if not one.running():
                    raise ServerError(f"{name} ended by itself.", stage=STAGE, action=f"see {one.log}.")
            time.sleep(WATCH_SECONDS)

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs: neither the admins' passwords nor the keys of MLflow's bucket."""
        return {
            **self.mlflow.client_environment(self.mlflow.users[0]),
            **self.prefect.client_environment(),
            **self.s3.client_environment(self.s3.users[1]),
            "DVC_GLOBAL_CONFIG_DIR": str(self.folder / "dvc"),
        }

    def summary(self) -> str:
        """The addresses and how to use them."""
        passwords, env = self.folder / "secrets.json", shlex.quote(str(self.folder / "env"))
        return (
            f"MLflow   {self.mlflow.url}  (user {MEMBER}; the admin's password is in {passwords})\n"
            f"Prefect  {self.prefect.url.removesuffix('/api')}\n"
            f"S3       {self.s3.url}  (DVC: s3://{DATA}, remote {REMOTE!r})\n"
            f"In another terminal:\n  source {env}\n  fade run --target panda --set data.remote={REMOTE}\n"
            "Ctrl-C stops them all."
        )

    def _start(self, one: Server) -> None:
        start = time.monotonic()
        one.start()
        self._on_progress(f"{one.name}: up after {time.monotonic() - start:.0f} s")

    def _build(self) -> list[list[Server]]:
        """The servers in levels; each level needs those before it. A password is chosen where it is missing,
        a port also where it is taken by now. Raises StorageError."""
        file = self.folder / "secrets.json"
        try:
            stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (OSError, ValueError) as error:
            action = f"the passwords were in it: remove {self.folder} and start anew."
            raise StorageError(f"{file} cannot be read: {error}.", stage=STAGE, action=action) from error
        password = defaultdict(lambda: secrets.token_urlsafe(24), stored.get("secrets", {}))
        port = {n: p for n, p in stored.get("ports", {}).items() if server.is_free(p, p + GRPC_OFFSET)}
        missing = [name for name in PORTS if name not in port]
        port |= zip(missing, server.free_ports(len(missing), offset=GRPC_OFFSET), strict=True)

        roles = (
            Account("fade_mlflow", password["role-mlflow"], ("fade_mlflow", "fade_mlflow_auth")),
            Account("fade_prefect", password["role-prefect"], ("fade_prefect",)),
        )
        self.postgres = Postgres(self.folder / "postgres", port["postgres"], password["postgres"], roles)
        self.s3 = S3(
            self.folder / "s3",
            [port[name] for name in S3_PORTS],
            admin=Account("admin", password["s3-admin"], (ARTIFACTS, DATA)),
            users=(
                Account("mlflow", password["s3-mlflow"], (ARTIFACTS,)),
                Account(MEMBER, password["s3-team"], (DATA,)),
            ),
        )
        self.mlflow = Mlflow(
            folder=self.folder / "mlflow",
            port=port["mlflow"],
            stores=(
                self.postgres.database_url("fade_mlflow"),
                self.postgres.database_url("fade_mlflow_auth"),
            ),
            artifacts=f"s3://{ARTIFACTS}/artifacts",
            s3=self.s3.client_environment(self.s3.users[0]),
            admin_password=password["mlflow-admin"],
            session_key=password["mlflow-session"],
            users=(Account(MEMBER, password[MEMBER]),),
        )
        database = self.postgres.database_url("fade_prefect", driver="postgresql+asyncpg")
        user = Account(MEMBER, password["prefect"])
        self.prefect = Prefect(self.folder / "prefect", port["prefect"], database, user)
        worker = [Worker(self.folder / "worker", POOL, self.environment)] if self._with_worker else []
        server.write_private(file, json.dumps({"secrets": password, "ports": port}, indent=1))
        return [[self.postgres, self.s3], [self.mlflow, self.prefect], [*worker]]

    def _write_client_files(self) -> None:
        """``env`` for shells, and DVC's remote for a shell that has sourced it."""
        lines = [f"export {key}={shlex.quote(value)}" for key, value in self.environment.items()]
        server.write_private(self.folder / "env", "\n".join(lines) + "\n")
        remote = f"url = s3://{DATA}/dvc\n    endpointurl = {self.s3.url}\n    verify = true\n"
        config = server.make_private(self.folder / "dvc") / "config"
        server.write_private(config, f"['remote \"{REMOTE}\"']\n    {remote}")


def _at_once(action: Callable[[Server], None], servers: Sequence[Server]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(action, servers))


def publish(stack: LocalStack, repository: Path = REPOSITORY) -> None:
    """Copy ``repository``'s data set from its embedded remote to the stack's. Raises ServerError."""
    site = {"DVC_SITE_CACHE_DIR": str(server.make_private(stack.folder / "dvc" / "site"))}
    env = server.isolated_environment({**stack.environment, **site})
    action = "the servers run; push the data by hand."
    for verb, remote in (("fetch", "embedded"), ("push", REMOTE)):
        command = [sys.executable, "-m", "dvc", verb, "--remote", remote, "data.dvc"]
        what = f"`dvc {verb} --remote {remote}` failed"
        server.run_tool(command, what, action, env=env, cwd=repository, timeout=600)


def main(argv: list[str]) -> None:
    """Start, print the addresses, wait for Ctrl-C or SIGTERM, stop."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.local_stack.stack",
        description=str(__doc__).split("\n")[0],
        epilog="Example: python -m flows.local_stack.stack --folder runs/team",
    )
    folder_help = "data, logs, passwords (default: runs/team)"
    parser.add_argument("--folder", type=Path, default=Path("runs/team"), help=folder_help)
    parser.add_argument("--no-worker", action="store_true", help="without the process worker")
    parser.add_argument("--no-data", action="store_true", help="leave the team's DVC remote as it is")
    options = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGINT):  # a background shell starts its jobs with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    stack = LocalStack(options.folder, worker=not options.no_worker, on_progress=_print)
    _print(f"starting in {stack.folder} (the first time takes a minute)")
    try:
        with stack:
            if not options.no_data:
                publish(stack)
                _print(f"data: in the DVC remote {REMOTE!r}")
            _print(stack.summary())
            stack.watch()
    except KeyboardInterrupt:
        _print("stopped; the data stay, and the next start finds them.")


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(server.exit_status(main))
