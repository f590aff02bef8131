"""The registry: where versions come from, what is decided about them, and runs that are registered later."""

from __future__ import annotations

import getpass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from flows.cli.app import app
from flows.cli.lineage_tree import show_tree
from flows.cli.options import (
    PARAMS,
    RUNS,
    By,
    Json,
    ModelName,
    ParamsFile,
    Reason,
    Runs,
    Set,
    opened,
    prepare,
    text_option,
    trust,
)
from flows.cli.output import emit, show_words
from flows.cli.screen import escape, print_line, print_note, show_rows

if TYPE_CHECKING:
    from tasks.registry.trust import Trust

Version = Annotated[str, Argument(help="NAME/VERSION of a registered model.")]

_TAGS = ("method", "seed", "data_md5", "base_sha256", "commit", "adapter_sha256")
"""What `fade lineage` shows of the versions that it finds."""


@app.command(epilog="Example: fade register runs/erase/panda/0123456789ab")
def register(
    run_dir: Annotated[Path, Argument(help="The folder of a run whose registration failed.")],
    runs_dir: Path | None = Option(
        None, "--runs-dir", envvar="FADE_RUNS_DIR", help="Another runs folder than the run's own."
    ),
) -> None:
    """Register a run that could not reach the registry when it ended."""
    from tasks.registry.pending import check_run_folder

    own = check_run_folder(run_dir)
    prepare(runs_dir or own)
    from tasks.registry.register import register_pending

    registered = register_pending(run_dir, runs=runs_dir)
    print_line(f"{registered.name} version {registered.version}")


@app.command(
    epilog="Example: fade lineage fade-panda/1    or: fade lineage --data 855a5ca4 --neighbour koala"
)
def lineage(
    version: str | None = Argument(None, help="NAME/VERSION, NAME@ALIAS or NAME of a registered model."),
    data: str | None = Option(None, help="Which versions came from this data md5 (or its beginning)."),
    base: str | None = Option(None, help="... from the base of this sha256."),
    commit: str | None = Option(None, help="... from this commit of the code."),
    adapter: str | None = Option(None, help="... hold the adapter of this sha256."),
    neighbour: str | None = Option(None, help="... had this concept as a neighbour."),
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Where a version comes from; or which versions came from some data, base, commit or neighbour."""
    given = {"data": data, "base": base, "commit": commit, "adapter": adapter}
    hashes = {key: text for key, text in given.items() if text is not None}
    if (version is None) == (not hashes and neighbour is None):
        from fade.errors import UsageError

        what = "a version and what to look for are both named." if version else "nothing is named."
        action = "name a version, or --data, --base, --commit, --adapter, --neighbour."
        raise UsageError(what, stage="lineage", action=action)
    keys = trust(params, set_, runs_dir)
    from tasks.registry.lineage import find, trace

    if version is None:
        emit(find(runs_dir, neighbour=neighbour, hashes=hashes), as_json, _show_versions)
    else:
        traced = trace(version, runs_dir, keys)
        emit(traced.to_json(), as_json, lambda _: show_tree(traced))


def _show_versions(versions: list[dict[str, Any]]) -> None:
    if not versions:
        print("no version came from that")
        return
    rows = [
        [f"{v['name']}/{v['version']}", *(v["tags"].get(tag, "")[:12] for tag in _TAGS)] for v in versions
    ]
    show_rows(f"{len(versions)} version(s)", ["version", *(tag.partition("_")[0] for tag in _TAGS)], rows)
    for one in versions:
        if "unreadable" in one:
            print_note(f"[bold red]unreadable[/] {escape(one['unreadable'])}")


@app.command(
    epilog='Example: fade promote fade-panda/1    or: fade promote fade-panda/2 --override "court order, '
    'due today"'
)
def promote(
    version: Version,
    override: str = Option(
        "", help="Promote it although it does not pass the gate: why. Shown for ever.", callback=text_option
    ),
    reason: Reason = "",
    by: By = "",
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Make a version the champion of its concept, when it passes the gate (`gate` in params.yaml)."""
    settings = opened(params, set_, runs_dir)
    keys = trust(params, set_, runs_dir)
    _decide("promote", version, runs_dir, as_json, by, reason, keys, policy=settings.gate, override=override)


@app.command(epilog='Example: fade reject fade-panda/2 --reason "the bears look alike"')
def reject(
    version: Version,
    reason: Reason,
    by: By = "",
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Say that a version shall not be promoted."""
    _decide("reject", version, runs_dir, as_json, by, reason, trust(params, set_, runs_dir))


@app.command(epilog='Example: fade revoke fade-panda/1 --reason "brings the panda back under a new attack"')
def revoke(
    version: Version,
    reason: Reason,
    by: By = "",
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Withdraw a version for ever: it is no champion any more and refuses to load."""
    keys = trust(params, set_, runs_dir)  # no other section is read: a revocation must always be possible
    decision = _decide("revoke", version, runs_dir, as_json, by, reason, keys)
    from fade.errors import FadeError
    from tasks.registry.releases import current_holding

    label = f"{decision['model']}/{decision['version']}"
    try:
        release = current_holding(label, runs_dir, keys)
    except FadeError as error:  # the revocation stands
        print_note(f"[yellow]release[/] whether one holds {escape(label)} is not known: {escape(str(error))}")
        return
    if release:
        print_note(
            f"[bold red]release[/] {escape(release)} is current and holds {escape(label)}: it refuses to "
            "load. Next: `fade release` builds it from the other champions, or `fade rollback` goes back."
        )


def _decide(
    action: str, version: str, runs: Path, as_json: bool, by: str, reason: str, keys: Trust, **details: Any
) -> dict[str, Any]:
    from fade.config import PromotionPolicy
    from tasks.registry.decisions import decide

    details.setdefault("policy", PromotionPolicy())  # read for a promotion alone
    decision = decide(action, version, runs, by=by or getpass.getuser(), reason=reason, trust=keys, **details)
    for failure in decision.get("cards", []):
        print_note(
            f"[yellow]card[/] {escape(failure)} The decision stands; its description follows with the next "
            "one."
        )
    emit(decision, as_json, _show_decision)
    return decision


def _show_decision(decision: dict[str, Any]) -> None:
    what = "overridden: it does not pass the gate" if decision["overridden"] else "decided"
    if not decision["changed"]:
        what = "was decided already"
    label = f"{decision['model']}/{decision['version']}: {decision['action']}, {what}"
    rows = [
        [one["name"], _number(one["value"]), _number(one["threshold"]), "yes" if one["holds"] else "NO"]
        for one in decision["criteria"]
    ]
    title = f"{label} (decision {decision['number']} by {decision['by']})"
    show_rows(title, ["criterion", "value", "asked", "holds"], rows)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


@app.command(epilog="Example: fade verify fade-panda/1 --set signing.public_key=keys/team.pub")
def verify(
    version: Version,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Hold a version's registry entry, record, adapter, header, signature and decisions against one
    another."""
    opened(params, set_, runs_dir)
    keys = trust(params, set_, runs_dir)
    from tasks.registry.verify import verify as verify_version

    def show(results: list[dict[str, str]]) -> None:
        show_rows(f"{version} verified", ["", "found"], [[row["what"], row["found"]] for row in results])

    emit(verify_version(version, runs_dir, keys), as_json, show)


@app.command(epilog="Example: fade decisions fade-panda")
def decisions(
    model: ModelName,
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Everything that was decided about a model's versions, who did, and why; promotions against the gate in
    red."""
    from dataclasses import asdict

    keys = trust(params, set_, runs_dir)
    from tasks.registry.decisions import history

    standing = history(model, runs_dir, keys)
    result = {
        "champion": standing.champion,
        "states": standing.states,
        "decisions": [{**asdict(one), "sha256": one.sha256()} for one in standing.decisions],
        "void": [asdict(one) for one in standing.void],
    }
    emit(result, as_json, partial(_show_decisions, model))


def _show_decisions(model: str, result: dict[str, Any]) -> None:
    rows, styles = [], []
    for one in sorted([*result["decisions"], *result["void"]], key=lambda decision: decision["number"]):
        void = one in result["void"]
        details = "overridden" if one["overridden"] else "void, came second" if void else ""
        action = f"{one['action']} {details}".strip()
        rows.append([str(one["number"]), one["version"], action, one["by"], one["at"], one["reason"]])
        styles.append("bold red" if one["overridden"] else "dim" if void else None)
    head = ["", "version", "decision", "by", "at", "why"]
    title = f"{model}: champion {result['champion'] or 'none'}"
    show_words(title, head, rows, styles)
