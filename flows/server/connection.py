"""The embedded Prefect server: uvicorn on a socket of 127.0.0.1 that is already listening; it ends when its
starter is gone.

    python -m flows.server.connection FD STARTER [whole]

"whole": with the services that a scheduler needs (crons, automations, slots of the dead given back), and
leases on disk, which outlive the server; a single run does without and starts faster.

The starter listens first and hands the socket down, so no port can be taken in between, and a client that is
early waits in the queue instead of being refused. It demands the login in PREFECT_SERVER_API_AUTH_STRING, by
HTTP and by web socket; open are /api/health and /api/ready alone."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time

from flows.server.host_check import HostCheckMiddleware

LOGIN = "PREFECT_SERVER_API_AUTH_STRING"
GRACE = 5.0
"""Seconds that a server without a starter gets to end by itself."""
LEASES_ON_DISK = (
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE",
    "prefect.server.concurrency.lease_storage.filesystem",
)
SCHEDULER_SETTINGS = {
    LEASES_ON_DISK[0]: LEASES_ON_DISK[1],
    "PREFECT_UI_ENABLED": "false",  # it would be unpacked into the installed package
}
RUN_SETTINGS = {
    "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "false",  # no flow here stores a block
    # it imports every collection, to store none
    "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}


def end_with(starter: int) -> None:
    """Leave when ``starter`` is no longer our parent: a run that is killed -9 leaves no server behind."""
    while os.getppid() == starter:
        time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)


def warm_up(port: int) -> None:
    """Send the first request, which costs the server most of a second, before a client waits for one."""
    import httpx

    auth = httpx.BasicAuth(*os.environ[LOGIN].split(":", 1))
    with contextlib.suppress(httpx.HTTPError):
        httpx.get(f"http://127.0.0.1:{port}/api/hello", auth=auth, timeout=60, trust_env=False)


def main(argv: list[str]) -> int:
    """Serve until SIGTERM."""
    if ":" not in os.environ.get(LOGIN, ""):
        sys.stderr.write(f"{LOGIN} is not set: this server would answer every account of the machine\n")
        return 2
    listening, starter, whole = socket.socket(fileno=int(argv[0])), int(argv[1]), argv[2:] == ["whole"]
    threading.Thread(target=end_with, args=(starter,), daemon=True).start()
    for key, value in (SCHEDULER_SETTINGS if whole else RUN_SETTINGS).items():
        os.environ.setdefault(key, value)
    import uvicorn
    from prefect.server.api.server import create_app

    # Prefect accepts any Host and Origin; a page in a browser must not even get as far as the login.
    app = HostCheckMiddleware(create_app(ephemeral=not whole, final=True))
    # At the end the run's own event stream may still be open: do not wait for it.
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    threading.Thread(target=warm_up, args=(listening.getsockname()[1],), daemon=True).start()
    server.run(sockets=[listening])
    return 0 if server.started else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
