"""The section ``signing`` of params.yaml by itself: a mistake elsewhere in the file delays no revocation."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fade.config import Params, SigningConfig
from fade.errors import ConfigError
from fade.run.resolve_params import override, override_path, parse_params
from fade.utils.parsing import MalformedError, parse_yaml
from fade.utils.reading import SETTINGS, read_text

NAME = "signing"
_SECTION = re.compile(rf"^{NAME}[ \t]*:.*?(?=^[^\s#]|\Z)", re.MULTILINE | re.DOTALL)
_REMARK = re.compile(r"#.*")


def read_signing(path: Path = Path("params.yaml"), overrides: Sequence[str] = ()) -> SigningConfig:
    """The section as `fade.run.resolve_params.load_params` has it, of the file and of its own overrides;
    whatever else the file and the overrides hold is not checked. Without a file it is empty.

    Raises ConfigError for a mistake in the section, for a name that is nearly the section's, and for a file
    that is no YAML and from which the section cannot be cut."""
    try:
        text = read_text(path, SETTINGS) if path.exists() else ""
        raw = _parsed(text)
    except (OSError, MalformedError) as error:
        action = f"mend its section `{NAME}`, or name another file with --params."
        raise ConfigError(f"{path} cannot be read: {error}.", stage="config", action=action) from None
    for item in overrides:
        if NAME in (key := item.partition("=")[0]) or _is_meant(key.partition(".")[0].strip()):
            override_path(item)
            override(raw, item)
    return parse_params(raw, str(path)).signing


def _parsed(text: str) -> dict[str, Any]:
    """The section by its name, and what is nearly named so, which `parse_params` refuses. Raises
    MalformedError."""
    try:
        raw = parse_yaml(text)
    except MalformedError as error:
        sections = _SECTION.findall(text)
        if len(sections) > 1 or NAME in _REMARK.sub("", _SECTION.sub("", text)):
            raise MalformedError(f"{error}; so its section `{NAME}` is not known") from None
        raw = parse_yaml("".join(sections))
    if raw is not None and not isinstance(raw, dict):
        raise MalformedError("it holds no mapping")
    return {key: value for key, value in (raw or {}).items() if key == NAME or _is_meant(key)}


def _is_meant(name: str) -> bool:
    """Whether a name that is no section's is nearly `signing`: left out, nothing would be signed."""
    known = Params.known_keys()
    return name not in known and difflib.get_close_matches(name[:100].casefold(), known, 1, 0.5) == [NAME]
