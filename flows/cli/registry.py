"""The registry: where versions come from, and runs that are registered later."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.app import app
from flows.cli.lineage_tree import SUMMARIES, grow
from flows.cli.options import Json, ParamsFile, Runs, Set, resolved
from flows.cli.screen import escape, say, show_rows


@app.command(epilog="Example: fade register runs/erase/panda/0123456789ab")
def register(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run whose registration failed.")],
    runs_dir: Annotated[
        Path | None,
        typer.Option("--runs-dir", envvar="FADE_RUNS_DIR", help="Another runs folder than the run's own."),
    ] = None,
) -> None:
    """Register a run that could not reach the registry when it ended."""
    from flows.server.runtime import prepare

    prepare(runs_dir or run_dir.resolve().parents[2])  # RUNS/erase/TARGET/KEY
    from tasks.registry.register import register_pending

    done = register_pending(run_dir, runs=runs_dir)
    print(f"{done.name} version {done.version}")


@app.command(
    epilog="Example: fade lineage fade-panda/1    or: fade lineage --data ddb5b6ed --neighbour koala"
)
def lineage(
    version: Annotated[
        str | None, typer.Argument(help="NAME/VERSION, NAME@ALIAS or NAME of a registered model.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Which versions came from this data md5 (or its beginning).")
    ] = None,
    base: Annotated[str | None, typer.Option(help="... from the base of this sha256.")] = None,
    commit: Annotated[str | None, typer.Option(help="... from this commit of the code.")] = None,
    adapter: Annotated[str | None, typer.Option(help="... hold the adapter of this sha256.")] = None,
    neighbour: Annotated[str | None, typer.Option(help="... had this concept as a neighbour.")] = None,
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Where a version comes from; or which versions came from some data, base, commit or neighbour."""
    from fade.errors import UsageError
    from flows.server.runtime import prepare

    given = {"data": data, "base": base, "commit": commit, "adapter": adapter}
    hashes = {key: text for key, text in given.items() if text is not None}
    if (version is None) == (not hashes and neighbour is None):
        what = "a version and what to look for are both named." if version else "nothing is named."
        raise UsageError(
            what,
            stage="lineage",
            action="name a version, or --data, --base, --commit, --adapter, --neighbour.",
        )
    prepare(runs_dir)
    from tasks.registry.lineage import find, trace

    if version is None:
        found = find(runs_dir, neighbour=neighbour, hashes=hashes)
        if as_json:
            print(json.dumps(found, indent=2))
            return
        if not found:
            print("no version came from that")
            return
        rows = [
            [f"{v['name']}/{v['version']}", *(v["tags"].get(tag, "")[:12] for tag in _COLUMNS.values())]
            for v in found
        ]
        show_rows(f"{len(found)} version(s)", ["version", *_COLUMNS], rows)
        return
    traced = trace(version, runs_dir)
    if as_json:
        print(json.dumps(traced.to_json(), indent=2))
        return
    from rich.console import Console
    from rich.tree import Tree

    tree = Tree(f"[bold]{traced.name}/{traced.version}[/]  lineage sha256 {traced.lineage.sha256()[:12]}")
    for section, value in traced.lineage.content.items():
        if isinstance(value, Mapping):
            grow(tree.add(f"[bold]{section}[/]"), SUMMARIES.get(section, dict)(value))
    Console().print(tree, soft_wrap=True)


Reason = Annotated[str, typer.Option(help="Why; recorded for ever.")]
By = Annotated[str, typer.Option(help="Who decides (default: the user of this machine).", envvar="FADE_USER")]
Version = Annotated[str, typer.Argument(help="NAME/VERSION of a registered model.")]


@app.command(
    epilog='Example: fade promote fade-panda/1    or: fade promote fade-panda/2 --override "court order, '
    'due today"'
)
def promote(
    version: Version,
    override: Annotated[
        str, typer.Option(help="Promote it although it does not pass the gate: why. Shown for ever.")
    ] = "",
    reason: Reason = "",
    by: By = "",
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Make a version the champion of its concept, when it passes the gate (`gate` in params.yaml)."""
    _decide("promote", version, params, set_, runs_dir, as_json, by=by, reason=reason, override=override)


@app.command(epilog='Example: fade reject fade-panda/2 --reason "the bears look alike"')
def reject(
    version: Version,
    reason: Reason,
    by: By = "",
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Say that a version shall not be promoted."""
    _decide("reject", version, Path("params.yaml"), None, runs_dir, as_json, by=by, reason=reason)


@app.command(epilog='Example: fade revoke fade-panda/1 --reason "brings the panda back under a new attack"')
def revoke(
    version: Version,
    reason: Reason,
    by: By = "",
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Withdraw a version for ever: it is no champion any more and refuses to load."""
    _decide("revoke", version, Path("params.yaml"), None, runs_dir, as_json, by=by, reason=reason)


@app.command(epilog="Example: fade keys team --folder ~/.fade")
def keys(
    name: Annotated[str, typer.Argument(help="Name of the two files.")],
    folder: Annotated[Path, typer.Option(help="Where they are put; not into the repository.")] = Path("keys"),
) -> None:
    """Make a key pair that versions are signed with; FADE_SIGNING_PASSWORD locks the private one."""
    from tasks.registry.signing import make_keys

    private, public = make_keys(folder.expanduser(), name)
    print(f"private     {private}\npublic      {public}")
    say(
        "Set signing.private_key where versions are registered and signing.public_key where they are "
        "promoted. Keep the private one."
    )


@app.command(epilog="Example: fade verify fade-panda/1 --set signing.public_key=keys/team.pub")
def verify(
    version: Version,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Hold a version's registry entry, record, adapter, header, signature and decisions against one
    another."""
    from flows.server.runtime import prepare

    settings, _ = resolved(params, set_)
    prepare(runs_dir)
    from tasks.registry.verify import verify as check

    rows = check(version, runs_dir, settings.signing.public_key)
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    show_rows(f"{version} verified", ["", "found"], [[row["what"], row["found"]] for row in rows])


@app.command(epilog="Example: fade decisions fade-panda")
def decisions(
    model: Annotated[str, typer.Argument(help="NAME of a registered model.")],
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Everything that was decided about a model's versions, who did, and why; promotions against the gate in
    red."""
    from dataclasses import asdict

    from flows.server.runtime import prepare

    prepare(runs_dir)
    from tasks.registry.decisions import history

    found = history(model, runs_dir)
    if as_json:
        counted = [{**asdict(one), "sha256": one.sha256()} for one in found.decisions]
        void = [asdict(one) for one in found.void]
        print(
            json.dumps(
                {"champion": found.champion, "states": found.states, "decisions": counted, "void": void},
                indent=2,
            )
        )
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{model}: champion {found.champion or 'none'}")
    for column in ("", "version", "decision", "by", "at", "why"):
        table.add_column(column)
    for one in sorted([*found.decisions, *found.void], key=lambda d: d.number):
        details = "overridden" if one.overridden else "void, came second" if one in found.void else ""
        words = [str(one.number), one.version, f"{one.action} {details}".strip(), one.by, one.at, one.reason]
        table.add_row(
            *map(escape, words), style="bold red" if one.overridden else "dim" if one in found.void else None
        )
    Console().print(table)


def _decide(
    action: str,
    version: str,
    params: Path,
    set_: list[str] | None,
    runs: Path,
    as_json: bool,
    *,
    by: str,
    **details: Any,
) -> None:
    from flows.server.runtime import prepare

    settings = resolved(params, set_)[0] if action == "promote" else None
    prepare(runs)
    import getpass

    from fade.config import PromotionPolicy, SigningConfig
    from tasks.registry.decisions import decide

    signing = settings.signing if settings else SigningConfig()
    done = decide(
        action,
        version,
        runs,
        settings.gate if settings else PromotionPolicy(),
        public_key=signing.public_key,
        private_key=signing.private_key,
        by=by or getpass.getuser(),
        **details,
    )
    for unsaid in done.get("cards", []):
        say(
            f"[yellow]card[/] {escape(unsaid)} The decision stands; its description follows with the next "
            "one."
        )
    if as_json:
        print(json.dumps(done, indent=2))
        return
    what = (
        "was decided already"
        if not done["changed"]
        else "overridden: it does not pass the gate"
        if done["overridden"]
        else "decided"
    )
    show_rows(
        f"{done['model']}/{done['version']}: {done['action']}, {what} (decision {done['number']} by "
        f"{done['by']})",
        ["criterion", "value", "asked", "holds"],
        [
            [one["name"], _number(one["value"]), _number(one["threshold"]), "yes" if one["holds"] else "NO"]
            for one in done["criteria"]
        ],
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


_COLUMNS = {
    "method": "method",
    "seed": "seed",
    "data": "data_md5",
    "base": "base_sha256",
    "commit": "commit",
    "adapter": "adapter_sha256",
}
