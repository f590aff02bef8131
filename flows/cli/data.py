"""Data sets of other people, and of one's own: import, check, list, name."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from flows.cli.app import app
from flows.cli.options import PARAMS, RUNS, By, Json, ParamsFile, Runs, Set, opened
from flows.cli.output import emit, show_words
from flows.cli.screen import bars, escape, print_line, print_note

data = typer.Typer(
    no_args_is_help=True, help="Import a data set, or your own pictures, and check what is here."
)
app.add_typer(
    data, name="data", epilog="Example: fade data import dogs ~/stanford-dogs --accept imagenet-terms"
)


class SetName(enum.StrEnum):
    """Data sets that can be imported."""

    DOGS = "dogs"
    FLOWERS = "flowers"
    CUB = "cub"
    IMAGENETTE = "imagenette"
    IMAGENET = "imagenet"
    FOLDER = "folder"
    I2P = "i2p"


SETS = Path("sets")
SHOWN = 10
"""Pictures that were left out, on the screen."""


@data.command(
    "import",
    epilog="Example: fade data import folder ~/pictures --licence CC0-1.0 --split seed:0,0.8    "
    "or: fade data import dogs ~/stanford-dogs --accept imagenet-terms",
)
def import_set(
    set_name: Annotated[
        SetName, Argument(metavar="SET", help="Which data set it is; folder: your own pictures.")
    ],
    path: Annotated[
        Path,
        Argument(
            help="Its archive, the folder of its archives, an extracted copy, or a hub's parquet files."
        ),
    ],
    out: Path | None = Option(None, help="Where it goes (default: sets/SET); it must not exist yet."),
    split: str = Option(
        "", help="Of a copy without a split: seed:0,0.8 draws one, the share of each class that trains."
    ),
    per_class: int | None = Option(
        None, min=2, help="Pictures of a class and split (default: all; imagenet: 50)."
    ),
    size: int | None = Option(
        None, min=64, help="Shrink pictures whose shorter side is longer to it, pixels."
    ),
    names: str = Option(
        "as-prompted", help="as-prompted (as the papers have it), spoken, or a CSV file: label,concept."
    ),
    licence: str = Option("", help="Of your own pictures: an SPDX id such as CC0-1.0, or LicenseRef-NAME."),
    skip: list[str] | None = Option(None, help="A class that is left out; may be repeated."),
    partial: bool = Option(False, "--partial", help="Pictures that the set's own lists name may be missing."),
    category: str = Option("", help="i2p: one of its seven categories alone."),
    nude: bool = Option(False, "--nude", help="i2p: only prompts with a nudity above 0 percent."),
    lenient: bool = Option(False, "--lenient", help="i2p: leave out rows without a prompt, and record them."),
    accept: str = Option("", help="Name of the set's terms, which you have read and accept."),
    by: By = "",
    workers: int | None = Option(None, min=1, help="Processes that convert pictures (default: one a core)."),
    dry_run: bool = Option(False, "--dry-run", help="Recognise and count; write nothing."),
    as_json: Json = False,
) -> None:
    """Import a data set: recognise the copy, convert what no model reads, write manifest, names and record.

    A killed import resumes. Nothing half-imported is ever in place: the folder appears when it is whole."""
    if set_name is SetName.I2P:
        _import_prompts(path, out or SETS / "i2p", category, as_json, nude=nude, lenient=lenient)
        return
    import getpass

    from fade.data.importers.class_names import NAMINGS
    from fade.data.importers.importing import import_pictures
    from fade.data.importers.options import ImportOptions, Split
    from fade.data.importers.plan import plan_import
    from fade.data.importers.records import accept_terms, require_licence
    from fade.data.importers.sets import picture_set

    owner = picture_set(set_name.value)
    naming, table = (names, None) if names in NAMINGS else ("as-prompted", Path(names))
    random_split = Split.parse(split) if split else None
    options = ImportOptions(random_split, per_class, size, naming, table, licence, skip or (), partial)
    require_licence(owner, options)
    accepted = accept_terms(owner, accept, by or getpass.getuser()) if not dry_run else None
    target = out or SETS / set_name.value
    with bars(as_json):
        plan = plan_import(owner, path, options)
    if dry_run:
        emit(plan.summary(), as_json, _show_plan)
        return
    if not as_json:
        _show_plan(plan.summary())
    with bars(as_json):
        record = import_pictures(plan, path, target, accepted, workers)
    emit({**record, "out": str(target)}, as_json, _show_import)


def _import_prompts(
    file: Path, out: Path, category: str, as_json: bool, *, nude: bool, lenient: bool
) -> None:
    """I2P is a table of prompts, not of pictures."""
    from fade.data.importers.i2p import I2POptions, import_i2p

    record = import_i2p(file, out, I2POptions(category, nude, lenient=lenient))
    emit({**record, "out": str(out)}, as_json, _show_prompts)


def _show_prompts(record: dict[str, Any]) -> None:
    rows = record["rows"]
    print_line(f"recognised  I2P, {record['layout']} table, {rows['table']:,} rows")
    print_line(
        f"imported    {record['out']}/prompts.csv: {rows['written']:,} prompts, {record['nude']:,} nude"
    )
    for one in record["left_out"][:SHOWN]:
        print_line(f"left out    row {one['row']}: {one['why']}")


def _show_plan(summary: dict[str, Any]) -> None:
    print_line(f"recognised  {summary['layout']}")
    for lack in summary["lacks"]:
        print_line(f"lacks       {lack}")
    for note in summary["notes"]:
        print_line(f"note        {note}")
    counts = ", ".join(f"{split} {count:,}" for split, count in summary["counts"].items())
    print_line(f"pictures    {counts} of {summary['classes']:,} classes, {summary['bytes'] / 1e6:,.1f} MB")


def _show_import(record: dict[str, Any]) -> None:
    unofficial = [one["name"] for one in record["archives"] if one["official"] == "no"]
    if unofficial and record["official_counts"]:
        print_line(f"warning     not the official files: {', '.join(unofficial)}")
    kept = ", ".join(f"{split} {count:,}" for split, count in record["kept"].items())
    print_line(f"imported    {record['out']}: {kept}")
    for change, count in record["changed"].items():
        print_line(f"converted   {count:,} ({change})")
    left_out = record["left_out"]
    for name, why in list(left_out.items())[:SHOWN]:
        print_line(f"left out    {name}: {why}")
    if len(left_out) > SHOWN:
        print_line(f"left out    {len(left_out) - SHOWN:,} more, in {record['out']}/import.json")
    print_note(f"Next: fade data check {escape(record['out'])}")


@data.command("list", epilog="Example: fade data list --json")
def list_sets(
    home: Path = Option(SETS, "--in", help="Folder in which imported sets lie."), as_json: Json = False
) -> None:
    """The data sets that can be imported, and those that are here."""
    from fade.data.importers.sets import overview

    emit(overview(home), as_json, _show_sets)


def _show_sets(rows: list[dict[str, Any]]) -> None:
    head = ["set", "title", "classes", "pictures", "licence", "accept", "here"]
    table = [
        [
            *(row["set"], row["title"], f"{row['classes'] or '-'}", f"{row['pictures'] or '-'}"),
            *(row["licence"] or "yours", row["terms"] or "-", ", ".join(row["here"]) or "-"),
        ]
        for row in rows
    ]
    show_words("data sets", head, table)


@data.command(epilog="Example: fade data names dogs    or: fade data names imagenet --find crane")
def names(
    set_name: Annotated[SetName, Argument(metavar="SET", help="Which data set.")],
    find: str = Option("", help="Only classes whose names hold this text."),
    as_json: Json = False,
) -> None:
    """The classes of a data set: as the papers prompt them, as a person would call them, and their
    families."""
    from dataclasses import asdict

    from fade.data.importers.class_names import class_names
    from fade.errors import UsageError

    if set_name in (SetName.FOLDER, SetName.I2P):
        what, action = (
            "your own pictures have the names of their folders, I2P has prompts.",
            "name another set.",
        )
        raise UsageError(what, stage="import", action=action)
    rows = [asdict(one) for one in class_names(set_name.value)]
    matching = [row for row in rows if find.casefold() in " ".join(map(str, row.values())).casefold()]
    emit(matching, as_json, lambda found: _show_names(set_name.value, found))


def _show_names(set_name: str, rows: list[dict[str, Any]]) -> None:
    head = ["concept", "spoken", "family", "label", "synonyms"]
    table = [[*(row[key] for key in head[:-1]), ", ".join(row["synonyms"])] for row in rows]
    show_words(f"{set_name}: {len(rows)} classes", head, table)


@data.command(epilog="Example: fade data check sets/dogs")
def check(
    folder: Annotated[Path, Argument(help="Folder of a data set, with its manifest.csv.")],
    params: ParamsFile = PARAMS,
    set_: Set = None,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Compare a data set with its manifest, its import record and the team's reference, and run the data
    checks that every run makes; writes a page."""
    settings = opened(params, set_, runs_dir)
    from tasks.data.check_set import check_set

    with bars(as_json):
        result = check_set(folder, settings.checks, runs_dir)
    emit(result, as_json, _show_check)
    if not result["success"]:
        raise typer.Exit(1)


def _show_check(result: dict[str, Any]) -> None:
    for name, text in result["findings"].items():
        print_line(f"{name:<12}{text}")
    print_line(f"page        {result['page']}")


@data.command(epilog="Example: fade data track sets/pets    or: fade data track sets/pets --push")
def track(
    folder: Annotated[Path, Argument(help="Folder of an imported data set.")],
    dvc: bool = Option(
        False, "--dvc", help="Track the pictures with DVC although they may not be passed on."
    ),
    push: bool = Option(False, "--push", help="Push them to the section data's remote."),
    params: ParamsFile = PARAMS,
    set_: Set = None,
    runs_dir: Runs = RUNS,
    as_json: Json = False,
) -> None:
    """Make a data set the team's: a .dvc file of its own, or, for pictures that may not be passed on, a
    reference by hashes with which each member's own import is compared."""
    settings = opened(params, set_, runs_dir)
    from tasks.data.track import track_set

    with bars(as_json):
        result = track_set(folder, settings.data, params.parent, runs_dir, dvc=dvc, push=push)
    emit(result, as_json, lambda one: print_line(f"commit      {', '.join(one['commit'])}", one["note"]))
