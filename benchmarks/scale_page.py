"""Make the figures of `docs/scale.md`: no number of its tables is typed.

    python -m benchmarks.scale_page
    python -m benchmarks.scale_page --check

They come from `benchmarks/workers.csv` (measured), `benchmarks/scale-calibration.json` (rates),
`benchmarks/worker-quality.json` (test metrics) and the cost model. What stands outside the two
marks of the page is left as it is. `--check` writes nothing and fails if the page is not what they
say.
"""

import argparse
import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from benchmarks.record import ROOT
from benchmarks.scale_calibrate import PATH as CALIBRATION
from benchmarks.scale_calibrate import core
from benchmarks.scale_model import Cost, Hardware, Items, Load, cost, cpu_machine, gpu
from benchmarks.worker_quality import METRIC
from benchmarks.worker_quality import PATH as QUALITY
from benchmarks.workers import RECORD, SHAPE
from contrarec.comparison.layout import decimal, markdown_table
from contrarec.files import write_text

PAGE = ROOT / "docs" / "scale.md"
START, END = "<!-- made by benchmarks/scale_page.py -->", "<!-- end of what is made -->"
NOTHING = "Nothing has been recorded yet."
LARGE = Load(interactions=1e9, users=1e8, items=1e7)
LADDER = (
    ("10⁶", "10⁵", "10⁴", Load(interactions=1e6, users=1e5, items=1e4)),
    ("10⁷", "2·10⁵", "2·10⁴", Load(interactions=1e7, users=2e5, items=2e4)),
    ("10⁸", "2·10⁶", "2·10⁵", Load(interactions=1e8, users=2e6, items=2e5)),
    ("10⁹", "10⁸", "10⁷", LARGE),
    ("10¹⁰", "10⁹", "10⁸", Load(interactions=1e10, users=1e9, items=1e8)),
)
STEPS = 1000
"""Of an epoch, in the tables of large logs: a step is that share of the log."""

Row = dict[str, Any]


def measured() -> list[Row]:
    """Read the record: for each shape and number of workers, in that order, one row.

    It is the one with the median time (of an even number the slower of the two in the middle), with
    `runs`, how many there are, and the `least` and the `most` seconds of them.
    """
    if not RECORD.exists():
        return []
    texts = {"date", "commit", "machine", "cpu", "versions", "backbone", "loss"}
    found: dict[tuple[Any, ...], list[Row]] = {}
    with RECORD.open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            row: Row = {
                key: value if key in texts else float(value) if value else None
                for key, value in line.items()
            }
            key = (*(row[name] for name in SHAPE), row["workers"], row["threads"])
            found.setdefault(key, []).append(row)
    return [_median(found[key]) for key in sorted(found, key=str)]


def _median(rows: list[Row]) -> Row:
    ordered = sorted(rows, key=lambda row: row["seconds"])
    about = {"least": ordered[0]["seconds"], "most": ordered[-1]["seconds"], "runs": len(rows)}
    return ordered[len(rows) // 2] | about


def shapes(rows: list[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """Group rows by what was trained."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in SHAPE), []).append(row)
    return groups


def load_of(row: Row) -> Load:
    """Return what a row was measured on."""
    names = ("interactions", "users", "items", "dim", "batch_size", "n_neg")
    return Load(**{name: int(row[name]) for name in names})


def measured_table(rows: list[Row], machine: Hardware) -> str:
    """What was measured, beside what the model says."""
    plain, one = (_seconds(rows, workers) for workers in (0, 1))
    lines = []
    for row in rows:
        workers = int(row["workers"])
        said = cost(load_of(row), machine, max(workers, 1))
        share = row["communicating"]
        single = row["threads"] == 1
        lines.append(
            {
                "workers": str(workers or _plain(row)),
                "s an epoch": f"{row['seconds']:.1f}",
                "rows a second": f"{row['rows_per_second']:,.0f}",
                "× plain": f"{plain / row['seconds']:.2f}" if plain else "",
                "× one": f"{one / row['seconds']:.2f}" if one and workers else "",
                "runs: least to most s": _range(row),
                "load before": f"{row['load']:g}",
                "communicating": "" if share is None else f"{share:.0%}",
                "MiB received": "" if share is None else f"{row['mib_received']:,.0f}",
                "peak MiB a worker": f"{row['peak_mib']:,.0f}",
                "model: s": f"{said.epoch:.1f}" if single else "",
                "model / measured": f"{said.epoch / row['seconds']:.2f}" if single else "",
                "model: communicating": f"{said.communicating:.0%}" if workers else "",
            }
        )
    return markdown_table(lines)


def targets(rows: list[Row]) -> str:
    """Say whether each target was met."""
    found = {int(row["workers"]): row for row in rows if row["threads"] == 1}
    lines = []
    if {0, 1} <= found.keys():
        ratio = found[1]["seconds"] / found[0]["seconds"]
        lines.append(
            _target("one worker takes at most 1.15 × the plain command", ratio, ratio <= 1.15)
        )
    if {1, 2} <= found.keys():
        ratio = found[1]["seconds"] / found[2]["seconds"]
        lines.append(_target("two workers are at least 1.6 × as fast as one", ratio, ratio >= 1.6))
        ratio = found[2]["peak_mib"] / found[1]["peak_mib"]
        lines.append(_target("a worker of two needs less memory than one", ratio, ratio < 1))
    loads = [row["load"] for row in found.values()]
    if max(loads) > 2 * min(loads) + 1:
        lines.append(
            f"- **Other programs ran during some of these** (load {min(loads):g} to "
            f"{max(loads):g}): ratios of rows with different loads say little."
        )
    several = next((row for row in rows if row["threads"] > 1), None)
    if several and 1 in found:
        ratio = found[1]["seconds"] / several["seconds"]
        lines.append(
            f"- For comparison: {several['threads']:.0f} threads of the plain command, which "
            f"exchange nothing, are {ratio:.2f} × as fast as one worker of one thread. That is "
            "what the cores of this machine give."
        )
    return "\n".join(lines)


def _range(row: Row) -> str:
    n = row.get("runs", 1)
    return f"{n}: {row['least']:.1f} to {row['most']:.1f}" if n > 1 else "1"


def _plain(row: Row) -> str:
    return "plain command" if row["threads"] == 1 else f"plain, {row['threads']:.0f} threads"


def _seconds(rows: list[Row], workers: int) -> float | None:
    """Return the seconds of so many workers of one thread; 0 is the plain command."""
    found = (r["seconds"] for r in rows if r["workers"] == workers and r["threads"] == 1)
    return next(found, None)


def _target(what: str, ratio: float, met: bool) -> str:
    return f"- {what}: {ratio:.2f}, {'met' if met else '**missed**'}."


def measured_part() -> Iterator[str]:
    """The measurements, their targets and the model's predictions."""
    yield "### Measured"
    rows = measured()
    if not rows or not CALIBRATION.exists():
        yield NOTHING
        return
    machine = core()
    for group in shapes(rows).values():
        row = group[0]
        load = load_of(row)
        yield (
            f"{row['backbone'].upper()} with {row['loss']}: {load.interactions:,} interactions, "
            f"{load.users:,} users, {load.items:,} items (Zipf), dim {load.dim}, steps of "
            f"{load.batch_size:,} × {load.n_neg}, one thread a worker. {row['date'][:10]}, "
            f"{', '.join(sorted({r['commit'] for r in group}))}, {row['machine']}, "
            f"{row['cpu']}. Where there are several runs, taken at different times, the row is the "
            "one with the median time; the load is the average of the minute before it."
        )
        yield measured_table(group, machine)
        yield targets(group)
    yield (
        f"The model knows the rates of this table alone, of one thread, {machine.source}. More "
        f"workers than the {machine.together} cores take turns. While all cores work, each does "
        f"{machine.busy:.0%} of the scores that it does alone: so {machine.together} workers of "
        f"this machine could be {machine.together * machine.busy:.2f} × as fast as one if "
        "nothing were exchanged and scores were everything. It counts the large parts of a step "
        "alone, and so "
        "less than what was measured: its ratios say more than its seconds."
    )
    yield markdown_table(
        [
            {
                "scores, GFLOP/s": f"{machine.flops / 1e9:.1f}",
                "graph, GFLOP/s": f"{machine.spread_flops / 1e9:.1f}",
                "draws, M/s": f"{machine.draws / 1e6:.0f}",
                "rows looked at, M/s": f"{machine.hashes / 1e6:.0f}",
                "Adam, GB/s": f"{machine.memory_rate / 1e9:.1f}",
                "exchange, GB/s": f"{machine.network / 1e9:.2f}",
                "latency, µs": f"{machine.latency * 1e6:.0f}",
                "all cores busy": f"{machine.busy:.0%}",
            }
        ]
    )


def batch_part() -> Iterator[str]:
    """What the size of a step does to two workers."""
    rows = measured()
    if not rows or not CALIBRATION.exists():
        return
    machine, load = core(), load_of(rows[0])
    lines = []
    for batch in (2048, 16_384, 65_536, 262_144):
        sized = _with_batch(load, batch)
        one, two = (cost(sized, machine, n) for n in (1, 2))
        lines.append(
            {
                "batch": f"{batch:,}",
                "one worker: s an epoch": f"{one.epoch:.1f}",
                "two: s": f"{two.epoch:.1f}",
                "× one": f"{one.epoch / two.epoch:.2f}",
                "communicating": f"{two.communicating:.0%}",
            }
        )
    yield "What the size of a step does to two workers of this machine, by the model:"
    yield markdown_table(lines)


MODES: tuple[tuple[str, str, int, Items], ...] = (
    ("one machine", "cpu", 1, "copies"),
    ("one GPU", "gpu", 1, "copies"),
    ("4 machines", "cpu", 4, "copies"),
    ("16 machines", "cpu", 16, "copies"),
    ("8 GPUs", "gpu", 8, "copies"),
    ("16 machines, items sharded", "cpu", 16, "sharded"),
    ("64 machines, items sharded", "cpu", 64, "sharded"),
)
"""Name, hardware, workers, where items are; in the order of what they ask of a user."""


def costs(load: Load) -> dict[str, tuple[Cost, Hardware]]:
    """Return the cost of every mode."""
    machines = {"cpu": cpu_machine(core()), "gpu": gpu()}
    return {
        name: (cost(load, machines[kind], workers, items), machines[kind])
        for name, kind, workers, items in MODES
    }


def simulated_part() -> Iterator[str]:
    """A log that no machine here could hold."""
    yield "### Simulated: 10⁹ interactions, 10⁸ users, 10⁷ items"
    if not CALIBRATION.exists():
        yield NOTHING
        return
    lines = []
    for batch in (2048, int(LARGE.interactions / STEPS)):
        load = _with_batch(LARGE, batch)
        for name, (found, machine) in costs(load).items():
            lines.append(
                {
                    "mode": name,
                    "batch": f"{batch:,}",
                    "ms a step": f"{found.step * 1e3:,.1f}",
                    "scores": f"{found.scores / found.step:.0%}",
                    "drawing": f"{found.drawing / found.step:.0%}",
                    "Adam": f"{found.adam / found.step:.0%}",
                    "exchange": f"{found.communicating:.0%}",
                    "MiB received a step": f"{found.received / 2**20:,.0f}",
                    "GiB a worker": f"{found.memory / 2**30:,.1f}{_fits(found, machine)}",
                    "an epoch": _duration(found.epoch),
                }
            )
    yield "MF with InfoNCE, dim 64, 64 negatives, lazy Adam. A worker is a machine, or a GPU."
    yield markdown_table(lines)
    for machine in (cpu_machine(core()), gpu()):
        yield f"- **{machine.name}**: {machine.source}."


def _fits(found: Cost, machine: Hardware) -> str:
    return "" if found.memory <= machine.memory else " (too much)"


def _with_batch(load: Load, batch: int) -> Load:
    return replace(load, batch_size=batch)


def chosen(load: Load) -> str:
    """Return the first mode that fits and takes at most twice as long as the fastest that fits."""
    fitting = {name: found.epoch for name, (found, m) in costs(load).items() if not _fits(found, m)}
    if not fitting:
        return "none of these"
    return next(name for name, seconds in fitting.items() if seconds <= 2 * min(fitting.values()))


def modes_part() -> Iterator[str]:
    """When to take which mode."""
    yield "### When to take what"
    if not CALIBRATION.exists():
        yield NOTHING
        return
    lines = []
    for interactions, users, items, plain in LADDER:
        load = _with_batch(plain, max(2048, int(plain.interactions / STEPS)))
        line = {"interactions": interactions, "users": users, "items": items}
        for name, (found, machine) in costs(load).items():
            line[name] = "does not fit" if _fits(found, machine) else _duration(found.epoch)
        lines.append(line)
    yield (
        "What an epoch takes by the model, with steps of a thousandth of the log, but at least "
        "2,048 interactions. Machines and GPUs are those above. Sharded items have been run on "
        "CPUs of one machine alone: these columns say what they would bring."
    )
    yield markdown_table(lines)
    yield "By that, the first mode from the left that fits and takes at most twice the least time:"
    for interactions, users, items, plain in LADDER:
        load = _with_batch(plain, max(2048, int(plain.interactions / STEPS)))
        yield f"- {interactions} interactions, {users} users, {items} items: {chosen(load)}."


def quality_part() -> Iterator[str]:
    """The same test metrics."""
    yield "### The same test metrics"
    if not QUALITY.exists():
        yield NOTHING
        return
    known = json.loads(QUALITY.read_text(encoding="utf-8"))
    there = dict.fromkeys(row["data"] for row in known["rows"])
    schedules = ", ".join(f"{name}: {known['schedules'][name]['epochs']} epochs" for name in there)
    yield (
        f"{METRIC} of every set by the plain command, with its 95 % interval over users, and by "
        f"1, 2 and 4 workers; published presets, seed 0, shorter schedules ({schedules}). "
        f"{known['about']['date'][:10]}, commit {known['about']['commit']}."
    )
    groups: dict[tuple[str, ...], dict[int, Row]] = {}
    for row in known["rows"]:
        key = (row["data"], row["backbone"], row["loss"])
        groups.setdefault(key, {})[row["workers"]] = row
    lines, n_within, n_all = [], 0, 0
    for (data, backbone, loss), found in groups.items():
        plain = found.pop(0)
        for name, value in plain[METRIC].items():
            low, high = plain["intervals"][name]
            line = {"data": data, "backbone": backbone, "loss": loss, "set": name}
            line["plain"] = f"{decimal(value)} [{decimal(low)}, {decimal(high)}]"
            for workers, row in found.items():
                line[f"{workers} workers"] = decimal(row[METRIC][name])
                n_within += low <= row[METRIC][name] <= high
                n_all += 1
            epochs = {str(row["best_epoch"]) for row in (plain, *found.values())}
            lines.append(line | {"best epoch": ", ".join(sorted(epochs, key=int))})
    yield markdown_table(lines)
    yield f"{n_within} of {n_all} values are within the plain command's interval."


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 0.1 else "< 0.1 s"


def made() -> str:
    """Return what stands between the marks."""
    paragraphs = [
        *measured_part(),
        *batch_part(),
        *simulated_part(),
        *modes_part(),
        *quality_part(),
    ]
    text = ""
    for paragraph in paragraphs:
        item = paragraph.startswith("- ") and text.rsplit("\n\n", 1)[-1].startswith("- ")
        text += ("\n" if item else "\n\n") + paragraph if text else paragraph
    return text


def page() -> str:
    """Return the page with its figures as they should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n\n{made()}\n\n{END}{after}"


def main(arguments: list[str] | None = None) -> None:
    """Write the page, or check it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, fail if out of date")
    options = parser.parse_args(arguments)
    text = page()
    if not options.check:
        write_text(PAGE, text)
    elif text != PAGE.read_text(encoding="utf-8"):
        raise SystemExit(f"{PAGE}: out of date; python -m benchmarks.scale_page")


if __name__ == "__main__":
    main()
