"""Write docs/results.md from bench/results, every table with its command, and the README's picture from the
newest run of panda.

python bench/tables.py
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import devices
import numpy as np
import overview
import pages
from PIL import Image
from targets import DRAWN

from fade.data.dvcfile import read_dvc_file
from fade.evaluation.attacks.run import CONDITIONS
from fade.evaluation.err import balances
from fade.run.resolve_params import load_params
from fade.utils.text import markdown_table

PAGE = Path("docs/results.md")
DAYS_PAGE, DAYS = Path("docs/measurements.md"), ("speed", "speed-run", "spin", "speed-fade")
"""The page of what single days took, and the parts of it that are written here, as a block."""
COMMAND = "python bench/tables.py"
OF_THE_DEFAULT = ("world", "targets", "targets-fade", "tuning", "esd")
"""Parts whose command names no world: they are of the one that was the default on their day."""
FIRST_DATA = "ddb5b6eddb537a6243ba19681faacea9.dir"
"""Md5 of the data of records that do not name theirs: all of them are of the first world."""
README, BENCHMARK_PAGE = Path("README.md"), Path("docs/benchmark.md")
SPACES_METRICS = ("A_er", "A_adj", "A_heldout", "ERB")
GOALS = {"A_er": 97.0, "A_adj": 96.0, "A_heldout": 96.0, "A_rest": 98.0, "ERB": 96.0}
"""What was asked of every target: A_er and ERB absolute, the others in percent of the original model's."""


def load(name: str) -> Any:
    """A result, or None when it has not been measured."""
    path = pages.RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Markdown, a blank line after it; the first column is text, the others numbers."""
    return [*markdown_table(head, rows), ""]


def share(row: dict[str, Any], key: str) -> float:
    """A metric as the goals count it."""
    value = float(row["metrics"][key])
    return value if key in ("A_er", "ERB") else 100 * value / row["base_metrics"][key]


def targets(result: dict[str, Any]) -> list[str]:
    """One row a target by the default method; what misses its goal is bold."""
    first = result["rows"][0]
    return [
        (
            f"By `{first['method']}/{first['variant']}`, the default ([methods](methods.md#nullspace)), "
            f"seed {first['seed']}, "
            f"{first['n']['per_concept']} pictures a concept, `params.yaml` unchanged between targets; the "
            "settings were chosen on others ([benchmark](benchmark.md#tuning), [not kept](not-kept.md)). "
            "Accuracies: original -> erased (share kept); **bold** misses its goal."
        ),
        "",
        *against_goals(result["rows"]),
        "`python bench/targets.py --out bench/results/targets.json`",
        "",
    ]


def targets_fade(result: dict[str, Any]) -> list[str]:
    """The same targets by FADE."""
    overrides = " ".join(f"--set {item}" for item in result["overrides"])
    return [
        (
            "The same by `fade/paper` under its settings in `params.yaml` (how they were chosen is below), "
            "on "
            "another day."
        ),
        "",
        *against_goals(result["rows"]),
        f"`python bench/targets.py {overrides} --out bench/results/targets-fade.json`",
        "",
    ]


def is_drawn(row: dict[str, Any]) -> bool:
    """Whether the base draws a target, and its neighbours, well enough to begin with."""
    return all(row["base_metrics"][key] >= least for key, least in DRAWN.items())


def share_of_goals(rows: list[dict[str, Any]]) -> dict[str, int]:
    """How many targets are well drawn, meet every goal, and miss one."""
    drawn = [row for row in rows if is_drawn(row)]
    met = sum(all(share(row, key) >= goal for key, goal in GOALS.items()) for row in drawn)
    return {"drawn": len(drawn), "met": met, "missed": len(drawn) - met}


def against_goals(rows: list[dict[str, Any]]) -> list[str]:
    """The tables of some targets, how many meet each goal, and apart what the base draws too badly to say."""
    strong = [row for row in rows if is_drawn(row)]
    weak = [row for row in rows if row not in strong]
    least = " and ".join(f"{key} >= {value:g} %" for key, value in DRAWN.items())
    met = {key: sum(share(row, key) >= goal for row in strong) for key, goal in GOALS.items()}
    every = share_of_goals(strong)["met"]
    out = [
        *outcomes(strong),
        "Goals: A_er >= 97, A_adj and A_heldout >= 96 % and A_rest >= 98 % of the original's, ERB >= 96. "
        f"Met by (of {len(strong)}): "
        + ", ".join(f"{key} {count}" for key, count in met.items())
        + f", all of them {every}. "
        + " ".join(
            f"{title}: mean {np.mean(some):.1f}, standard deviation {np.std(some, ddof=1):.1f}, lowest "
            f"{min(some):.1f}, n {len(some)}."
            for title, name in (("ERB", "ERB"), ("ERB on held-out neighbours", "ERB_heldout"))
            if (some := [balance(row, name) for row in strong])
        ),
        "",
    ]
    if weak:
        out += [
            (
                "The base does not draw these, or their neighbours, well enough to begin with (asked: "
                f"{least}), and ERB counts A_adj itself:"
            ),
            "",
            *outcomes(weak),
        ]
    return out


def balance(row: dict[str, Any], name: str) -> float:
    """ERB or ERB_heldout of a target; rows of earlier versions have the first alone."""
    return float({**balances(row["metrics"]), **row["metrics"]}[name])


def outcomes(rows: list[dict[str, Any]]) -> list[str]:
    """The table of some targets."""
    lines = []
    for row in rows:
        cells = []
        for key, goal in GOALS.items():
            value = share(row, key)
            pair = (
                f"{value:.1f}"
                if key in ("A_er", "ERB")
                else f"{row['base_metrics'][key]:.1f} -> {row['metrics'][key]:.1f} ({value:.1f} %)"
            )
            cells.append(pair if value >= goal else f"**{pair}**")
        seconds = [f"{row['seconds'][key]:.0f}" for key in ("train", "total")]
        lines.append([row["target"], *cells, f"{balance(row, 'ERB_heldout'):.1f}", *seconds])
    head = ["target", *GOALS, "ERB, held out", "train, s", "all, s"]
    return table(head, lines)


def _second_judge(judge: dict[str, Any]) -> list[list[str]]:
    """Its row; the first world has none."""
    if "second_heldout_artist" not in judge:
        return []
    name = "second judge (EfficientNet-Lite0, taught by photographs first), top-1 on the artist held out"
    return [[name, ">= 85 %", f"{judge['second_heldout_artist']:.1f} % (n {judge['heldout_drawings']})"]]


def world(result: dict[str, Any]) -> list[str]:
    """The numbers of the embedded world, each beside what was asked of it."""
    base, judge, cosines, styles = result["base"], result["judge"], result["text_cosines"], result["styles"]
    psnr, kin, pairs, sentences = (
        result.get(key) for key in ("psnr_heldout", "neighbours", "pairs", "sentences")
    )
    best = sorted(styles["base_top1"].items(), key=lambda item: -item[1])
    states = [key for key in ("within", "across", "across_with_a_shared_word") if key in cosines["states"]]
    rows = [
        ["pictures, concepts", "reported", f"{result['pictures']}, {result['concepts']}"],
        [
            "autoencoder, PSNR on held-out drawings",
            ">= 24 dB",
            f"{psnr['mean']:.1f} dB (lowest {psnr['min']:.1f}, n {psnr['n']})",
        ],
        ["judge, top-1 on augmented real drawings", ">= 97 %", f"{judge['augmented_real']:.1f} %"],
        ["judge, top-1 on the artist held out", "reported", f"{judge['heldout_artist']:.1f} %"],
        *_second_judge(judge),
        [
            f"base, judge's top-1 on its own pictures ({base['n_per_concept']} a concept)",
            ">= 97 %",
            f"{base['mean_top1']:.1f} %",
        ],
        ["base, share of concepts with at least 85 %", ">= 90 %", f"{base['share_of_concepts_at_85']:.1f} %"],
        *(_read_rows(pairs, sentences) if pairs and sentences else []),
        ["all weights together", "<= 45 MB", f"{result['weights_mb']:.1f} MB"],
        [
            f"cosine between prompts' token states: {' / '.join(states).replace('_', ' ')} families",
            "reported",
            " / ".join(f"{cosines['states'][key]:.2f}" for key in states),
        ],
        *_kin_rows(kin),
        [
            f"judge of styles, top-1 on drawings of unseen concepts (n {styles['unseen_drawings']})",
            "reported",
            f"{styles['judge_on_unseen_concepts']:.1f} %",
        ],
        [
            (
                'base, pictures "in the A style" and "in the B style", told apart by the judge of styles '
                "(chance 50 %)"
            ),
            ">= 80 %",
            ", ".join(f"{name} {value:.1f} %" for name, value in styles["best_pair"].items()),
        ],
        [
            f"base, the style named among all {len(best)} (chance {styles['chance']:.0f} %)",
            "reported",
            ", ".join(f"{name} {value:.0f}" for name, value in best),
        ],
    ]
    weak = ", ".join(f"{name} {value:.0f}" for name, value in base["weakest"].items())
    families = ", ".join(
        f"{name} {value:.2f}"
        for name, value in sorted(cosines["families"].items(), key=lambda item: -item[1])
    )
    return [
        *table(["number", "wanted", "measured"], rows),
        f"Weakest concepts (%): {weak}.",
        "",
        f"Cosines within the families: {families}.",
        "",
        "`python bench/world.py --out bench/results/world.json --pages docs/images`",
        "",
    ]


def _read_rows(pairs: dict[str, Any], sentences: dict[str, Any]) -> list[list[str]]:
    """What the base reads beside its own prompt; earlier worlds were not asked."""
    return [
        [
            f'base, "a X and a Y": both recognised, one in each part of the picture ({pairs["n"]} pairs)',
            ">= 80 %",
            f"{pairs['both']:.0f} % (in the caption's order {pairs['in_order']:.0f})",
        ],
        [
            f"base, a name within a sentence of no training (n {sentences['n_per_sentence']} a sentence)",
            ">= 90 %",
            f"{sentences['mean']:.1f} % (lowest {min(sentences['per_sentence'].values()):.1f})",
        ],
    ]


def _kin_rows(kin: dict[str, Any]) -> list[list[str]]:
    """Whether the mined neighbours are kin; of earlier worlds sisters of a family were not counted."""
    if "nearest" not in kin:
        own = f"mined neighbours: the {kin['k']} nearest that are of the concept's own family"
        return [[own, "reported", _by_family(kin)]]
    wider = f"mined neighbours: the {kin['k']} nearest that are of the concept's own or a sister family"
    return [
        [wider, ">= 90 %", _by_family(kin["nearest"])],
        [f"the {kin['next_k']} after those", ">= 70 %", _by_family(kin["next"])],
    ]


def _by_family(share: dict[str, Any]) -> str:
    families = ", ".join(f"{name} {value:.0f}" for name, value in share["families"].items())
    return f"{share['mean']:.1f} % ({families})"


def tuning(result: dict[str, Any]) -> list[str]:
    """One row a setting: means over the tuning targets."""
    groups: dict[str, list[dict[str, Any]]] = {}
    newest = result["rows"][-1].get("clip_sha256")
    for row in result["rows"]:
        name = f"`{' '.join(row['overrides']) or 'params.yaml'}`"
        groups.setdefault(name if row.get("clip_sha256") == newest else f"{name} *", []).append(row)
    rows = [
        [
            name,
            ", ".join(r["target"] for r in some),
            *(f"{np.mean([share(r, key) for r in some]):.1f}" for key in GOALS),
        ]
        for name, some in groups.items()
    ]
    head = ["setting", "tried on", "A_er", "A_adj, % kept", "A_heldout, % kept", "A_rest, % kept", "ERB"]
    return [
        (
            "The last change (weight decay, erase weight 4) came after the first six reported targets had "
            "been "
            "measured without it (red apple"
        ),
        (
            "kept 94.2 % of its held-out neighbours then); it was chosen on the targets named in its row and "
            "the one above."
        ),
        "",
        (
            "Means over the targets that each was tried on. *: with neighbours mined by an earlier image "
            "tower "
            "(by colour first)."
        ),
        "",
        *table(head, rows),
        "`python bench/tune.py --try ... --out bench/results/tuning.json`",
        "",
    ]


def esd(result: dict[str, Any]) -> list[str]:
    """What a literal ESD-x does to the neighbours."""
    rows = [
        [
            r["target"],
            str(r["steps"]),
            f"{r['A_er']:.1f}",
            f"{r['A_adj_base']:.1f}",
            f"{r['A_adj']:.1f}",
            f"{r['lost']:.1f}",
        ]
        for r in result["rows"]
    ]
    mean = result["summary"]
    return [
        (
            f"Trained (rate {result['lr']:g}, seed {result['seed']}) until the target is gone. "
            f"Mean loss of A_adj: **{mean['mean_lost']:.1f} points** "
            f"(standard deviation {mean['spread']:.1f}, n {mean['n']})."
        ),
        "",
        *table(["target", "steps", "A_er", "A_adj, original", "A_adj, erased", "lost"], rows),
        f"`python bench/esd.py {_world(result)}--out bench/results/{_file('esd', result)}.json`",
        "",
    ]


def spaces(result: dict[str, Any]) -> list[str]:
    """A table a base: every method and weight, by what its loss compares; means over the targets."""
    out = [
        (
            "`train.loss_in` own / noise ([methods](methods.md#what-a-loss-compares-and-on-which-models)), "
            "means over the tuning targets; the weight is the knob that says how strongly a method erases, "
            "as a multiple of its value in `params.yaml`. On a base that predicts noise the two are one."
        ),
        "",
    ]
    for base in dict.fromkeys(row["base"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["base"] == base]
        arms = sorted({(row["method"], row["factor"]) for row in rows})
        lines = [_both_spaces([r for r in rows if (r["method"], r["factor"]) == arm], *arm) for arm in arms]
        targets = ", ".join(dict.fromkeys(row["target"] for row in rows))
        head = ["method", "weight", *SPACES_METRICS, "trainings that diverged"]
        out += [f"`{base}`, {targets}:", "", *table(head, lines)]
    return [*out, "`python bench/spaces.py --world NAME --out bench/results/spaces.json`", ""]


def _both_spaces(rows: list[dict[str, Any]], method: str, factor: float) -> list[str]:
    """One line: own / noise of every metric; a space that was not measured is left out."""
    found = [[row for row in rows if row["loss_in"] == space] for space in ("own", "noise")]
    of_each = [some for some in found if some]
    cells = [" / ".join(_mean_of(some, key) for some in of_each) for key in SPACES_METRICS]
    failed = " / ".join(str(sum("failed" in row for row in some)) for some in of_each)
    return [f"`{method}`", f"x {factor:g}", *cells, failed]


def _mean_of(rows: list[dict[str, Any]], key: str) -> str:
    values = [row["metrics"][key] for row in rows if "failed" not in row]
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.1f}" if known else "-"


def _world(result: dict[str, Any]) -> str:
    return f"--world {result['world']} " if result.get("world") else ""


def _file(name: str, result: dict[str, Any]) -> str:
    return f"{name}-{result['world']}" if result.get("world") else name


def text_paths(result: dict[str, Any]) -> list[str]:
    """What each text path carries, and what comes back of an erasure that left one alone."""
    cells = {tuple(key.split(" | ")): value for key, value in result["cells"].items()}
    base = {key[1]: list(value.values()) for key, value in cells.items() if key[0] == "base"}
    rows = [[view, f"{np.mean(some):.1f}", f"{min(some):.0f}"] for view, some in base.items()]
    n = f"{len(result['concepts'])} concepts, {result['images_per_concept']} pictures each"
    out = [
        f"The base of {result['family']}, {n}: the others of its text paths have the null prompt's values.",
        "",
        *table(["what has the prompt", "top-1, %", "lowest concept, %"], rows),
    ]
    erased: dict[tuple[str, str], dict[str, Any]] = {}
    for key, value in cells.items():
        if len(key) == 3:
            erased.setdefault((key[0], key[2]), {})[key[1]] = value
    if erased:
        targets = list(dict.fromkeys(target for some in erased.values() for target in some))
        only = [view for view in base if view.startswith("only ")]
        head = ["method", "left alone", "A_er", "A_adj, % kept", "whole", *only]
        rows = [["original", "", "", "", *_views([cells["original", t] for t in targets], only)]]
        for (method, left_alone), some in erased.items():
            kept = [share(value, "A_adj") for value in some.values()]
            a_er = np.mean([value["metrics"]["A_er"] for value in some.values()])
            numbers = [f"{a_er:.1f}", f"{np.mean(kept):.1f}", *_views(list(some.values()), only)]
            rows.append([f"`{method}`", left_alone, *numbers])
        out += [
            f"Erased models, means over {', '.join(targets)}. Left alone: the path that had the null",
            "prompt's values in every prompt of the training that names the target. Right: the target's",
            "top-1 (%).",
            "",
            *table(head, rows),
        ]
    file = f"bench/results/{_file('text-paths', result)}.json"
    return [*out, f"`python bench/text_paths.py {_world(result)}--out {file}`", ""]


def _views(cells: list[dict[str, Any]], only: list[str]) -> list[str]:
    return [f"{np.mean([cell['views'][view] for cell in cells]):.1f}" for view in ("whole", *only)]


def attacks(result: dict[str, Any]) -> list[str]:
    """What each attack brings back from a plain ESD model, by budget; the means over the targets."""
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for key, value in result["cells"].items():
        attack, budget, _ = key.split(" | ")
        found.setdefault((attack, int(budget)), []).append(value)
    rows = [
        [
            attack,
            f"{budget:,}",
            *(f"{np.mean([one[c] for one in some]):.0f}" for c in CONDITIONS),
            str(len(some)),
        ]
        for (attack, budget), some in found.items()
    ]
    return [
        f"`{result['method']}` of {', '.join(result['targets'])} (none is reported), one training seed,",
        f"{result['images']} pictures an attack and target (of `noised` as many a time). The budget doubles",
        "until 80 % come back; an attack that never reaches them is ineffective.",
        "",
        *table(["attack", "UNet calls", "from ESD, %", "from the base, %", "control, %", "targets"], rows),
        f"`python bench/attacks.py {_world(result)}--out bench/results/{_file('attacks', result)}.json`",
        "",
    ]


def speed(result: dict[str, Any]) -> list[str]:
    """Ratios, with their goals."""
    rows = []
    if "training" in result:
        part = result["training"]
        how = (
            f"released loop, {part['released']['n']} iterations timed, extrapolated"
            if part["released"]["extrapolated"]
            else "released loop"
        )
        ours = f"{part['ours']['seconds']:.0f} s (ERB {part['ERB']['ours']:.1f})"
        rows.append(
            [
                f"training against the {how} (another recipe, see below)",
                ours,
                (
                    f"{part['released']['seconds']:.0f} s (ERB {part['ERB']['released']:.1f}, from "
                    f"{part['ERB']['released_from']})"
                ),
                f"{part['ratio']:.0f}",
                ">= 10",
            ]
        )
    if "mining" in result:
        part = result["mining"]
        rows.append(
            [
                "mining against a pipeline call a concept, same solver and steps",
                f"{part['ours']['seconds']:.0f} s",
                f"{part['pipeline']['seconds']:.0f} s",
                f"{part['ratio']:.2f}",
                ">= 4",
            ]
        )
        rows.append(
            [
                (
                    f"mining against that call as diffusers ships it (50 steps; {part['as_shipped']['n']} "
                    "timed, extrapolated)"
                ),
                f"{part['ours']['seconds']:.0f} s",
                f"{part['as_shipped']['seconds']:.0f} s",
                f"{part['ratio_as_shipped']:.1f}",
                ">= 4",
            ]
        )
    if "memory" in result:
        part = result["memory"]
        rows.append(
            [
                "peak memory, training against generation",
                f"{part['training']['peak_mb']:.0f} MiB",
                f"{part['generation']['peak_mb']:.0f} MiB",
                f"{part['ratio']:.2f}",
                "<= 1.3",
            ]
        )
    out = table(["", "ours", "the other", "ratio", "goal"], rows) if rows else []
    if "training" in result:
        out += _unlike(result["training"])
    if "run" in result:
        head = [
            "whole `fade run`, set-up aside",
            "total (goal)",
            "pictures",
            "training steps",
            "judging",
            "all else (goal)",
        ]
        if "features" in result["run"]["first"]["computing_seconds"]:
            head.insert(3, "their features")
        runs = [
            (name, result["run"][key], goal)
            for key, name, goal in (("first", "first target", 240), ("next", "next target", 120))
        ]
        out += table(
            head,
            [
                [
                    f"{name}, {run['target']}",
                    f"{run['total']:.0f} s (<= {goal})",
                    *(f"{spent:.0f} s" for spent in run["computing_seconds"].values()),
                    f"{run['other']:.1f} s (<= 25)",
                ]
                for name, run, goal in runs
            ],
        )
    if "flops" in result:
        part = result["flops"]
        head = [
            "UNet, batch " + str(part["batch"]),
            "GFLOP/s",
            f"share of torch.mm ({part['matmul']['gflop_per_s']:.0f} GFLOP/s)",
        ]
        names = {
            "forward": "forward",
            "adapter_step": "step of an adapter",
            "full_step": "step of all weights",
        }
        out += table(
            head,
            [
                [text, f"{part[key]['gflop_per_s']:.0f}", f"{100 * part[key]['share_of_matmul']:.0f} %"]
                for key, text in names.items()
            ],
        )
    return [
        *out,
        f"{result['cores']} cores, {result['machine']}, torch {result['torch']}. `{result['command']}`",
        "",
    ]


def _unlike(part: dict[str, Any]) -> list[str]:
    """What the first row's two times do not have in common."""
    ours, released, stored = part["ours"], part["released"], part["release_on_stored_latents"]
    return [
        (
            f"Not like for like: the first row is one training each (*{part['target']}*) by two recipes that "
            f"end at two qualities. Ours ends at ERB {ours['metrics']['ERB']:.0f} after {ours['n']} steps; "
            f"of the released loop {released['n']} of {released['steps']} iterations were timed, and its "
            f"loss and settings on our stored latents ({stored['n']} steps, {stored['seconds']:.0f} s) end "
            f"at ERB {stored['metrics']['ERB']:.0f}. Mining: ours once, each call once a concept."
        ),
        "",
    ]


def speed_fade(result: dict[str, Any]) -> list[str]:
    """When FADE was the default."""
    return [
        (
            "When FADE was the default, then with adapters of rank 4; a plain matrix product was faster by "
            "what "
            "the two tables say."
        ),
        "",
        *speed(result),
    ]


def speed_run(result: dict[str, Any]) -> list[str]:
    """With the start-up of commit 1a3e30c, on another machine's day."""
    return [
        (
            "Measured with a trainer that was forked from the run and imports that were begun ahead. Both "
            "are "
            "gone:"
        ),
        (
            "they were much code for some seconds on two cores and for none on a GPU. Now a training of one "
            "process"
        ),
        "is done by the run's own, see [a run's processes](installation.md#a-runs-processes).",
        "",
        *speed(result),
    ]


def spin(result: dict[str, Any]) -> list[str]:
    """How long threads spin for each other, beside another process and alone."""
    rows = []
    for row in result["rows"]:
        count = "not set" if row["count"] is None else row["count"]
        each = [[run[work] for run in row["runs"]] for work in ("drawing", "training")]
        shown = [f"{statistics.median(one):.1f} s ({min(one):.1f} to {max(one):.1f})" for one in each]
        rows.append([count, "one" if row["busy"] else "none", *shown])
    n = len(result["rows"][0]["runs"])
    head = [
        f"`{result['variable']}`",
        "other busy processes",
        f"drawing {result['pictures']} pictures",
        f"{result['steps']} steps of {result['batch']}",
    ]
    return [
        (
            "Torch's threads wait for each other by spinning, and take a core from each other as soon as "
            "anything else runs on it. Where"
        ),
        (
            f"other work shares the cores `{result['variable']}` makes up for most of it; alone it costs a "
            "little, so it is not set by default."
        ),
        f"Medians of {n} (smallest to largest), {result['cores']} cores:",
        "",
        *table(head, rows),
        f"`{result['command']}`",
        "",
    ]


PARTS = {
    "world": ("The embedded world", world),
    "targets": ("Reported targets, one setting", targets),
    "targets-fade": ("Reported targets by FADE", targets_fade),
    "tuning": ("How FADE's setting was chosen", tuning),
    "esd": ("Does this world show the problem? A literal ESD-x on six tight targets", esd),
    "spaces": ("Losses in the network's own output and in noise", spaces),
    "esd-sdxl": ("The same ESD-x on the miniature of Stable Diffusion XL", esd),
    "esd-sd3": ("The same ESD-x on the miniature of Stable Diffusion 3", esd),
    "attacks": ("At which budget an attack is one", attacks),
    "text-paths-sdxl": ("What each text path carries: Stable Diffusion XL", text_paths),
    "text-paths-sd3": ("What each text path carries: Stable Diffusion 3", text_paths),
    "speed": ("Speed and memory", speed),
    "speed-run": ("The run again, at commit 1a3e30c", speed_run),
    "spin": ("A busy neighbour", spin),
    "speed-fade": ("The same by FADE, on a faster day", speed_fade),
}


def readme_picture() -> None:
    """The README's grid: the upper part, at half its size, of the newest grid that ``fade run --target
    panda`` has made here."""
    grids = sorted(
        Path("runs/erase/panda").glob("*/pictures/before-after.png"), key=lambda path: path.stat().st_mtime
    )
    if grids:
        with Image.open(grids[-1]) as grid:
            upper = grid.crop((0, 0, grid.width, min(grid.height, 2132))).reduce(2)
        upper.convert("RGB").quantize(256).save("docs/images/panda-before-after.png", optimize=True)


def measured_on(result: dict[str, Any]) -> list[str]:
    """A sentence on a record of other data than data.dvc names: a page may hold records of two worlds."""
    rows = result.get("rows") or [{}]
    md5s = {str(row.get("data_md5", result.get("data_md5", FIRST_DATA))) for row in rows}
    others = sorted(md5s - {read_dvc_file(pages.ROOT / "data.dvc").md5})
    if not others:
        return []
    worlds = load_params(pages.ROOT / "params.yaml").worlds
    by_md5 = {md5: name for name, world in worlds.items() for md5 in world.dvc_files.values()}
    names = " and ".join(f"`{by_md5.get(md5, md5)}`" for md5 in others)
    return [f"Measured on {names}, which is not the default ([worlds](world.md#several-worlds)).", ""]


def sections(names: Iterable[str]) -> str:
    """The parts of ``names`` that have been measured, as Markdown."""
    lines = []
    for name in names:
        title, part = PARTS[name]
        if (result := load(name)) is not None:
            origin = measured_on(result) if name in OF_THE_DEFAULT else []
            lines += [f"## {title}", "", *origin, *part(result)]
    return "\n".join(lines).rstrip()


def overview_block(record: dict[str, Any], columns: Sequence[str]) -> str:
    """The run of record's short table."""
    return "\n".join(overview.table(record, columns))


def results_page() -> str:
    """docs/results.md."""
    origin = f"Written by `{COMMAND}` from `bench/results/`; the commands below re-create those files."
    head = f"# Results\n\n{origin}"
    foot = "What single days showed: [measurements](measurements.md#speed-and-memory)."
    return f"{head}\n\n{sections(name for name in PARTS if name not in DAYS)}\n\n{foot}\n"


def blocks_of(page: Path) -> list[tuple[str, str]]:
    """The blocks of a page, (command, text)."""
    record = json.loads(pages.BENCHMARK.read_text(encoding="utf-8"))
    printed = load("clone")["run"]["printed"]
    return {
        DAYS_PAGE: [(COMMAND, sections(DAYS))],
        README: [
            ("make run", "\n".join(["```", *printed, "```"])),
            (overview.COMMAND, overview_block(record, overview.SHORT)),
        ],
        BENCHMARK_PAGE: [
            (overview.COMMAND, overview_block(record, overview.USUAL)),
            (devices.COMMAND, "\n".join(devices.table(load("devices")["rows"]))),
        ],
    }.get(page, [])


def main() -> None:
    """Every part that has been measured: results in one page, what single days took in another; and the
    numbers of all pages."""
    readme_picture()
    PAGE.write_text(results_page(), encoding="utf-8")
    for page in (README, *sorted(Path("docs").glob("*.md"))):
        pages.write(page, blocks_of(page))
        print(page)


if __name__ == "__main__":
    main()
