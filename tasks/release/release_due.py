"""Whether the scheduler makes a release: once of the same champions, when every request is worked off and
decided."""

from __future__ import annotations

from collections.abc import Sequence

from tasks.registry.connection import Tracking
from tasks.registry.snapshot import RegistrySnapshot
from tasks.release.build_release import find_release, select_champions
from tasks.release.release_decision import ReleaseOptions
from tasks.requests.status import OPEN, RUNNING, SUCCEEDED, RequestStatus


def why_no_release(tracking: Tracking, options: ReleaseOptions, statuses: Sequence[RequestStatus]) -> str:
    """Why no release is made after a pass over the requests; empty when one is due.

    A release of just these champions that was refused, and is the last one registered, is due again: the pass
    that made it may have ended before its retries. Any later release is somebody's choice. Raises as
    `select_champions`, but for the lack of a champion."""
    if waiting := [one.id for one in statuses if one.state in (OPEN, RUNNING)]:
        return f"not worked off yet: {', '.join(waiting)}"
    snapshot = RegistrySnapshot.load(tracking, options.params.register_.model_prefix, options.trust)
    done = [one.version for one in statuses if one.state == SUCCEEDED]
    if undecided := [label for label in done if not _is_decided(snapshot, label)]:
        return f"not decided yet: {', '.join(undecided)}; see `fade promote`"
    if not {*done} & {f"{one.name}/{one.version}" for one in snapshot.champions()}:
        return "no request's version is a champion"
    selected = select_champions(tracking, options.params, options.runs, options.root)
    version = find_release(tracking, selected, options.params, options.root)
    if version is None:
        return ""
    label, number = f"{version.name}/{version.version}", str(version.version)
    last = str(snapshot.versions_of(options.name)[0].version)
    if number == last and number not in snapshot.standing(options.name).states:
        return ""
    return f"{label} is of these champions"


def _is_decided(snapshot: RegistrySnapshot, label: str) -> bool:
    """Whether somebody decided about the version, or made a later one of its model the champion."""
    name, _, number = label.rpartition("/")
    standing = snapshot.standing(name)
    return number in standing.states or int(standing.champion or 0) > int(number)
