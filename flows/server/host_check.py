"""Host check: which Host and Origin headers a server of ours accepts. Prefect's server accepts any Host: a
page in a browser whose own name is made to resolve to this machine (DNS rebinding) could use it."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class HostCheckMiddleware:
    """ASGI middleware: answers a foreign Host with 421 and a foreign Origin with 403; closes a web socket of
    either with code 1008."""

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = LOOPBACK) -> None:
        self._app, self._hosts = app, frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        status = self._refusal(scope)
        if status is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            what = "Host" if status == 421 else "Origin"
            await PlainTextResponse(f"foreign {what}\n", status)(scope, receive, send)

    def _refusal(self, scope: Scope) -> int | None:
        """The status to refuse a request with; None for a request that passes."""
        if scope["type"] not in ("http", "websocket"):
            return None
        headers = [(key.lower(), value.decode("latin-1")) for key, value in scope["headers"]]
        hosts = [value for key, value in headers if key == b"host"]
        if len(hosts) != 1 or _host_name(f"//{hosts[0]}") not in self._hosts:
            return 421
        if any(_host_name(value) not in self._hosts for key, value in headers if key == b"origin"):
            return 403
        return None


def host_names(further: Iterable[str]) -> list[str]:
    """Names that a server in a container answers to: loopback, ``further``, and those in FADE_HOST_NAMES,
    separated by blanks."""
    return [*LOOPBACK, *further, *os.environ.get("FADE_HOST_NAMES", "").split()]


def _host_name(url: str) -> str:
    """The host of a URL without its port, spelt as in a Host header; empty when there is none (null)."""
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return f"[{name}]" if ":" in name else name
