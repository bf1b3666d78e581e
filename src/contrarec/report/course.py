"""The course of training: what the log of a run has, epoch by epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from contrarec.report.blocks import Chart, Section
from contrarec.report.charts import choice, name, number, tooltip

FEW = 60
"""Epochs up to which each has a point of its own on a line."""

Lines = Sequence[Mapping[str, Any]]


def course(log: Lines, *, monitor: str, kept: int) -> Section:
    """Show how losses, metrics and the adversary's KL divergence went.

    Args:
        log: the lines of `metrics.jsonl`.
        monitor: the metric that is shown first.
        kept: the epoch whose weights were kept.
    """
    blocks = [_loss_chart(log)]
    if any(line.get("metrics") for line in log):
        blocks.insert(0, _metrics_chart(log, monitor, kept))
    spread = [{"epoch": line["epoch"]} | line["kl"] for line in log if "kl" in line]
    if spread:
        blocks.append(_kl_chart(spread))
    return Section(title="The course of training", blocks=blocks)


def _metrics_chart(log: Lines, monitor: str, kept: int) -> Chart:
    rows = [
        {"epoch": line["epoch"], "set": test, "metric": metric, "value": value}
        for line in log
        for test, metrics in line.get("metrics", {}).items()
        for metric, value in metrics.items()
    ]
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    points = len({row["epoch"] for row in rows}) <= FEW
    spec = choice("metric", metrics, monitor, "Metric") | {
        "layer": [
            {
                "mark": {"type": "rule", "strokeDash": [4, 4], "tooltip": f"best epoch: {kept}"},
                "encoding": {"x": {"datum": kept}},
            },
            {
                "mark": {"type": "line", "point": points},
                "encoding": {
                    "x": number("epoch", "epoch"),
                    "y": number("value", "mean over users"),
                    "color": name("set", "set"),
                    "shape" if points else "strokeDash": name("set", "set", legend=None),
                },
            },
        ],
    }
    return Chart(
        title="Metrics per epoch",
        spec=spec,
        rows=rows,
        note=f"The dashed line is the epoch that was kept ({kept}). It was picked on the "
        "validation set; the other sets are shown for reading, not for choosing.",
    )


def _loss_chart(log: Lines) -> Chart:
    names = {"loss": "model", "adversary_loss": "adversary"}
    rows = [
        {"epoch": line["epoch"], "of": of, "loss": line[key]}
        for key, of in names.items()
        for line in log
        if key in line
    ]
    players = {row["of"] for row in rows}
    encoding = {
        "x": number("epoch", "epoch"),
        "y": number("loss", "mean over batches"),
    }
    if len(players) > 1:
        encoding |= {"color": name("of", "loss of the"), "strokeDash": name("of", "loss of the")}
    mark = {"type": "line", "point": len(rows) <= FEW}
    return Chart(
        title="Loss per epoch",
        spec={"mark": mark, "encoding": encoding},
        rows=rows,
        note="The adversary has a value in the epochs in which it has a turn."
        if len(players) > 1
        else "",
    )


def _kl_chart(rows: Lines) -> Chart:
    x = number("epoch", "epoch")
    return Chart(
        title="How far the weights of negatives are from uniform",
        spec={
            "encoding": {"x": x},
            "layer": [
                {
                    "mark": {"type": "area", "opacity": 0.25},
                    "encoding": {
                        "y": number("q05", "KL to uniform, nats", zero=True),
                        "y2": {"field": "q95"},
                    },
                },
                {
                    "mark": {"type": "line", "point": len(rows) <= FEW},
                    "encoding": {
                        "y": number("mean", "KL to uniform, nats", zero=True),
                        "tooltip": tooltip(
                            epoch="epoch",
                            mean="mean",
                            median="median",
                            q05="5 % of users below",
                            q95="95 % of users below",
                            max="largest",
                        ),
                    },
                },
            ],
        },
        rows=rows,
        note="Mean over users, and where the middle 90 % of them are. 0 is a loss that takes all "
        "negatives for equally hard.",
    )
