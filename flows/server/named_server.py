"""The server that PREFECT_API_URL names: whether it answers, is Prefect's, and of our major version."""

from __future__ import annotations

import asyncio
import json
import re
from importlib.metadata import version
from urllib.parse import urlsplit

from fade.errors import OrchestrationError
from tasks.registry.connection import redacted

STAGE = "prefect"
CONTACT_SECONDS = 15.0
"""In which the whole answer must be there."""
MAX_ANSWER = 10_000
"""Bytes that are read of an answer; Prefect's version is a short string."""


def check_named_server(url: str, login: str) -> None:
    """Raises OrchestrationError for a server that does not answer in CONTACT_SECONDS, refuses ``login``
    (``user:password``, or empty), is no Prefect server, or one of another major version."""
    import httpx

    if not _is_address(url):
        what = "PREFECT_API_URL is no address of a server."
        action = "write http://HOST:PORT/api, or unset it to run without a server."
        raise OrchestrationError(what, stage=STAGE, action=action)
    address = redacted(url)
    start = "start the server, correct PREFECT_API_URL, or unset it to run without one."
    try:
        status, body = asyncio.run(
            asyncio.wait_for(_fetch(f"{url.rstrip('/')}/admin/version", login), CONTACT_SECONDS)
        )
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, TimeoutError) as error:
        why = f"nothing in {CONTACT_SECONDS:g} s" if isinstance(error, TimeoutError) else str(error)
        what = f"no Prefect server answers at {address}: {why or type(error).__name__}."
        raise OrchestrationError(what, stage=STAGE, action=start) from error
    if status in (401, 403):
        what = f"the Prefect server at {address} refuses us ({status})."
        raise OrchestrationError(what, stage=STAGE, action="set PREFECT_API_AUTH_STRING to user:password.")
    if status >= 400:
        raise OrchestrationError(
            f"the Prefect server at {address} answers {status}.", stage=STAGE, action=start
        )
    theirs, ours = _version(body) if status == 200 else "", version("prefect")
    if not theirs:
        what = f"what answers at {address} is no Prefect server ({status}, {body[:40]!r})."
        action = "correct PREFECT_API_URL (it ends in /api), or unset it to run without a server."
        raise OrchestrationError(what, stage=STAGE, action=action)
    if theirs.split(".")[0] != ours.split(".")[0]:
        what = f"the server at {address} is Prefect {theirs}; this is Prefect {ours}."
        action = f"name a server of Prefect {ours.split('.')[0]} in PREFECT_API_URL, or unset it."
        raise OrchestrationError(what, stage=STAGE, action=action)


async def _fetch(url: str, login: str) -> tuple[int, bytes]:
    """The status and the first bytes of an answer. Raises what httpx raises."""
    import httpx

    auth = httpx.BasicAuth(*login.split(":", 1)) if ":" in login else None
    async with (
        httpx.AsyncClient(auth=auth, timeout=CONTACT_SECONDS) as client,
        client.stream("GET", url) as answer,
    ):
        body = b""
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > MAX_ANSWER:
                break
        return answer.status_code, body


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port out of range, half an IPv6 address
        return False


def _version(body: bytes) -> str:
    """Prefect's version in an answer: a JSON string; empty when the answer is another."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return value if isinstance(value, str) and re.match(r"\d+\.\d+", value) else ""
