"""The section ``signing`` of params.yaml by itself: a mistake elsewhere in the file delays no revocation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from fade.config import SigningConfig
from fade.errors import ConfigError
from fade.run.resolve_params import parse_params
from fade.utils.parsing import MalformedError, parse_yaml
from fade.utils.reading import SETTINGS, read_text

_SECTION = re.compile(r"^signing[ \t]*:.*?(?=^[^\s#]|\Z)", re.MULTILINE | re.DOTALL)


def read_signing(path: Path = Path("params.yaml"), overrides: Sequence[str] = ()) -> SigningConfig:
    """The section as the file and ``signing.key=value`` overrides have it; the rest of the file is not
    parsed, and other overrides are left out. Without a file it is empty. Raises ConfigError."""
    try:
        text = read_text(path, SETTINGS) if path.exists() else ""
        found = _SECTION.search(text)
        raw = parse_yaml(found.group()) if found else {}
    except (OSError, MalformedError) as error:
        action = "mend its section `signing`, or name another file with --params."
        raise ConfigError(f"{path} cannot be read: {error}.", stage="config", action=action) from None
    section = dict(raw.get("signing") or {}) if isinstance(raw, dict) else {}
    for item in overrides:
        key, _, value = item.partition("=")
        if key.strip().startswith("signing."):
            section[key.strip().removeprefix("signing.")] = value.strip().strip("\"'")
    return parse_params({"signing": section}, str(path)).signing
