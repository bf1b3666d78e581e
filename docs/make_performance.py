"""Make `docs/performance.md` and its plots from `benchmarks/results.csv`: no number is typed.

    python docs/make_performance.py

What stands outside the two marks of the page is left as it is. `--check` writes nothing and fails
if the page or a plot is not what the record says.
"""

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from svg_plots import curves, ratio_bars, stacked_bars

from contrarec.comparison.layout import markdown_table
from contrarec.files import write_text

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- made by docs/make_performance.py -->", "<!-- end of what is made -->"
TEXTS = ("date", "commit", "machine", "cpu", "versions", "card", "what", "shape", "other")
WHERE = ("machine", "cpu", "card")
MACHINE = (*WHERE, "versions")
TIME, MEMORY, PROFILE = "scale: time per interaction", "scale: peak memory", "profile: "
NOTHING = "Nothing has been recorded yet."
NO_GPU = "No row of the record names a card: GPU figures were not measured."

Row = dict[str, Any]
Target = dict[str, Any]
Line = dict[str, str]


def read(path: Path) -> list[Row]:
    """Read the record: texts as they are, all else as numbers, None where there is none."""
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {k: v if k in TEXTS else float(v) if v else None for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def latest(rows: list[Row]) -> list[Row]:
    """Keep the newest row of each benchmark, shape, number of threads and machine.

    Each is given a letter for where it was measured, `on`.
    """
    newest: dict[tuple[Any, ...], Row] = {}
    for row in sorted(rows, key=lambda row: row["date"]):  # of equal dates the later line wins
        newest[tuple(row[name] for name in ("what", "shape", "threads", *WHERE))] = row
    places = list(grouped(list(newest.values()), MACHINE))
    return [
        row | {"on": chr(ord("A") + places.index(tuple(row[name] for name in MACHINE)))}
        for row in newest.values()
    ]


def measured(rows: list[Row], target: Target) -> Iterator[tuple[Row, float]]:
    """Find what was measured for a target: rows, and the value to set beside it.

    The target's `shape` is a part of the row's. Its `measure` is a column; or `memory`, the peak
    over what is expected; or `growth`, the longest time over that of the fewest interactions.
    """
    named = [row | {"setting": setting(row)} for row in rows if row["what"] == target["what"]]
    found = [row for row in named if target["shape"] in row["shape"]]
    if target["measure"] == "growth":
        for group in grouped(found, ("setting", "threads", *WHERE)).values():
            first = min(group, key=lambda row: row["interactions"])
            slowest = max(group, key=lambda row: row["seconds"])
            if len(group) > 1:
                yield slowest, slowest["seconds"] / first["seconds"]
    elif target["measure"] == "memory":
        yield from ((row, row["peak_mib"] / row["expected_mib"]) for row in found)
    else:
        column = target["measure"]
        yield from ((row, row[column]) for row in found if row[column] is not None)


def verdict(value: float, target: Target) -> str:
    """Say whether a target was reached, or by how much it was missed.

    >>> verdict(45.0, {"at_least": 60}), verdict(2.0, {"at_most": 2})
    ('**missed by 25 %**', 'reached')
    """
    if "at_least" in target:
        missing = 1 - value / target["at_least"]
    else:
        missing = value / target["at_most"] - 1
    if missing <= 0:
        return "reached"
    return f"**missed by {100 * missing:{'.0f' if missing >= 0.1 else '.2g'}} %**"


def target_lines(rows: list[Row], targets: list[Target]) -> Iterator[Line]:
    """Yield the table of targets; one without a row says so."""
    for target in targets:
        sense = "at_least" if "at_least" in target else "at_most"
        unit = {"rate": rate, "seconds": seconds}.get(target["measure"], times)
        line = {"what": target["what"], "shape": target["shape"].strip(), "threads": ""}
        wanted = {"target": f"{sense.replace('_', ' ')} {unit(target[sense])}"}
        found = list(measured(rows, target))
        if not found:
            yield line | wanted | {"measured": "–", "verdict": "not measured", "on": ""}
        for row, value in found:
            line |= {"shape": row["shape"], "threads": f"{row['threads']:.0f}"}
            result = {"measured": unit(value), "verdict": verdict(value, target), "on": row["on"]}
            yield line | wanted | result


def section(rows: list[Row]) -> str:
    """Return a table of rows, without the columns that none of them fills."""
    lines = [
        {
            "what": row["what"].partition(": ")[2] or row["what"],
            "shape": row["shape"],
            "threads": f"{row['threads']:.0f}",
            "time": with_spread(row["seconds"], row["spread"], seconds),
            "set beside": row["other"],
            "its time": with_spread(row["other_seconds"], None, seconds),
            "times faster": with_spread(row["ratio"], row["ratio_spread"], times),
            "a second": with_spread(row["rate"], None, rate),
            "of the bandwidth": with_spread(row["bandwidth_share"], None, "{:.2f}".format),
            "NDCG@20": with_spread(row["quality"], None, "{:.4f}".format),
            "epochs": with_spread(row["epochs"], None, "{:.0f}".format),
            "peak memory": with_spread(row["peak_mib"], None, mib),
            "expected": with_spread(row["expected_mib"], None, mib),
            "on": row["on"],
            "commit": row["commit"],
        }
        for row in rows
    ]
    used = [name for name in lines[0] if any(line[name] for line in lines)]
    return markdown_table([{name: line[name] for name in used} for line in lines])


def shares(rows: list[Row]) -> dict[str, dict[str, float]]:
    """Return the share of each part of an epoch by what was trained, the largest log last."""
    parts = [row for row in rows if row["what"].startswith(PROFILE)]
    found = {}
    for _, group in sorted(grouped(parts, ("interactions", "shape", "threads", "on")).items()):
        total = sum(row["seconds"] for row in group)
        found[label(group[0])] = {
            row["what"].removeprefix(PROFILE): row["seconds"] / total for row in group
        }
    return found


def profile(rows: list[Row]) -> str:
    """Say where the time of an epoch goes, and what the next wall is."""
    found, parts, walls = shares(rows), [], []
    most = max(row["interactions"] for row in rows)
    largest = {label(row) for row in rows if row["interactions"] == most}
    for name, of in found.items():
        first, second = sorted(of, key=lambda part: -of[part])[:2]
        parts.append(
            f"- {name}: {first} takes {100 * of[first]:.0f} % of the time, "
            f"{second} {100 * of[second]:.0f} %."
        )
        if name in largest:
            walls.append(f"**{first}** ({name})")
    parts.append(f"- The next wall is what takes most on the largest log: {'; '.join(walls)}.")
    lines = [
        {"what": name} | {part: f"{100 * share:.1f} %" for part, share in of.items()}
        for name, of in found.items()
    ]
    return "\n".join(parts) + f"\n\n{markdown_table(lines)}"


def plots(rows: list[Row], targets: list[Target]) -> dict[str, str]:
    """Return name → SVG of every plot that there are rows for."""
    made = {}
    bars: dict[str, list[tuple[str, float, float | None]]] = {}
    ratios = [target for target in targets if target["measure"] == "ratio"]
    for row in rows:
        if row["ratio"] is not None:
            wanted = [t["at_least"] for t in ratios if list(measured([row], t))]
            bar = (label(row), row["ratio"], max(wanted, default=None))
            bars.setdefault(row["what"].partition(":")[0], []).append(bar)
    for name, lines in bars.items():
        title = f"{name}: times as fast as what it is set beside (a stroke is the target)"
        made[f"ratios-{name}"] = ratio_bars(title, lines)
    if found := shares(rows):
        made["profile"] = stacked_bars("Share of an epoch's time", list(found.items()))
    timed = scale_series(rows, TIME, "seconds")
    if timed:
        made["scale-time"] = curves(
            "Time per training interaction", timed, "interactions", "seconds per interaction"
        )
    peaks = scale_series(rows, MEMORY, "peak_mib")
    if peaks:
        expected = scale_series(rows, MEMORY, "expected_mib")
        peaks |= {f"({name}, expected)": line for name, line in expected.items()}
        made["scale-memory"] = curves("Peak memory", peaks, "interactions", "MiB")
    return made


def scale_series(rows: list[Row], what: str, column: str) -> dict[str, list[tuple[float, float]]]:
    """Return curves over the number of interactions, by setting and threads."""
    series: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["what"] == what:
            name = f"{setting(row)}, {count(row['threads'], 'thread')}, {row['on']}"
            series.setdefault(name, []).append((row["interactions"], row[column]))
    return series


def setting(row: Row) -> str:
    """Return what a row's shape says beside the number of interactions before its colon."""
    return str(row["shape"].rpartition(": ")[2])


def content(rows: list[Row], targets: list[Target], reference: dict[str, Any]) -> str:
    """Return everything between the two marks."""
    rows = latest(rows)
    parts = ["## Targets", markdown_table(list(target_lines(rows, targets)))]
    if not rows:
        return "\n\n".join([*parts, NOTHING, NO_GPU])
    drawn = plots(rows, targets)

    def images(*names: str) -> list[str]:
        return [f"![plot: {name}](performance/{name}.svg)" for name in names if name in drawn]

    named = {row["what"]: row["what"].partition(":")[0] for row in rows}
    for name in dict.fromkeys(named.values()):
        members = [row for row in rows if named[row["what"]] == name]
        parts.append(f"## {name.capitalize()}")
        if name == "profile":
            parts += [profile(members), *images("profile")]
            continue
        if name == "epoch":
            parts.append(f"Set beside is {reference['epoch']['source']}")
        parts += [section(members), *images(f"ratios-{name}")]
        if name == "scale":
            parts += images("scale-time", "scale-memory")
    cards = sorted({row["card"] for row in rows} - {""})
    gpu = f"GPU figures were measured on: {', '.join(cards)}." if cards else NO_GPU
    machines = [
        {name: group[0][name] for name in ("on", *MACHINE)}
        for group in grouped(rows, ("on",)).values()
    ]
    dates = sorted(row["date"][:10] for row in rows)
    parts += [
        "## Machines",
        gpu,
        markdown_table(machines),
        f"Recorded from {dates[0]} to {dates[-1]}.",
    ]
    return "\n\n".join(parts)


def grouped(rows: list[Row], names: tuple[str, ...]) -> dict[tuple[Any, ...], list[Row]]:
    """Collect rows that agree in these columns."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def label(row: Row) -> str:
    """Name a row in a plot."""
    return f"{row['shape']}, {count(row['threads'], 'thread')}, {row['on']}"


def with_spread(value: float | None, spread: float | None, shown: Callable[[float], str]) -> str:
    """Show a number and what its repeats spread over; empty without one."""
    if value is None:
        return ""
    return shown(value) if spread is None else f"{shown(value)} (spread {shown(spread)})"


def seconds(value: float) -> str:
    """Show a time with three digits.

    >>> seconds(0.00512), seconds(92.31), seconds(3.2e-7)
    ('5.12 ms', '92.3 s', '0.32 µs')
    """
    units = {1.0: "s", 1e-3: "ms", 1e-6: "µs"}
    size = next((size for size in units if value >= size), 1e-6)
    return f"{value / size:.3g} {units[size]}"


def times(value: float) -> str:
    """Show a ratio.

    >>> times(61.234), times(0.8)
    ('61.2 ×', '0.8 ×')
    """
    return f"{value:.3g} ×"


def rate(value: float) -> str:
    """Show how many a second.

    >>> rate(1.234e7), rate(52_000)
    ('12.3 million', '52,000')
    """
    return f"{value / 1e6:.3g} million" if value >= 1e6 else f"{value:,.0f}"


def mib(value: float) -> str:
    """Show memory.

    >>> mib(12345.6)
    '12,346 MiB'
    """
    return f"{value:,.0f} MiB"


def count(value: float, noun: str) -> str:
    """Say how many.

    >>> count(1, "thread"), count(2.0, "thread")
    ('1 thread', '2 threads')
    """
    return f"{value:.0f} {noun}{'' if value == 1 else 's'}"


def main(arguments: list[str] | None = None) -> None:
    """Read the record, write the page and its plots."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args(arguments)
    benchmarks, page = ROOT / "benchmarks", ROOT / "docs" / "performance.md"
    rows = read(benchmarks / "results.csv")
    targets, reference = (
        json.loads((benchmarks / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("targets", "reference")
    )
    before, _, rest = page.read_text(encoding="utf-8").partition(START)
    made = {page: f"{before}{START}\n\n{content(rows, targets, reference)}\n\n{END}"}
    made[page] += rest.partition(END)[2]
    folder = ROOT / "docs" / "performance"
    for name, svg in plots(latest(rows), targets).items():
        made[folder / f"{name}.svg"] = svg
    left = set(folder.glob("*.svg")) - set(made)
    if options.check:
        for path, text in made.items():
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                left.add(path)
        if left:
            names = ", ".join(sorted(path.name for path in left))
            raise SystemExit(f"not what the record says: {names}; run make_performance.py.")
        return
    folder.mkdir(exist_ok=True)
    for path in left:
        path.unlink()
    for path, text in made.items():
        write_text(path, text)


if __name__ == "__main__":
    main()
