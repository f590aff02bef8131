"""Append an erasure request to the text of requests.yaml; every other line and comment stays as it is."""

from __future__ import annotations

from pathlib import Path

import yaml

from fade.errors import RequestFileError
from fade.governance.requests import STAGE, Request, parse_requests, same_id

HEADER = (
    "# Erasure requests, see docs/schedule.md. Never delete one: say why in its `withdrawn`.\nrequests:\n"
)
_PATH = Path("requests.yaml")


def append_request(text: str, request: Request) -> str:
    """The text with one more request. Raises RequestFileError when other lines would have to be rewritten,
    or the id is taken."""
    before = parse_requests(text, _PATH)
    if taken := [one for one in before.ids if same_id(one, request.id)]:
        what = f"there is a request {taken[0]!r} already."
        raise RequestFileError(what, stage=STAGE, action="choose another --id; an id is given once.")
    head, tail, indent = _split(text if text.strip() else HEADER)
    dates = {key: getattr(request, key) for key in ("date", "due") if getattr(request, key) is not None}
    entry = yaml.safe_dump(
        [{**request.to_json(), **dates}], sort_keys=False, allow_unicode=True, width=120
    ).splitlines()
    out = head + "".join(f"{' ' * indent}{line}\n" for line in entry) + tail
    after = parse_requests(out, _PATH)
    if after.requests != (*before.requests, request) or after.faults != before.faults:
        what = "it cannot be added without changing other requests."
        raise RequestFileError(what, stage=STAGE, action="add it with an editor.")
    return out


def _split(text: str) -> tuple[str, str, int]:
    """(the text up to the end of the list, the rest, the list's indentation in spaces)."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:  # stricter than libyaml, which has read it: a tab behind a colon
        what = f"the list cannot be added to: {' '.join(str(getattr(error, 'problem', error)).split())}."
        raise RequestFileError(what, stage=STAGE, action="add the request with an editor.") from None
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    node = next((value for key, value in pairs if key.value == "requests"), None)
    if node is None:  # nothing but comments
        return f"{text.rstrip()}\nrequests:\n", "", 2
    if isinstance(node, yaml.SequenceNode) and node.value:
        if node.flow_style:
            action = "write one request below the other, each after a `-`."
            raise RequestFileError("the list is written in brackets.", stage=STAGE, action=action)
        end, indent = _list_end(text, node.end_mark.index), node.start_mark.column
    else:  # `requests:` or `requests: []`
        before = text[: node.start_mark.index].rstrip()
        text, indent = before + text[node.end_mark.index :], 2
        end = text.find("\n", len(before)) + 1 or len(text)
    head = text[:end]
    return head if head.endswith("\n") else f"{head}\n", text[end:], indent


def _list_end(text: str, mark: int) -> int:
    """Index behind the list's last line; its end mark lies behind blank lines and comments that follow."""
    lines = text[:mark].splitlines(keepends=True)
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return sum(map(len, lines))
