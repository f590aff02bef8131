"""The command line: parses and prints, nothing else. Heavy imports happen inside the commands."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    from fade.config import Params

app = typer.Typer(
    name="fade",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Erase concepts from text-to-image diffusion models, and prove that the neighbours survived.",
    epilog='Example: fade run --target "panda"',
)

Target = Annotated[str, typer.Option("--target", "-t", help="The concept to erase, a name of the data set's vocabulary.")]
Targets = Annotated[
    list[str] | None, typer.Option("--target", "-t", help="The concept to erase (panda); several times: erased together, in one training.")
]
Set = Annotated[list[str] | None, typer.Option("--set", "-s", help="Override a parameter: train.steps=200. Recorded in the lineage.")]
ParamsFile = Annotated[Path, typer.Option("--params", help="The parameter file.")]
Runs = Annotated[Path, typer.Option("--runs-dir", envvar="FADE_RUNS_DIR", help="Everything that a run writes lies below it.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the tools' own logs.")]


def main() -> NoReturn:
    """Run the command line. Exit codes: 0, 1 (the job failed), 2 (bad usage or config)."""
    import signal

    from fade.errors import FadeError

    # A scheduler stops a job by TERM: end as Ctrl-C does, with the workers and the embedded server.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False) or 0
        if code == 128 + signal.SIGINT:  # typer's own answer to Ctrl-C
            raise KeyboardInterrupt
    except FadeError as error:
        _say(f"[bold red]error[/] {_escape(str(error))}")
        code = error.exit_code
    except KeyboardInterrupt:
        _say("[bold red]stopped[/] What was made so far is kept; the same command continues.")
        code = 1
    except OSError as error:
        code = _disk(error)
    except Exception as error:
        code = _usage(error)
    sys.exit(code)


def _usage(error: Exception) -> int:
    """Bad usage in the parser's own words; anything else is a fault of ours and is shown whole."""
    if type(error).__name__ in ("Abort",):
        _say("[bold red]stopped[/] What was made so far is kept; the same command continues.")
        return 1
    if not hasattr(error, "format_message"):
        raise error
    context = getattr(error, "ctx", None)
    hint = f" Next: see `{context.command_path} --help`." if context else ""
    _say(f"[bold red]error[/] {_escape(error.format_message())}{hint}")
    return 2


def _disk(error: OSError) -> int:
    """A full or unwritable disk that no stage had words for; anything else is a fault of ours and is shown whole."""
    from fade.files import UNWRITABLE, storage_error

    if error.errno not in UNWRITABLE:
        raise error
    _say(f"[bold red]error[/] {_escape(str(storage_error(error, Path(str(error.filename or '.')))))}")
    return 1


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _say(text: str) -> None:
    from rich.console import Console

    Console(stderr=True, highlight=False, soft_wrap=True).print(text)


def _params(path: Path, overrides: list[str] | None, **named: Any) -> tuple[Params, list[str]]:
    """The parameters, and every override in the form that the lineage records."""
    from fade.settings import method_overrides, resolve

    chosen = method_overrides(named.pop("method", None))
    if named.pop("style", False):
        chosen = [*resolve(path).styles.settings, *chosen]
    asked = [*chosen, *(f"{key.replace('__', '.')}={value}" for key, value in named.items() if value is not None), *(overrides or [])]
    return resolve(path, asked), asked


def _styled(style: str | None, target: list[str] | None) -> bool:
    """Whether a style is to be erased. Raises UsageError when a concept is named, too."""
    from fade.errors import UsageError

    if style is not None and target:
        raise UsageError("--style and --target are both given.", stage="config", action="erase one of them, then compose the two.")
    return style is not None


def _prepare(params: Params, runs: Path, root: Path, verbose: bool = False) -> None:
    from flows.runtime import prepare

    models = (params.data.base, params.data.clip, params.data.judge)
    hub = any(not (root / m).exists() and m.count("/") == 1 and not m.startswith(("data/", ".", "/")) for m in models)
    prepare(runs, verbose=verbose, hub=hub)


@contextmanager
def _bars(quiet: bool) -> Iterator[None]:
    """One bar a stage on the terminal's error stream; lines where that is a file; nothing with --json."""
    if quiet:
        yield
        return
    from rich.console import Console

    from fade import progress

    console = Console(stderr=True)
    if not console.is_terminal:
        with progress.listening(progress.lines(sys.stderr)):
            yield
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Column

    columns = (
        TextColumn("{task.description}", table_column=Column(min_width=11)),
        BarColumn(bar_width=16, table_column=Column(min_width=16)),
        MofNCompleteColumn(table_column=Column(min_width=9)),
        TimeElapsedColumn(table_column=Column(min_width=7)),
        TextColumn("[dim]{task.fields[text]}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
    )
    with Progress(*columns, console=console, expand=True) as bars:  # in 80 columns the text gives way, not the numbers
        known: dict[str, Any] = {}

        def listen(stage: str, done: int, total: int, text: str) -> None:
            if stage not in known:
                for earlier in known.values():
                    bars.stop_task(earlier)
                known[stage] = bars.add_task(stage, total=None, text="")
            bars.update(known[stage], completed=done, total=total or None, text=text)

        with progress.listening(listen):
            yield


@app.command(epilog='Example: fade run --target "panda" --target "lemon" --set train.steps=200')
def run(
    target: Targets = None,
    style: Annotated[str | None, typer.Option(help="Erase a style (noto) instead; --replacement then names another.")] = None,
    method: Annotated[str | None, typer.Option(help="NAME or NAME/VARIANT of the erasing method, see `fade methods`.")] = None,
    replacement: Annotated[str | None, typer.Option(help="The concept that takes the target's place (surgical).")] = None,
    anchors: Annotated[str | None, typer.Option(help="neighbourhood: give a method without neighbours FADE's.")] = None,
    seed: Annotated[int | None, typer.Option(help="The training's seed.")] = None,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """The main job: pull, validate, mine, train, evaluate, register."""
    named = {"method__replacement": replacement, "method__anchors": anchors, "train__seed": seed}
    settings, asked = _params(params, set_, method=method, style=_styled(style, target), **named)
    _prepare(settings, runs_dir, params.parent, verbose)
    from flows import runtime

    runtime.start_ahead()
    from flows.erase import erase

    with _bars(as_json):
        values = settings.model_dump(mode="json", by_alias=True)
        where = {"runs": str(runs_dir), "root": str(params.parent), "params_file": str(params)}
        result = runtime.run(erase, target=[style] if style else target or ["panda"], params=values, overrides=asked, **where)
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        _show_result(result)


def _show_metrics(result: dict[str, Any], title: str) -> None:
    from rich.console import Console
    from rich.table import Table

    metrics, base, spread = result["metrics"], result["base_metrics"], result["intervals"]
    table = Table(title=title)
    for column, justify in (("", "left"), ("original", "right"), ("erased", "right"), ("95 % interval", "right"), ("pictures", "right")):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    rows = (
        ("target recognised", base["A_tar"], 100 - metrics["A_er"], [100 - spread["A_er"][1], 100 - spread["A_er"][0]], "target"),
        ("neighbours", base["A_adj"], metrics["A_adj"], spread["A_adj"], "adjacent"),
        ("held-out neighbours", base["A_heldout"], metrics["A_heldout"], spread["A_heldout"], "heldout"),
        ("rest", base["A_rest"], metrics["A_rest"], spread["A_rest"], "rest"),
    )
    for name, before, after, interval, role in rows:
        if before is None or after is None:  # a group without concepts: k_heldout or rest_concepts is 0
            table.add_row(name, "-", "-", "-", "0")
            continue
        table.add_row(name, f"{before:.1f} %", f"{after:.1f} %", f"{interval[0]:.1f} - {interval[1]:.1f}", str(result["n"][role]))
    table.add_section()
    table.add_row("ERB", "", f"[bold]{metrics['ERB']:.1f}[/]", f"{spread['ERB'][0]:.1f} - {spread['ERB'][1]:.1f}", "")
    Console().print(table)


def _show_result(result: dict[str, Any]) -> None:
    from rich.console import Console

    out = Console()
    _show_metrics(result, f"{result['target']} erased by {result['method']}/{result['variant']}, seed {result['seed']}")
    out.print(f"neighbours  {', '.join(result['neighbours'])}\nheld out    {', '.join(result['heldout'])}", soft_wrap=True)
    seconds = result["seconds"]
    out.print("seconds     " + ", ".join(f"{name} {value:.1f}" for name, value in seconds.items()), soft_wrap=True)
    computing = ", ".join(f"{name} {value:.1f}" for name, value in result["computing_seconds"].items())
    out.print(f"            {sum(result['computing_seconds'].values()):.1f} of them computing: {computing}", soft_wrap=True)
    if result["warnings"]:
        out.print(f"[yellow]warnings[/]    {', '.join(result['warnings'])}")
    out.print(f"registered  {result['model_name']} version {result['model_version']}\nreport      {result['report']}", soft_wrap=True)


@app.command(epilog='Example: fade mine --target "tulip" --json')
def mine(
    target: Target,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """The target's Concept Neighborhood: its nearest concepts by the pictures that the model makes."""
    settings, _ = _params(params, set_)
    _prepare(settings, runs_dir, params.parent)
    from fade.workshop import Workshop
    from tasks.mine import mine as mine_neighbourhood

    with _bars(as_json):
        hood = mine_neighbourhood(Workshop(settings, target, runs_dir, params.parent))
    if as_json:
        print(json.dumps(hood.to_json(), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"neighbourhood of {target}")
    for column in ("concept", "cosine", "role"):
        table.add_column(column)
    roles = {**dict.fromkeys(hood.neighbours, "neighbour"), **dict.fromkeys(hood.heldout, "held out")}
    for name in [*hood.neighbours, *hood.heldout]:
        table.add_row(name, f"{hood.similarities[name]:.3f}", roles[name])
    Console().print(table)


@app.command(epilog='Example: fade generate "a panda" --model base -n 8 --out grid.png')
def generate(
    prompt: Annotated[str, typer.Argument(help="What to draw.")],
    model: Annotated[str, typer.Option(help="base, NAME/VERSION or NAME of a registered model, or an adapter file.")] = "base",
    n: Annotated[int, typer.Option("-n", min=1, max=1024, help="Pictures.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of the first picture.")] = 0,
    out: Annotated[Path, typer.Option(help="The PNG file.")] = Path("grid.png"),
    gate: Annotated[bool, typer.Option("--gate", help="Let the adapter act as much as the prompt means its concept (spm).")] = False,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
) -> None:
    """Draw a grid of pictures with the original model or with an erased one."""
    settings, _ = _params(params, set_)
    _prepare(settings, runs_dir, params.parent)
    from fade.workshop import Workshop
    from tasks.generate import generate as draw

    with _bars(False):
        drawn = draw(Workshop(settings, "", runs_dir, params.parent), prompt, model, n, seed, out, gate=gate)
    if gate:
        _say(f"gated: the adapter acts at {drawn.gate:.2f} of its strength; who has the weights can leave the gate out.")
    print(drawn.path)


@app.command(epilog="Example: fade purify data/emoji/noto/panda.png --model fade-panda/1")
def purify(
    picture: Annotated[Path, typer.Argument(help="The picture to purify: PNG, JPEG or WebP.")],
    model: Annotated[str, typer.Option(help="NAME/VERSION or NAME of a registered model, or an adapter file.")],
    concept: Annotated[str | None, typer.Option(help="What to take out; without it, what the adapter erased.")] = None,
    out: Annotated[Path, typer.Option(help="The PNG file: input, control and purified side by side.")] = Path("purified.png"),
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Invert a real picture and draw it again with an erased model, beside the round trip of the original model."""
    settings, _ = _params(params, set_)
    _prepare(settings, runs_dir, params.parent)
    from fade.workshop import Workshop
    from tasks.purify import purify as wash

    with _bars(as_json):
        found = wash(Workshop(settings, "", runs_dir, params.parent), picture, model, concept, out)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{found['concept']} in {picture.name}")
    for column in ("", f"probability of {found['concept']}", "judged to be", "SSIM to the input"):
        table.add_column(column)
    for name in ("input", "control", "purified"):
        row = found[name]
        table.add_row(name, f"{row['probability']:.3f}", row["top1"], f"{row['ssim']:.3f}")
    Console().print(table)
    print(found["out"])


@app.command(epilog="Example: fade nudity i2p.csv --model fade-nudity/1 --limit 100")
def nudity(
    prompts: Annotated[Path, typer.Argument(help="A text file with a prompt a line, or a CSV as I2P's (prompt, sd_seed).")],
    model: Annotated[str, typer.Option(help="NAME/VERSION or NAME of a registered model, or an adapter file.")],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many prompts.")] = None,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Count nudity in what prompts bring out of the original model and of an erased one (the extra `nudity`)."""
    settings, _ = _params(params, set_)
    _prepare(settings, runs_dir, params.parent)
    from fade.workshop import Workshop
    from tasks.nudity import nudity as count

    with _bars(as_json):
        found = count(Workshop(settings, "", runs_dir, params.parent), prompts, model, limit)
    if as_json:
        print(json.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    first = found["base"]
    said = f"{first['detector']} {first['version']}, threshold {first['threshold']:g}"
    table = Table(title=f"{prompts.name}, n = {first['n']}", caption=said)
    for column in ("", "original", "erased"):
        table.add_column(column, justify="right" if column else "left")
    for name in ("pictures", "total"):
        table.add_row(
            {"pictures": "pictures with any", "total": "detections"}[name], *(str(found[arm][name]) for arm in ("base", "erased"))
        )
    for label in first["labels"]:
        table.add_row(label.replace("_", " ").lower(), *(str(found[arm]["counts"][label]) for arm in ("base", "erased")))
    Console().print(table)


@app.command(epilog="Example: fade compose fade-panda/1 fade-lemon/1 --out both.safetensors")
def compose(
    models: Annotated[list[str], typer.Argument(help="Registered versions, adapter files or folders of runs; two or more.")],
    out: Annotated[Path, typer.Option(help="The composed adapter; its evaluation lies beside it.")] = Path("composed.safetensors"),
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
) -> None:
    """Add up adapters that were trained apart, and judge the sum: each concept gone, each neighbour still there."""
    settings, _ = _params(params, set_)
    _prepare(settings, runs_dir, params.parent)
    from tasks.compose import compose as add_up

    with _bars(as_json):
        result = add_up(settings, models, out, runs_dir, params.parent)
    if as_json:
        print(json.dumps(result, indent=2))
        return
    _show_metrics(result, f"{result['target']}: {len(models)} adapters composed")
    print(result["adapter"])


@app.command(epilog="Example: fade pull")
def pull(
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    set_: Set = None,
    force: Annotated[bool, typer.Option("--force", help="Set files aside that were changed here, instead of refusing.")] = False,
) -> None:
    """Fetch the data set, the base and the judge; every file is rehashed."""
    settings, _ = _params(params, set_)
    _prepare(settings, runs_dir, params.parent)
    from tasks.pull import pull as fetch

    done = fetch(settings.data, params.parent, runs_dir, force=force)
    print(f"{done.path}: {done.nfiles} files, {done.size / 1e6:.1f} MB, md5 {done.md5}")


@app.command(epilog="Example: fade register runs/erase/panda/0123456789ab")
def register(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run whose registration failed.")],
    runs_dir: Annotated[
        Path | None, typer.Option("--runs-dir", envvar="FADE_RUNS_DIR", help="Another runs folder than the run's own.")
    ] = None,
) -> None:
    """Register a run that could not reach the registry when it ended."""
    from flows.runtime import prepare

    prepare(runs_dir or run_dir.resolve().parents[2])  # RUNS/erase/TARGET/KEY
    from tasks.register import register_pending

    done = register_pending(run_dir, runs=runs_dir)
    print(f"{done.name} version {done.version}")


@app.command(epilog="Example: fade methods")
def methods() -> None:
    """The erasing methods and their variants."""
    from fade.methods import get_method, known_methods

    for name, variants in known_methods().items():
        for variant in variants:
            found = get_method(name, variant)
            print(f"{name}/{variant}: {found.source}")
            if found.settings:
                print(f"  trains by default: {' '.join(f'--set {item}' for item in found.settings)}")
            if found.recipe:
                print(f"  its own settings: {' '.join(f'--set {item}' for item in found.recipe)}")


@app.command(epilog="Example: fade bench --quick")
def bench(
    quick: Annotated[bool, typer.Option("--quick", help="One target, one seed, one variant a method.")] = False,
    tune: Annotated[bool, typer.Option("--tune", help="Choose every method's settings on the tuning targets instead.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="The outputs from the kept cells; nothing is measured.")] = False,
    methods: Annotated[str, typer.Option(help="NAME/VARIANT, NAME/VARIANT + neighbours, ...")] = "",
    targets: Annotated[str, typer.Option(help="Concepts, by comma.")] = "",
    seeds: Annotated[str, typer.Option(help="The training's seeds, by comma.")] = "",
    home: Annotated[Path, typer.Option(help="Where finished cells and tuned settings are kept.")] = Path("bench"),
    out: Annotated[Path | None, typer.Option(help="Folder of the outputs [bench/record; RUNS/bench/report of a part].")] = None,
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Methods side by side: methods x targets x seeds. Finished cells are kept; stopped, the same command goes on."""
    settings, asked = _params(params, set_)
    _prepare(settings, runs_dir, params.parent, verbose)
    from fade.benchmark.plan import narrowed
    from flows import benchmark as flows
    from flows import runtime

    narrow = narrowed(bench=settings.bench, quick=quick, methods=methods, targets=targets, seeds=seeds)
    _params(params, [*asked, *narrow])  # a wrong choice fails before a server starts
    where = out or (runs_dir / "bench" / "report" if narrow else home / "record")
    said = flows.reproduce(quick=quick, tune=tune, methods=methods, targets=targets, seeds=seeds, overrides=asked, params=params, home=home)
    wish = flows.Asked(params, runs_dir, home, tuple(asked), tuple(narrow), where, said)
    with _bars(as_json):
        result = flows.report(wish) if report_only else runtime.run(flows.tune if tune else flows.benchmark, asked=wish)
    if as_json:
        print(json.dumps(result, indent=2))
    elif tune:
        _show_rows(f"settings kept in {wish.tuned}", ["method", "score", "setting"], flows.chosen_rows(result))
    else:
        _show_bench(result, where)


def _show_bench(summary: dict[str, Any], where: Path) -> None:
    from fade.benchmark.tables import main_table

    if summary["arms"]:
        table = main_table(summary)
        _show_rows(table.title, table.head, table.rows, table.note.replace("Bold", "In **"))
    missing = summary["cells"]["missing"]
    for cell in missing[:20]:
        _say(f"missing     {_escape(cell['arm'])}, {_escape(cell['target'])}, seed {cell['seed']}: {_escape(cell['why'])}")
    if len(missing) > 20:
        _say(f"            and {len(missing) - 20} more, see the report")
    print(f"report      {where / 'benchmark.html'}")


def _show_rows(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], note: str | None = None) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, caption=note and _escape(note))
    for i, name in enumerate(head):  # in 80 columns the heads give way, not the numbers
        widest = max((len(word) for row in rows for word in row[i].split()), default=0)
        table.add_column(name, justify="right" if i else "left", overflow="fold", min_width=widest)
    for row in rows:
        table.add_row(*map(_escape, row))
    Console().print(table)


@app.command(epilog="Example: fade pretrain --set pretrain.unet.steps=6000")
def pretrain(
    set_: Set = None,
    params: ParamsFile = Path("params.yaml"),
    runs_dir: Runs = Path("runs"),
    publish: Annotated[bool, typer.Option(help="Track the result with DVC and push it to the embedded remote.")] = False,
) -> None:
    """Rebuild the embedded world: drawings, CLIP, autoencoder, UNet, judge. Resumes where it was stopped."""
    settings, _ = _params(params, set_)
    _prepare(settings, runs_dir, params.parent)
    from flows import runtime
    from flows.pretrain import pretrain as build

    with _bars(False):
        values = settings.model_dump(mode="json", by_alias=True)
        result = runtime.run(build, params=values, runs=str(runs_dir), root=str(params.parent), publish=publish)
    print(json.dumps(result, indent=2))
    if not publish:
        _say("data/ is the new world, but data.dvc still names the old one: publish it with [bold]fade pretrain --publish[/].")


@app.command(epilog="Example: fade doctor")
def doctor(params: ParamsFile = Path("params.yaml"), runs_dir: Runs = Path("runs")) -> None:
    """Is this machine ready? Python, libraries, data, models, folders, servers; what to do where it is not."""
    from rich.console import Console

    from flows.doctor import examine

    out, ready = Console(), True
    for finding in examine(params, runs_dir):
        ready &= finding.ok
        out.print(f"[{'green' if finding.ok else 'bold red'}]{'ok  ' if finding.ok else 'FAIL'}[/] {finding.name}: {_escape(finding.text)}")
    if not ready:
        raise typer.Exit(1)


if __name__ == "__main__":
    main()
