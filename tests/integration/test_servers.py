"""One server at a time: PostgreSQL under the script of its container, and what a server that does not start
leaves behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fade.errors import ServerError
from flows.local_stack.postgres import ADMIN, Postgres, program
from flows.local_stack.server import HOST, Account, Server, free_ports, is_free
from tasks.launch.watchdog import Watchdog
from tests import servers

pytestmark = servers.needed
REPO = Path(__file__).resolve().parents[2]


def test_the_containers_script_makes_roles_that_see_their_own_database_only(tmp_path: Path) -> None:
    import psycopg2

    (port,) = free_ports(1)
    words = {"MLFLOW_DB_PASSWORD": "it's \\ a $word", "PREFECT_DB_PASSWORD": 'another "one"'}
    with Postgres(tmp_path / "postgres", port, "admin-word"):
        path = f"{Path(program('psql')).parent}:{os.environ['PATH']}"
        env = {
            "PATH": path,
            "PGHOST": HOST,
            "PGPORT": str(port),
            "PGPASSWORD": "admin-word",
            "POSTGRES_USER": ADMIN,
            **words,
        }
        done = subprocess.run(
            ["sh", str(REPO / "docker/roles.sh")], env=env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        for user, word in (("fade_mlflow", "MLFLOW_DB_PASSWORD"), ("fade_prefect", "PREFECT_DB_PASSWORD")):
            psycopg2.connect(host=HOST, port=port, user=user, password=words[word], dbname=user).close()
        with pytest.raises(psycopg2.OperationalError, match="permission denied"):
            psycopg2.connect(
                host=HOST,
                port=port,
                user="fade_mlflow",
                password=words["MLFLOW_DB_PASSWORD"],
                dbname="fade_prefect",
            )
    assert is_free(port)


def test_postgres_that_was_killed_starts_again_with_what_it_had(tmp_path: Path) -> None:
    import psycopg2

    (port,) = free_ports(1)
    server = Postgres(tmp_path / "postgres", port, "admin-word", (Account("one", "word", ("one",)),))
    server.start()
    try:
        with (
            psycopg2.connect(server.database_url("one", driver="postgresql")) as link,
            link.cursor() as cursor,
        ):
            cursor.execute("CREATE TABLE kept (x int); INSERT INTO kept VALUES (7)")
        link.close()
        server.kill()
        assert is_free(port)
        server.start()
        with (
            psycopg2.connect(server.database_url("one", driver="postgresql")) as link,
            link.cursor() as cursor,
        ):
            cursor.execute("SELECT x FROM kept")
            assert cursor.fetchone() == (7,)
        link.close()
    finally:
        server.stop()


class Sleeper(Server):
    name = "sleeper"
    code = "import time; time.sleep(600)"

    def command(self) -> list[str]:
        return [sys.executable, "-c", self.code]

    def ready(self) -> bool:
        return False


class Broken(Sleeper):
    name = "broken"
    code = "import sys; sys.exit('no room left')"


def test_a_server_that_does_not_answer_is_named_and_gone(tmp_path: Path) -> None:
    server = Sleeper(tmp_path)
    with pytest.raises(ServerError, match=r"sleeper did not start: no answer in time.*sleeper\.log"):
        server.start(timeout=1)
    assert server.group is None
    with pytest.raises(ServerError, match=r"broken did not start: it ended with status 1: no room left"):
        Broken(tmp_path).start()


def test_servers_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom tasks.launch.watchdog import Watchdog\n"
        "from tests.integration.test_servers import Sleeper\n"
        "class Ready(Sleeper):\n    def ready(self):\n        return True\n"
        "server = Ready(Path(sys.argv[1]), watchdog=Watchdog())\nserver.start()\n"
        "print(server.group.pid, flush=True)\ntime.sleep(600)\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=REPO, stdout=subprocess.PIPE, text=True
    )
    try:
        assert starter.stdout is not None
        said = re.fullmatch(r"(\d+)\n", starter.stdout.readline())
        assert said
        server = psutil.Process(int(said[1]))
        starter.kill()
        starter.wait()
        servers.until(
            lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, 30, "the server's end"
        )
    finally:
        starter.kill()
        starter.wait()
        if starter.stdout is not None:
            starter.stdout.close()


def test_a_watchdog_leaves_alone_whoever_has_got_the_process_id_since(tmp_path: Path) -> None:
    watchdog = Watchdog()
    other = subprocess.Popen([sys.executable, "-c", Sleeper.code], start_new_session=True)
    try:
        assert watchdog._process.stdin is not None
        watchdog._process.stdin.write(f'{{"pid": {other.pid}, "create_time": 1.0}}\n')
        watchdog.close()
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
