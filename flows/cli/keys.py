"""The team's keys: made, put to use for what was registered before, replaced and closed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from flows.cli.app import app
from flows.cli.options import PARAMS, RUNS, ParamsFile, Runs, Set, trust
from flows.cli.screen import print_line, print_note

ADOPT, ROTATE, REVOKE = "adopt", "rotate", "revoke"


@app.command(
    epilog="Example: fade keys team --folder ~/.fade    or: fade keys adopt fade-panda    or: fade keys "
    "rotate keys/new.pub    or: fade keys revoke keys/lost.pub"
)
def keys(
    name: Annotated[str, Argument(help="Name of the two files; or adopt, rotate, revoke.")],
    subject: Annotated[
        str,
        Argument(
            help="adopt: a model, whose versions and logs are signed. rotate: the new public key's file. "
            "revoke: the file of a public key that was lost."
        ),
    ] = "",
    folder: Path = Option(Path("keys"), help="Where they are put; not into the repository."),
    set_: Set = None,
    params: ParamsFile = PARAMS,
    runs_dir: Runs = RUNS,
) -> None:
    """Make a key pair that versions are signed with; FADE_SIGNING_PASSWORD locks the private one."""
    if name in (ADOPT, ROTATE, REVOKE):
        _change(name, subject, set_, params, runs_dir)
        return
    from tasks.registry.signing import make_keys

    private, public = make_keys(_home(folder), name)
    print_line(f"private     {private}", f"public      {public}")
    print_note(
        "Set signing.private_key where versions are registered and signing.public_key where they are "
        "promoted. Keep the private one."
    )


def _home(folder: Path) -> Path:
    from fade.errors import UsageError

    try:
        return folder.expanduser()
    except RuntimeError as error:  # ~nobody
        what = f"--folder {folder}: {error}"
        raise UsageError(what, stage="options", action="write the folder's whole path.") from None


def _change(action: str, subject: str, set_: list[str] | None, params: Path, runs: Path) -> None:
    from fade.errors import UsageError

    if not subject:
        example = "fade-panda" if action == ADOPT else "keys/team.pub"
        what = f"fade keys {action} needs a second argument."
        raise UsageError(what, stage="sign", action=f"write fade keys {action} {example}.")
    team = trust(params, set_, runs)
    from tasks.registry import adopt as registry
    from tasks.registry.connection import connect

    tracking = connect(runs)
    if action == ADOPT:
        done = registry.adopt(tracking, subject, runs, team)
        print_line(
            f"{done['name']}: {done['signed']} entries signed, {done['registered']} version(s) registered"
        )
        return
    change = registry.rotate if action == ROTATE else registry.revoke_key
    done = change(tracking, team, Path(subject))
    print_line(f"keyring     {done['keyring']} ({done['active']} active, {done['closed']} closed)")
    print_note("Set signing.public_key to the keyring, and commit it.")
