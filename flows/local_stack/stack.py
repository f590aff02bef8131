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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fade.errors import FadeError, ServerError, StorageError
from fade.utils.locks import lock_folder
from flows.local_stack.mlflow_server import Login, Mlflow
from flows.local_stack.postgres import Postgres, Role
from flows.local_stack.prefect_server import Prefect
from flows.local_stack.prefect_worker import Worker
from flows.local_stack.s3 import GRPC_OFFSET, S3, User
from flows.local_stack.server import (
    STAGE,
    Server,
    free_ports,
    is_free,
    isolated_environment,
    make_private,
    run_tool,
    write_private,
)
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
SECRETS = (
    *("postgres", "role-mlflow", "role-prefect", "s3-admin", "s3-mlflow", "s3-team"),
    *("mlflow-admin", "mlflow-session", MEMBER, "prefect"),
)


class LocalStack:
    """All servers of one folder. Ports and passwords are drawn at the first start and kept in
    ``secrets.json`` (0600)."""

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
        """Start everything. Raises BusyError (the folder is in use), ServerError, StorageError; after each of
        them nothing runs."""
        make_private(self.folder)
        with ExitStack() as cleanup:
            cleanup.enter_context(lock_folder(self.folder, f"{self.folder} is in use", STAGE))
            watchdog = Watchdog()
            cleanup.callback(watchdog.close)
            cleanup.callback(self._stop_servers)
            self._build(watchdog)
            with ThreadPoolExecutor(3) as pool:
                postgres, s3 = pool.submit(self._start, "postgres"), pool.submit(self._start, "s3")
                postgres.result()
                prefect = pool.submit(self._start, "prefect")
                s3.result()
                self._start("mlflow")
                prefect.result()
            self._write_client_files()
            if self._with_worker:
                self._start("worker")
            self._cleanup = cleanup.pop_all()

    def stop(self) -> None:
        """Stop everything."""
        self._cleanup.close()

    def __enter__(self) -> LocalStack:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def watch(self) -> None:
        """Never return; raises ServerError when a server has ended by itself."""
        while True:
            for name, server in self.servers.items():
                if not server.running():
                    raise ServerError(f"{name} ended by itself.", stage=STAGE, action=f"see {server.log}.")
            time.sleep(WATCH_SECONDS)

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs, and nothing more: neither the admins' passwords nor the keys of MLflow's
        bucket."""
        member, data = self.mlflow.users[0], self.s3.users[1]
        return {
            "MLFLOW_TRACKING_URI": self.mlflow.url,
            **member.environment(),
            **self.prefect.client_environment(),
            **data.environment(self.s3.endpoint),
            "DVC_GLOBAL_CONFIG_DIR": str(self.folder / "dvc"),
        }

    def summary(self) -> list[str]:
        """The addresses and how to use them, one line each."""
        env = shlex.quote(str(self.folder / "env"))
        return [
            *filter(None, (self.servers[name].summary() for name in ("mlflow", "prefect", "s3"))),
            f"In another terminal:\n  source {env}\n  fade run --target panda --set data.remote={REMOTE}",
            "Ctrl-C stops them all.",
        ]

    def _start(self, name: str) -> None:
        start = time.monotonic()
        self.servers[name].start()
        self._on_progress(f"{name}: up after {time.monotonic() - start:.0f} s")

    def _stop_servers(self) -> None:
        """First those that depend on others."""
        for names in (("worker",), ("mlflow", "prefect"), ("postgres", "s3")):
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(Server.stop, [self.servers[name] for name in names if name in self.servers]))

    def _load_secrets(self) -> tuple[dict[str, str], dict[str, int]]:
        """Passwords and ports, each drawn where it is missing; a port that is taken by now is drawn again.
        Raises StorageError."""
        file = self.folder / "secrets.json"
        try:
            stored: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (OSError, ValueError) as error:
            action = f"the passwords were in it: remove {self.folder} and start anew."
            raise StorageError(f"{file} cannot be read: {error}.", stage=STAGE, action=action) from error
        passwords, ports = stored.setdefault("secrets", {}), stored.setdefault("ports", {})
        for name in SECRETS:
            passwords.setdefault(name, secrets.token_urlsafe(24))
        usable = {n for n, port in ports.items() if is_free(port) and is_free(port + GRPC_OFFSET)}
        missing = [name for name in PORTS if name not in usable]
        ports |= dict(zip(missing, free_ports(len(missing), offset=GRPC_OFFSET), strict=True))
        write_private(file, json.dumps(stored, indent=1))
        return passwords, ports

    def _build(self, watchdog: Watchdog) -> None:
        password, port = self._load_secrets()
        roles = (
            Role("fade_mlflow", password["role-mlflow"], ("fade_mlflow", "fade_mlflow_auth")),
            Role("fade_prefect", password["role-prefect"], ("fade_prefect",)),
        )
        self.postgres = Postgres(self.folder / "postgres", port["postgres"], password["postgres"], roles)
        self.s3 = S3(
            self.folder / "s3",
            [port[name] for name in S3_PORTS],
            admin=User("admin", password["s3-admin"], (ARTIFACTS, DATA)),
            users=(
                User("mlflow", password["s3-mlflow"], (ARTIFACTS,)),
                User(MEMBER, password["s3-team"], (DATA,)),
            ),
            note=f"DVC: s3://{DATA}, remote {REMOTE!r}",
        )
        self.mlflow = Mlflow(
            folder=self.folder / "mlflow",
            port=port["mlflow"],
            stores=(self.postgres.url("fade_mlflow"), self.postgres.url("fade_mlflow_auth")),
            artifacts=f"s3://{ARTIFACTS}/artifacts",
            s3=self.s3.users[0].environment(self.s3.endpoint),
            admin_password=password["mlflow-admin"],
            session_key=password["mlflow-session"],
            users=(Login(MEMBER, password[MEMBER]),),
            note=f"user {MEMBER}; the admin's password is in {self.folder / 'secrets.json'}",
        )
        database = self.postgres.url("fade_prefect", driver="postgresql+asyncpg")
        login = f"{MEMBER}:{password['prefect']}"
        self.prefect = Prefect(self.folder / "prefect", port["prefect"], database, login)
        servers: list[Server] = [self.postgres, self.s3, self.mlflow, self.prefect]
        if self._with_worker:
            servers.append(Worker(self.folder / "worker", POOL, self.environment))
        self.servers = {server.name: server for server in servers}
        for server in servers:
            server.watchdog = watchdog

    def _write_client_files(self) -> None:
        """``env`` for shells, and DVC's remote for a shell that has sourced it."""
        lines = [f"export {key}={shlex.quote(value)}" for key, value in self.environment.items()]
        write_private(self.folder / "env", "\n".join(lines) + "\n")
        remote = f"url = s3://{DATA}/dvc\n    endpointurl = {self.s3.endpoint}\n    verify = true\n"
        config = make_private(self.folder / "dvc") / "config"
        write_private(config, f"['remote \"{REMOTE}\"']\n    {remote}")


def publish(stack: LocalStack, repository: Path = REPOSITORY) -> None:
    """Copy the data set that ``repository`` tracks from its embedded remote to the stack's. Raises
    ServerError."""
    site = {"DVC_SITE_CACHE_DIR": str(make_private(stack.folder / "dvc" / "site"))}
    env = isolated_environment({**stack.environment, **site})
    action = "the servers run; push the data by hand."
    for verb, remote in (("fetch", "embedded"), ("push", REMOTE)):
        command = [sys.executable, "-m", "dvc", verb, "--remote", remote, "data.dvc"]
        what = f"`dvc {verb} --remote {remote}` failed"
        run_tool(command, what, action, env=env, cwd=repository, timeout=600)


def main(argv: list[str] | None = None) -> int:
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
            for line in stack.summary():
                _print(line)
            stack.watch()
    except KeyboardInterrupt:
        _print("stopped; the data stay, and the next start finds them.")
    except FadeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
