"""The analyses of AdvInfoNCE as sections of a page, from what their commands say as JSON."""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from itertools import product
from typing import Any

from contrarec.comparison.layout import decimal
from contrarec.report.blocks import Chart, Page, Section, Table, Text

Result = Mapping[str, Any]
Block = Text | Table | Chart

TITLES = {
    "hardness": "Hardness of the negatives",
    "false-negatives": "False negatives found",
    "geometry": "Geometry of the vectors",
    "dro": "Robust optimisation: the KL ball",
    "ablation": "Ablation",
    "intensity": "Intensity of hardness",
}


def section_of(result: Result) -> Section:
    """Return the section of one analysis.

    Args:
        result: what `contrarec analyse … --json` says.
    """
    blocks = _BLOCKS[result["analysis"]](result)
    return Section(title=TITLES[result["analysis"]], blocks=[*blocks, _definitions(result)])


def page_of(result: Result, command: str) -> Page:
    """Return a page with one analysis.

    Args:
        result: what `contrarec analyse … --json` says.
        command: the command that gave it.
    """
    names = ("contrarec", "torch", "numpy")
    return Page(
        title=f"{TITLES[result['analysis']]}: {result['data']}",
        summary=summary_of(result),
        sections=[section_of(result)],
        commands=[command],
        versions={name: version(name) for name in names},
    )


def summary_of(result: Result) -> list[str]:
    """Say in a sentence or two what an analysis found."""
    analysis = result["analysis"]
    if analysis in ("ablation", "intensity"):
        return _study_summary(result)
    state, about = result["state"], f"{result['backbone']} with {result['loss']}"
    model = f"{about} on {result['data']}, seed {result['seed']}, epoch {result['best_epoch']}."
    if analysis == "hardness":
        kl = state["kl"]
        found = (
            f"The weights are {kl['mean']:.4f} nats from uniform on average over "
            f"{state['users']} users (5 % {kl['q05']:.4f}, 95 % {kl['q95']:.4f})."
        )
    elif analysis == "false-negatives":
        found = result["verdict"]
    elif analysis == "geometry":
        found = (
            f"Alignment {decimal(state['alignment'], digits=3)}; uniformity "
            f"{decimal(state['uniformity_users'], digits=3)} of users, "
            f"{decimal(state['uniformity_items'], digits=3)} of items."
        )
    else:
        share = state["share"]
        harm = "" if share is None else f": {share:.0%} of the harm that this allows"
        found = (
            f"At a mean KL of {state['achieved']['kl']:.4f} nats the adversary raises the loss "
            f"from {state['uniform']['loss']:.4f} to {state['achieved']['loss']:.4f}{harm}."
        )
    return [model, found]


def _hardness(result: Result) -> list[Block]:
    groups = result["state"]["groups"]
    shown = ("mean", "sd", "q05", "median", "q95", "below_zero", "weight", "uniform")
    blocks: list[Block] = [
        Table(
            title="Hardness by popularity group",
            columns=["group", "items", *(key.replace("_", " ") for key in shown)],
            rows=[
                [name, figures["items"], *(figures[key] for key in shown)]
                for name, figures in groups.items()
            ],
            note=f"Delta of {result['state']['pairs']} pairs of {result['state']['users']} users.",
        ),
        _items("Hardest negatives, mean over users", result["items"]["hardest"]),
        _items("Judged false, mean over users", result["items"]["judged_false"]),
    ]
    rows = [
        [row["user_id"], kind.replace("_", " "), item["item_id"], item["delta"], item["group"]]
        for row in result["pairs"]
        for kind in ("hardest", "judged_false")
        for item in row[kind]
    ]
    blocks.append(
        Table(
            title="Negatives of single users",
            columns=["user", "list", "item", "delta", "group"],
            rows=rows,
        )
    )
    if result["trace"]:
        blocks += [_hardness_course(result["trace"]), _kl_course(result["trace"])]
    return blocks


def _hardness_course(trace: Sequence[Result]) -> Chart:
    rows = [
        {
            "epoch": line["epoch"],
            "group": name,
            **{key: figures[key] for key in ("q05", "median", "q95")},
        }
        for line in trace
        for name, figures in line["groups"].items()
    ]
    return _band(
        "Hardness over training", rows, "q05", "median", "q95", by="group", axis="delta",
        note="Median per popularity group, and the range from 5 % to 95 % of the pairs.",
    )  # fmt: skip


def _kl_course(trace: Sequence[Result]) -> Chart:
    rows = [
        {"epoch": line["epoch"], **{key: line["kl"][key] for key in ("q05", "mean", "q95")}}
        for line in trace
    ]
    return _band(
        "KL to uniform over training", rows, "q05", "mean", "q95", axis="nats",
        note="Mean over users, and the range from 5 % to 95 % of the users.",
    )  # fmt: skip


def _false_negatives(result: Result) -> list[Block]:
    state = result["state"]
    rows = []
    for name, found in state["detectors"].items():
        area = [found["auc"][end] for end in ("mean", "low", "high")]
        rate, lift = found["rate"]["mean"], found["lift"]["mean"]
        rows.append([name.replace("_", " "), *area, found["below_zero"], rate, lift])
    blocks: list[Block] = [
        Text(paragraphs=[result["verdict"]]),
        Table(
            title="Detectors of false negatives",
            columns=["detector", "AUC", "from", "to", "below zero", "rate", "lift"],
            rows=rows,
            note=f"{state['false_negatives']} known false negatives ({result['truth']}) among "
            f"{state['pairs']} candidates of {state['users']} users; base rate "
            f"{state['base_rate']['mean']:.4f}.",
        ),
        Table(
            title="The adversary's AUC less a control's",
            columns=["control", "difference", "from", "to", "p"],
            rows=[
                [name.replace("_", " "), c["difference"], c["low"], c["high"], c["p"]]
                for name, c in state["contrasts"].items()
            ],
        ),
    ]
    if result["trace"]:
        course = [
            {
                "epoch": line["epoch"],
                "detector": name.replace("_", " "),
                **{key: found["auc"][key] for key in ("mean", "low", "high")},
            }
            for line in result["trace"]
            for name, found in line["detectors"].items()
        ]
        blocks.append(
            _band(
                "AUC over training", course, "low", "mean", "high", by="detector", axis="AUC",
                note="Mean over users with its 95 % interval; .5 is chance.",
            )
        )  # fmt: skip
    return blocks


def _geometry(result: Result) -> list[Block]:
    names = ("alignment", "uniformity_users", "uniformity_items")
    lines = [*result["trace"], {"epoch": "kept", **result["state"]}]
    blocks: list[Block] = [
        Table(
            title="Alignment and uniformity",
            columns=["epoch", *(name.replace("_", " ") for name in names)],
            rows=[[str(line["epoch"]), *(line[name] for name in names)] for line in lines],
            note="The last row is of the weights that were kept.",
        )
    ]
    if result["trace"]:
        spec = {
            "mark": {"type": "line", "point": True},
            "encoding": {
                "x": _axis("uniformity", zero=False),
                "y": _axis("alignment", zero=False),
                "color": {"field": "vectors", "type": "nominal"},
                "order": {"field": "epoch", "type": "quantitative"},
                "tooltip": [{"field": key} for key in ("epoch", "alignment", "uniformity")],
            },
        }
        rows = [
            {
                "epoch": line["epoch"],
                "alignment": line["alignment"],
                "uniformity": line[f"uniformity_{kind}"],
                "vectors": kind,
            }
            for line in result["trace"]
            for kind in ("users", "items")
        ]
        note = "A point per evaluation, joined in the order of training; low is good on both axes."
        blocks.append(Chart(title="Alignment against uniformity", spec=spec, rows=rows, note=note))
    plane = result["plane"]
    first, second = plane["explained"]
    spec = {
        "mark": {"type": "point", "filled": True, "opacity": 0.7},
        "encoding": {
            "x": _axis("x", f"first direction ({first:.0%} of the variance)", zero=False),
            "y": _axis("y", f"second direction ({second:.0%})", zero=False),
            "color": {
                "field": "train_count",
                "type": "quantitative",
                "scale": {"type": "log"},
                "title": "training count",
            },
            "shape": {"field": "group", "type": "nominal"},
            "tooltip": [{"field": key} for key in ("item_id", "train_count", "group")],
        },
    }
    one, two = plane["popularity_correlation"]
    note = f"Rank correlation with popularity: {one:.2f} and {two:.2f}."
    blocks.append(
        Chart(title="Items in their main plane", spec=spec, rows=plane["items"], note=note)
    )
    return blocks


def _dro(result: Result) -> list[Block]:
    state = result["state"]
    kl, points = state["achieved"]["kl"], []
    for name, found in (
        ("uniform weights", state["uniform"] | {"eta": 0.0}),
        ("the adversary", state["achieved"] | {"eta": kl}),
        ("worst at its KL", state["worst_at_kl"] | {"eta": kl}),
    ):
        points.append([name, found["eta"], *(found[key] for key in ("loss", "low", "high"))])
    curve = [
        ["worst", line["eta"], line["loss"], line["low"], line["high"]] for line in state["curve"]
    ]
    rows = [{"eta": line["eta"], "loss": line["loss"], "what": "worst"} for line in state["curve"]]
    if kl > 0:
        rows.append({"eta": kl, "loss": state["worst_at_kl"]["loss"], "what": "worst"})
        rows.append({"eta": kl, "loss": state["achieved"]["loss"], "what": "the adversary"})
    eta = {
        "field": "eta",
        "type": "quantitative",
        "scale": {"type": "log"},
        "title": "KL to uniform, nats",
    }
    encoding = {
        "x": eta,
        "y": _axis("loss", zero=False),
        "color": {"field": "what", "type": "nominal", "title": None},
        "tooltip": [{"field": key} for key in ("what", "eta", "loss")],
    }
    spec = {
        "encoding": encoding,
        "layer": [
            {"mark": "line", "transform": [{"filter": "datum.what === 'worst'"}]},
            {"mark": {"type": "point", "filled": True, "size": 60}},
        ],
    }
    return [
        Chart(
            title="Worst loss within a KL ball",
            spec=spec,
            rows=rows,
            note=f"Mean over {state['rows']} rows of {state['n_neg']} negatives. Largest relative "
            f"gap between primal and dual: {state['dual_gap']:.1e}.",
        ),
        Table(
            title="Losses",
            columns=["weights", "KL", "loss", "from", "to"],
            rows=[*points, *curve],
        ),
    ]


def _study(result: Result) -> list[Block]:
    metric, blocks = result["headline"][0], list[Block]()
    contrasts = {
        (c["backbone"], c["method"], c["test"], c["metric"]): c
        for c in result["contrasts"]
        if c["against"] == result["methods"][0]
    }
    for test, name in product(result["users"], result["headline"]):
        rows: list[list[Any]] = []
        for row in result["rows"]:
            found = row["metrics"][test][name]
            contrast = contrasts.get((row["backbone"], row["method"], test, name), {})
            tested = [contrast.get(key) for key in ("difference", "low", "high", "p_holm")]
            rows.append([row["backbone"], row["method"], found["mean"], found["sd"], *tested])
        blocks.append(
            Table(
                title=f"{name} on {test}",
                columns=["backbone", "variant", "mean", "sd", "difference", "from", "to", "p"],
                rows=rows,
                note=f"Difference to {result['methods'][0]}. {result['users'][test]} users, "
                f"seeds: {len(result['seeds'])}.",
            )
        )
    kl = {(row["backbone"], row["name"]): row["kl"] for row in result["variants"]}
    points = [
        {
            "backbone": row["backbone"],
            "variant": row["method"],
            "test": test,
            "kl": kl[row["backbone"], row["method"]],
            "value": row["metrics"][test][metric]["mean"],
        }
        for row in result["rows"]
        for test in result["users"]
        if kl[row["backbone"], row["method"]]
    ]
    if points:
        spec = {
            "mark": {"type": "point", "filled": True, "size": 60},
            "encoding": {
                "x": {
                    "field": "kl",
                    "type": "quantitative",
                    "scale": {"type": "log"},
                    "title": "KL to uniform at the kept epoch, nats",
                },
                "y": _axis("value", metric, zero=False),
                "color": {"field": "variant", "type": "nominal"},
                "shape": {"field": "backbone", "type": "nominal"},
                "tooltip": [
                    {"field": key} for key in ("variant", "backbone", "test", "kl", "value")
                ],
            },
        }
        title = f"Quality against how far the weights are from uniform: {metric}"
        blocks.append(Chart(title=title, spec=spec, rows=points))
    blocks.append(
        Table(
            title="What each variant is",
            columns=["backbone", "variant", "method", "what", "settings", "KL"],
            rows=[
                [
                    row["backbone"], row["name"], row["method"], row["what"],
                    ", ".join(f"{key} = {value:g}" for key, value in row["changes"].items()),
                    row["kl"],
                ]
                for row in result["variants"]
            ],
        )
    )  # fmt: skip
    return blocks


def _study_summary(result: Result) -> list[str]:
    found = [
        f"On {leaders['test']}, {leaders['backbone']}, {leaders['metric']}: best is "
        f"{leaders['best']}; no other beats significantly {', '.join(leaders['methods'])}."
        for leaders in result["leaders"]
    ]
    seeds = ", ".join(map(str, result["seeds"]))
    return [f"{len(result['variants'])} variants, each with these seeds: {seeds}.", *found]


def _items(title: str, rows: Sequence[Result]) -> Table:
    columns = ("item_id", "delta", "train_count", "group")
    return Table(
        title=title,
        columns=["item", "delta", "training count", "group"],
        rows=[[row[name] for name in columns] for row in rows],
    )


def _band(
    title: str,
    rows: Sequence[Result],
    low: str,
    middle: str,
    high: str,
    *,
    axis: str,
    by: str | None = None,
    note: str = "",
) -> Chart:
    """A line over epochs with a band around it, for each of several if `by` names a field."""
    colour = {"color": {"field": by, "type": "nominal"}} if by else {}
    shown = ["epoch", *([by] if by else []), low, middle, high]
    spec = {
        "encoding": {
            "x": {"field": "epoch", "type": "quantitative", "title": "epoch"},
            **colour,
            "tooltip": [{"field": name} for name in shown],
        },
        "layer": [
            {
                "mark": {"type": "area", "opacity": 0.2},
                "encoding": {"y": _axis(low, axis, zero=False), "y2": {"field": high}},
            },
            {
                "mark": {"type": "line", "point": True},
                "encoding": {"y": _axis(middle, axis, zero=False)},
            },
        ],
    }
    return Chart(title=title, spec=spec, rows=rows, note=note)


def _axis(field: str, title: str | None = None, *, zero: bool) -> dict[str, Any]:
    return {
        "field": field,
        "type": "quantitative",
        "title": title or field,
        "scale": {"zero": zero},
    }


def _definitions(result: Result) -> Table:
    rows = [[name.replace("_", " "), text] for name, text in result["definitions"].items()]
    return Table(title="Definitions", columns=["name", "meaning"], rows=rows)


_BLOCKS: dict[str, Callable[[Result], list[Block]]] = {
    "hardness": _hardness,
    "false-negatives": _false_negatives,
    "geometry": _geometry,
    "dro": _dro,
    "ablation": _study,
    "intensity": _study,
}
