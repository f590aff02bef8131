"""Passwords in texts: `redact` hides them before a text is raised, printed, logged or recorded. Ours.

The rules prefer to hide too much of an address over too little. They look at the text, at the environment
(the value of a variable whose name is that of a secret is hidden wherever it stands) and at the addresses
that `redact_address` was given: inside a sentence nobody knows where an address with a blank ends."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterable
from functools import lru_cache
from types import TracebackType
from typing import Any
from urllib.parse import quote, unquote

MASK = "***"
SHORTEST = 6
"""Characters from which the value of a secret variable is looked for: a shorter one is part of many words."""

_TOKEN = re.compile(r"[^\s\"<>]+")
"""What may hold an address."""
_SCHEME = re.compile(r"(?:(?<![A-Za-z0-9+.-])([A-Za-z][A-Za-z0-9+.-]*):/{1,3}|(?<![\w.:/-])//)(?!/)")
_PATH_SIGN = re.compile(r"[/?#]")
_USER = re.compile(r"(?<![\w.%+:/@-])([\w.%+-]+):")
"""Of ``user:password@host`` without a scheme."""
_PATHS = frozenset({"models", "runs", "mlflow-artifacts", "file", "sqlite", "dbfs"})
"""Schemes of addresses without a user: an @ in them stands before an alias, or is part of a path."""
_CLOSING = ".,;:!)'\"]}"
"""Signs behind an address that are the sentence's."""
_SECRET_KEY = (
    r"[\w.-]*(?:password|passwd|passphrase|pwd|secret|token|credential|signature|sig"
    r"|(?:api|access|account|secret|secret_access)[_-]?key|auth[_-]?string|(?<=[_.-])(?:pass|pw))s?"
)
_YAML_KEY = r"[\w.-]*(?:password|passwd|passphrase|pwd|secret|token|(?:api|access|account|secret)[_-]?key)"
_VALUE = r"(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S*[^\s.,;:!)\]}'\"]|\S+)"
_PAIR = re.compile(
    rf"(?i)(?<![\w.-])({_SECRET_KEY}(?:\s*=\s*|['\"]\s*:\s*)|(?<![\w.-]){_YAML_KEY}:[ \t]+){_VALUE}"
)
"""``password=...`` of a DSN or a setting, ``"password": "..."`` of JSON, ``password: ...`` of YAML."""
_HEADER = re.compile(
    r"(?i)(authorization['\"]?\s*[:=,]\s*(?:b?['\"])?(?:(?:basic|bearer|digest|token|apikey)\s+)?)"
    r"(?:(?:[\w-]+=\"[^\"]*\"(?:,\s*(?=[\w-]+=\"))?)+|[^\s'\"]*[^\s'\",;])"
)
_JWT = re.compile(r"\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*")

_SECRET_NAME = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN(?!IZ)|CREDENTIAL|API_?KEY|(?:^|_)AUTH(?:_|$)|_(?:KEY|PASS|PW|PWD)$"
)
_OTHER_NAME = re.compile(r"_(?:PATH|FILE|DIR|HOME|SOCK|NAME|TYPE|METHOD|SECONDS|TIMEOUT|ENABLED)$")
_PLAIN_VALUE = re.compile(r"(?i)true|false|enabled|disabled|required|optional|\d{1,7}")
_URL_PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/+[^:/@]*:(.+)@")


_KNOWN: set[str] = set()
"""What `redact_address` found to be secret, in each spelling."""


def redact_address(address: str) -> str:
    """A setting that is an address as a whole, without user, password and query, whatever signs they hold.
    From then on `redact` hides them wherever they stand."""
    masked = _without_query(_without_user(address))
    user = _userinfo(address)
    _, _, query = address.partition("?")
    if masked != address:
        _KNOWN.update(_spellings({user, user.partition(":")[2], query}) or {address})
    return redact(masked)


def redact(text: str) -> str:
    """``text`` without user names, passwords and queries of addresses, without the values of secret settings
    and headers, and without the secrets of this process's environment. Applied twice it changes nothing more;
    a text without any of these is returned as it is."""
    for secret in _secrets():
        text = text.replace(secret, MASK)
    text = _TOKEN.sub(lambda match: _without_query(_without_user(match[0])), text)
    text = _PAIR.sub(rf"\1{MASK}", _HEADER.sub(rf"\1{MASK}", text))
    return _JWT.sub(MASK, text)


def _without_user(token: str) -> str:
    """The user is masked up to the last @ of a token."""
    user = _userinfo(token)
    last = token.rfind("@")
    return token[: last - len(user)] + MASK + token[last:] if user else token


def _userinfo(token: str) -> str:
    """``user:password`` up to the last @ of a token, since a password may hold ``/``, ``@`` and ``:``."""
    last = token.rfind("@")
    for match in _SCHEME.finditer(token, 0, max(last, 0)):
        end = _PATH_SIGN.search(token, match.end(), last)
        first = token[match.end() : end.start() if end else last]  # the authority of a well-formed address
        if (match[1] or "").lower() not in _PATHS and (end is None or ":" in first or "@" in first):
            return token[match.end() : last]
    if last < 0 or not re.match(r"[\w\[]", token[last + 1 : last + 2]):
        return ""
    for match in _USER.finditer(token, 0, last):
        path = token.startswith("/", match.end()) and match[1].lower() in _PATHS
        if match.end() < last and not path and not token.startswith(("//", f"/{MASK}@"), match.end()):
            return token[match.start() : last]
    return ""


def _without_query(token: str) -> str:
    start = token.find(":/")
    begin, end = token.find("?", max(start, 0)), len(token.rstrip(_CLOSING))
    has_query = start >= 0 and 0 <= begin < end - 1
    return token[: begin + 1] + MASK + token[end:] if has_query else token


def _secrets() -> list[str]:
    """Those of this process's environment and of its known addresses, in each spelling, the longest first."""
    found = {one for name, value in os.environ.items() for one in _secrets_of(name, value)} | _KNOWN
    return sorted(found, key=lambda secret: (-len(secret), secret))


@lru_cache(maxsize=4096)
def _secrets_of(name: str, value: str) -> frozenset[str]:
    name = name.upper()
    secrets = {match[1] for match in [_URL_PASSWORD.match(value)] if match}
    if _SECRET_NAME.search(name) and not _OTHER_NAME.search(name):
        path = value.startswith(("/", "./")) and os.access(value, os.F_OK)
        secrets |= set() if path or "://" in value else {value, value.partition(":")[2]}
    return frozenset(_spellings(secrets))


def _spellings(secrets: Iterable[str]) -> set[str]:
    """Each secret as it is, in an address, and in JSON; without those that are too short or no secret."""
    spellings = {
        spelling
        for secret in secrets
        for spelling in (
            *(secret, unquote(secret), json.dumps(secret)[1:-1]),
            *(quote(secret, safe=safe) for safe in ("", "/", "/@:")),
        )
    }
    return {one for one in spellings if len(one) >= SHORTEST and not _PLAIN_VALUE.fullmatch(one)}


class _Record(logging.LogRecord):
    """A log record whose message is redacted when it is formatted."""

    def getMessage(self) -> str:
        return redact(super().getMessage())


def redact_logs() -> None:
    """Redact every log record of this process (ours and the tools'), its traceback, and the traceback of an
    exception that ends the process."""
    factory = logging.getLogRecordFactory()
    if not getattr(factory, "redacts", False):

        def redacted_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
            record = factory(*args, **kwargs)
            if type(record) is logging.LogRecord:
                record.__class__ = _Record
            if record.exc_info and record.exc_info[0] is not None:
                record.exc_text = redact("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
            return record

        redacted_record.redacts = True  # type: ignore[attr-defined]
        logging.setLogRecordFactory(redacted_record)
        sys.excepthook = _print_exception


def _print_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
