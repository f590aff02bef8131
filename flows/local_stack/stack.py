"""A team's servers on this machine: PostgreSQL, S3, MLflow and Prefect with users and passwords, and a
process worker.

    python -m flows.local_stack.stack --folder runs/team

``make team`` calls this. It starts them on loopback, on the data of the last time, writes what a client needs
to ``env`` in that folder (mode 0600), and stops them all on Ctrl-C or SIGTERM. For people to look at and for
the tests; a team's own machines: docs/team.md."""

from __future__ import annotations

import argparse
import json
import secrets
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from fade.errors import FadeError, ServerError, StorageError
from fade.utils.locks import lock_folder
from flows.local_stack.mlflow_server import Login, Mlflow
from flows.local_stack.postgres import Postgres, Role
from flows.local_stack.prefect_server import Prefect
from flows.local_stack.prefect_worker import Worker
from flows.local_stack.s3 import S3, TWIN, User
from flows.local_stack.supervised import (
    STAGE,
    Server,
    clean,
    free_ports,
    is_free,
    make_private,
    write_private,
)
from tasks.launch.watchdog import Watchdog

REPOSITORY = Path(__file__).resolve().parents[2]
DATA, ARTIFACTS = "fade-data", "fade-mlflow"
REMOTE = "team"
"""The DVC remote's name."""
POOL = "cpu"
MEMBER = "team"
"""The user that ``env`` is for."""
LOOK = 1.0
"""Seconds between two looks at whether all servers still run."""
_NAMES = ("postgres", "s3", "s3-master", "s3-volume", "s3-filer", "mlflow", "prefect")
_SECRETS = (
    "postgres",
    "role-mlflow",
    "role-prefect",
    "s3-admin",
    "s3-mlflow",
    "s3-team",
    "mlflow-admin",
    "mlflow-session",
    MEMBER,
    "prefect",
)


class Team:
    """All servers of one folder. Ports and passwords are drawn at the first start and kept in
    ``secrets.json`` (0600)."""

    def __init__(
        self, folder: Path, *, worker: bool = True, say: Callable[[str], None] = lambda _: None
    ) -> None:
        self.folder, self._say, self._with_worker = folder.absolute(), say, worker
        self._lock: AbstractContextManager[None] | None = None
        self._keeper: Watchdog | None = None
        self.servers: dict[str, Server] = {}

    def start(self) -> None:
        """Start everything. Raises BusyError (it runs already), ServerError, StorageError; after each of them
        nothing runs."""
        make_private(self.folder)
        self._lock = lock_folder(self.folder, f"{self.folder} is in use", STAGE)
        self._lock.__enter__()
        try:
            self._keeper = Watchdog()
            self._build(self._kept())
            with ThreadPoolExecutor(4) as pool:
                postgres, s3 = (pool.submit(self._start, name) for name in ("postgres", "s3"))
                postgres.result()
                prefect = pool.submit(self._start, "prefect")
                s3.result()
                self._start("mlflow")
                prefect.result()
            self._write()
            if self._with_worker:
                self._start("worker")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything, those first that stand on others."""
        for names in (("worker",), ("mlflow", "prefect"), ("postgres", "s3")):
            with ThreadPoolExecutor(2) as pool:
                list(
                    pool.map(
                        lambda name: self.servers[name].stop(),
                        (name for name in names if name in self.servers),
                    )
                )
        if self._keeper is not None:
            self._keeper.close()
        if self._lock is not None:
            self._lock.__exit__(None, None, None)
        self._keeper = self._lock = None

    def __enter__(self) -> Team:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def watch(self) -> None:
        """Return never; raises ServerError when a server has ended by itself."""
        while True:
            for name, server in self.servers.items():
                if not server.running():
                    raise ServerError(f"{name} ended by itself.", stage=STAGE, action=f"see {server.log}.")
            time.sleep(LOOK)

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs, and nothing more: neither the admins' passwords nor the keys of MLflow's
        bucket."""
        return {
            "MLFLOW_TRACKING_URI": self.mlflow.url,
            **Login(MEMBER, self._secrets[MEMBER]).environment(),
            **self.prefect.client(),
            **User(MEMBER, self._secrets["s3-team"], (DATA,)).environment(self.s3.endpoint),
            "DVC_GLOBAL_CONFIG_DIR": str(self.folder / "dvc"),
        }

    @property
    def postgres(self) -> Postgres:
        return self._get("postgres", Postgres)

    @property
    def s3(self) -> S3:
        return self._get("s3", S3)

    @property
    def mlflow(self) -> Mlflow:
        return self._get("mlflow", Mlflow)

    @property
    def prefect(self) -> Prefect:
        return self._get("prefect", Prefect)

    def _get(self, name: str, kind: type[Any]) -> Any:
        server = self.servers[name]
        assert isinstance(server, kind)
        return server

    def _start(self, name: str) -> None:
        began = time.monotonic()
        self.servers[name].start()
        self._say(f"{name}: up after {time.monotonic() - began:.0f} s")

    def _kept(self) -> dict[str, Any]:
        """Ports and passwords; a port that somebody has taken since is drawn again."""
        file = self.folder / "secrets.json"
        try:
            kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        except (OSError, ValueError) as error:
            what = f"{file} cannot be read: {error}."
            raise StorageError(
                what, stage=STAGE, action=f"the passwords were in it: remove {self.folder} and start anew."
            ) from error
        kept.setdefault("secrets", {})
        for name in _SECRETS:
            kept["secrets"].setdefault(name, secrets.token_urlsafe(24))
        ports = kept.setdefault("ports", {})
        taken = [
            name
            for name in _NAMES
            if name not in ports or not is_free(ports[name]) or not is_free(ports[name] + TWIN)
        ]
        ports |= dict(zip(taken, free_ports(len(taken), twin=TWIN), strict=True))
        write_private(file, json.dumps(kept, indent=1))
        return kept

    def _build(self, kept: Mapping[str, Any]) -> None:
        word, port = kept["secrets"], kept["ports"]
        self._secrets: dict[str, str] = dict(word)
        keeper = self._keeper
        roles = (
            Role("fade_mlflow", word["role-mlflow"], ("fade_mlflow", "fade_mlflow_auth")),
            Role("fade_prefect", word["role-prefect"], ("fade_prefect",)),
        )
        postgres = Postgres(
            self.folder / "postgres", port["postgres"], word["postgres"], roles, keeper=keeper
        )
        users = (User("mlflow", word["s3-mlflow"], (ARTIFACTS,)), User(MEMBER, word["s3-team"], (DATA,)))
        admin = User("admin", word["s3-admin"], (ARTIFACTS, DATA))
        s3 = S3(
            self.folder / "s3",
            [port[name] for name in ("s3", "s3-master", "s3-volume", "s3-filer")],
            admin,
            users,
            keeper=keeper,
        )
        mlflow = Mlflow(
            self.folder / "mlflow",
            port["mlflow"],
            stores=(postgres.address("fade_mlflow"), postgres.address("fade_mlflow_auth")),
            artifacts=f"s3://{ARTIFACTS}/artifacts",
            s3=users[0].environment(s3.endpoint),
            admin_password=word["mlflow-admin"],
            session_key=word["mlflow-session"],
            users=(Login(MEMBER, word[MEMBER]),),
            keeper=keeper,
        )
        database = postgres.address("fade_prefect", driver="postgresql+asyncpg")
        prefect = Prefect(
            self.folder / "prefect",
            port["prefect"],
            database=database,
            login=f"{MEMBER}:{word['prefect']}",
            keeper=keeper,
        )
        self.servers = {"postgres": postgres, "s3": s3, "mlflow": mlflow, "prefect": prefect}
        if self._with_worker:
            self.servers["worker"] = Worker(self.folder / "worker", POOL, self.environment, keeper=keeper)

    def _write(self) -> None:
        """``env`` for shells, and DVC's remote for whoever sources it."""
        lines = [f"export {key}={shlex.quote(value)}" for key, value in self.environment.items()]
        write_private(self.folder / "env", "\n".join(lines) + "\n")
        make_private(self.folder / "dvc")
        remote = [
            f"['remote \"{REMOTE}\"']",
            f"    url = s3://{DATA}/dvc",
            f"    endpointurl = {self.s3.endpoint}",
            "    verify = true",
        ]
        write_private(self.folder / "dvc" / "config", "\n".join(remote) + "\n")


def publish(team: Team, repository: Path = REPOSITORY) -> None:
    """Copy the data set that ``repository`` tracks from its embedded remote to the team's. Raises
    ServerError."""
    env = clean({**team.environment, "DVC_SITE_CACHE_DIR": str(make_private(team.folder / "dvc" / "site"))})
    for verb in (["fetch", "--remote", "embedded"], ["push", "--remote", REMOTE]):
        line = [sys.executable, "-m", "dvc", *verb, "data.dvc"]
        done = subprocess.run(
            line,
            cwd=repository,
            env=env,
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it said nothing."]
            raise ServerError(
                f"`dvc {' '.join(verb)}` failed: {said[-1]}",
                stage=STAGE,
                action="the servers run; push the data by hand.",
            )


def main(argv: list[str] | None = None) -> int:
    """Start, tell, wait for Ctrl-C or SIGTERM, stop."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.local_stack.stack",
        description=str(__doc__).split("\n")[0],
        epilog="Example: python -m flows.local_stack.stack --folder runs/team",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/team"), help="data, logs, passwords (default: runs/team)"
    )
    parser.add_argument("--no-worker", action="store_true", help="without the process worker")
    parser.add_argument("--no-data", action="store_true", help="leave the team's DVC remote as it is")
    chosen = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell in the background hands it down as ignored
    team = Team(chosen.folder, worker=not chosen.no_worker, say=_say)
    _say(f"starting in {team.folder} (the first time takes a minute)")
    try:
        with team:
            if not chosen.no_data:
                publish(team)
                _say(f"data: in the DVC remote {REMOTE!r}")
            _tell(team)
            team.watch()
    except KeyboardInterrupt:
        _say("stopped; the data stay, and the next start finds them.")
        return 0
    except FadeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


def _tell(team: Team) -> None:
    _say(
        f"MLflow   {team.mlflow.url}  (user {MEMBER}; the admin's password is in {team.folder / 'secrets.json'})"
    )
    _say(f"Prefect  {team.prefect.url.removesuffix('/api')}")
    _say(f"S3       {team.s3.endpoint}  (DVC: s3://{DATA}, remote {REMOTE!r})")
    _say(
        f"In another terminal:\n  source {shlex.quote(str(team.folder / 'env'))}\n  fade run --target panda --set data.remote={REMOTE}"
    )
    _say("Ctrl-C stops them all.")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
