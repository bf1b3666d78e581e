"""The performance page: made from a record written here, and the committed one is up to date."""

import csv
import importlib.util
import itertools
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.record import COLUMNS

ROOT = Path(__file__).resolve().parents[2]
LONG = "x" * 60
SVG = "{http://www.w3.org/2000/svg}"
TARGETS = [
    {"what": "kernels: k", "shape": "of 1000 items", "measure": "ratio", "at_least": 150},
    {"what": "sampler: s", "shape": "", "measure": "rate", "at_least": 1e7},
    {"what": "startup: help", "shape": "", "measure": "seconds", "at_most": 0.3},
    {"what": "scale: time per interaction", "shape": "mf", "measure": "growth", "at_most": 1.5},
    {"what": "scale: peak memory", "shape": "mf", "measure": "memory", "at_most": 2},
    {"what": "gpu: never", "shape": "", "measure": "ratio", "at_least": 2},
]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, working in a folder of its own."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    path = ROOT / "docs" / "make_performance.py"
    spec = importlib.util.spec_from_file_location("make_performance", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.ROOT = tmp_path
    for folder in ("benchmarks", "docs"):
        (tmp_path / folder).mkdir()
    text = f"Before.\n\n{module.START}\nstale\n{module.END}\n\nAfter.\n"
    (tmp_path / "docs" / "performance.md").write_text(text, encoding="utf-8")
    sources = {"targets": TARGETS, "reference": {"epoch": {"source": "SOURCE"}}}
    for name, content in sources.items():
        path = tmp_path / "benchmarks" / f"{name}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
    return module


def row(what: str, shape: str, **more: Any) -> dict[str, Any]:
    about = {
        "date": "2026-01-02T00:00:00+00:00", "commit": "abc", "machine": "M", "cpu": "C",
        "threads": 2, "versions": "V", "card": "", "what": what, "shape": shape,
    }  # fmt: skip
    return about | more


def record(page: ModuleType, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    path = page.ROOT / "benchmarks" / "results.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return page.latest(page.read(path))


def cells(text: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")]
    return [line for line in lines if line]


def text_of(page: ModuleType) -> str:
    return (page.ROOT / "docs" / "performance.md").read_text(encoding="utf-8")


def test_numbers_are_numbers_and_gaps_are_none(page: ModuleType) -> None:
    (found,) = record(page, row("a: b", "1000", seconds=0.5, commit="1234567"))
    assert (found["shape"], found["commit"]) == ("1000", "1234567")
    assert (found["seconds"], found["threads"], found["ratio"]) == (0.5, 2, None)
    assert page.read(page.ROOT / "nowhere.csv") == []


def test_the_newest_row_of_each_problem_and_machine_counts(page: ModuleType) -> None:
    found = record(
        page,
        row("a: b", "s", seconds=1, date="2026-01-03"),
        row("a: b", "s", seconds=2, date="2026-01-04"),
        row("a: b", "s", seconds=3, date="2026-01-02"),
        row("a: b", "s", seconds=4, threads=1),
        row("a: b", "s", seconds=5, cpu="D"),
        row("a: b", "s", seconds=6, card="G"),
        row("a: b", "t", seconds=7),
        row("a: b", "t", seconds=8),  # the same date: the later line
        row("a: c", "s", seconds=9, versions="W", date="2026-01-05"),
    )
    assert sorted(row["seconds"] for row in found) == [2, 4, 5, 6, 8, 9]
    on = {row["seconds"]: row["on"] for row in found}
    assert on[2] == on[4] == on[8]
    assert len(set(on.values())) == 4


def test_verdicts_say_by_how_much(page: ModuleType) -> None:
    assert page.verdict(150, {"at_least": 150}) == "reached"
    assert page.verdict(120, {"at_least": 150}) == "**missed by 20 %**"
    assert page.verdict(149.5, {"at_least": 150}) == "**missed by 0.33 %**"
    assert page.verdict(0.3, {"at_most": 0.3}) == "reached"
    assert page.verdict(0.45, {"at_most": 0.3}) == "**missed by 50 %**"


def test_targets_are_set_beside_what_was_measured(page: ModuleType) -> None:
    time, memory = "scale: time per interaction", "scale: peak memory"
    rows = record(
        page,
        row("kernels: k", "8 of 1000 items, table", ratio=120, seconds=1),
        row("kernels: k", "8 of 1000 items, alone", ratio=300, seconds=1),
        row("kernels: k", "8 of 42000 items", ratio=7, seconds=1),
        row("kernels: other", "8 of 1000 items", ratio=8, seconds=1),
        row("sampler: s", "x", rate=1.25e7, seconds=1, threads=1),
        row("startup: help", "", seconds=0.36),
        row(time, "1000 interactions, mf", interactions=1000, seconds=2e-6),
        row(time, "9000 interactions, mf", interactions=9000, seconds=1e-6),
        row(time, "4000 interactions, mf", interactions=4000, seconds=6e-6),
        row(time, "500 interactions, mf", interactions=500, seconds=1e-6, threads=1),
        row(time, "9000 interactions, lightgcn", interactions=9000, seconds=9e-6),
        row(memory, "1000 interactions, mf", interactions=1000, peak_mib=300, expected_mib=200),
        row(memory, "9000 interactions, mf", interactions=9000, peak_mib=900, expected_mib=300),
    )
    lines = [list(line.values()) for line in page.target_lines(rows, TARGETS)]
    assert lines == [
        ["kernels: k", "8 of 1000 items, table", "2", "at least 150 ×", "120 ×",
         "**missed by 20 %**", "A"],
        ["kernels: k", "8 of 1000 items, alone", "2", "at least 150 ×", "300 ×", "reached", "A"],
        ["sampler: s", "x", "1", "at least 10 million", "12.5 million", "reached", "A"],
        ["startup: help", "", "2", "at most 300 ms", "360 ms", "**missed by 20 %**", "A"],
        [time, "4000 interactions, mf", "2", "at most 1.5 ×", "3 ×", "**missed by 100 %**", "A"],
        [memory, "1000 interactions, mf", "2", "at most 2 ×", "1.5 ×", "reached", "A"],
        [memory, "9000 interactions, mf", "2", "at most 2 ×", "3 ×", "**missed by 50 %**", "A"],
        ["gpu: never", "", "", "at least 2 ×", "–", "not measured", ""],
    ]  # fmt: skip


def parts(shape: str, interactions: int, **seconds: float) -> list[dict[str, Any]]:
    return [
        row(f"profile: {part}", shape, seconds=value, interactions=interactions)
        for part, value in seconds.items()
    ]


def full(page: ModuleType) -> None:
    """A record with something in every section."""
    record(
        page,
        row("kernels: k", f"8 of 1000 items, {LONG}", seconds=0.002, spread=0.001, other="bmm",
            other_seconds=0.24, ratio=121, ratio_spread=4, peak_mib=1500),
        row("evaluation: e", "<&>", seconds=3, other="product", other_seconds=2, ratio=0.7),
        row("epoch: Yahoo! R3", "mf infonce", seconds=0.2, other="official code",
            other_seconds=13, ratio=65),
        row("quality: q", "mf", seconds=9, quality=0.2912, epochs=35),
        *parts("large", 9_000, optimizer=6.0, sampling=1.0, scores=3.0),
        *parts("little", 500, optimizer=0.1, sampling=0.3, scores=0.6),
        row("scale: time per interaction", "1 mf", interactions=1e6, seconds=2e-6),
        row("scale: time per interaction", "2 mf", interactions=1e8, seconds=2.5e-6),
        row("scale: peak memory", "1 mf", interactions=1e6, peak_mib=500, expected_mib=300),
        row("scale: peak memory", "2 mf", interactions=1e8, peak_mib=9000, expected_mib=8000),
    )  # fmt: skip
    page.main([])


def test_the_page_is_made_of_the_record_alone(page: ModuleType) -> None:
    full(page)
    text = text_of(page)
    assert text.startswith("Before.\n")
    assert text.endswith("After.\n")
    assert "stale" not in text
    table = cells(text)
    header = ["what", "shape", "threads", "time", "set beside", "its time", "times faster"]
    assert [*header, "peak memory", "on", "commit"] in table
    time = "2 ms (spread 1 ms)"
    figures = ["k", f"8 of 1000 items, {LONG}", "2", time, "bmm", "240 ms", "121 × (spread 4 ×)"]
    assert [*figures, "1,500 MiB", "A", "abc"] in table
    assert ["q", "mf", "2", "9 s", "0.2912", "35", "A", "abc"] in table
    assert "Set beside is SOURCE" in text
    assert ["A", "M", "C", "", "V"] in table
    assert page.NO_GPU in text
    assert "Recorded from 2026-01-02 to 2026-01-02." in text
    for name in re.findall(r"\]\(performance/(.+?)\)", text):
        assert (page.ROOT / "docs" / "performance" / name).exists()


def test_the_profile_says_where_the_time_goes_and_the_next_wall(page: ModuleType) -> None:
    full(page)
    text = text_of(page)
    assert "little, 2 threads, A: scores takes 60 % of the time, sampling 30 %." in text
    assert "large, 2 threads, A: optimizer takes 60 % of the time, scores 30 %." in text
    assert "on the largest log: **optimizer** (large, 2 threads, A)." in text
    assert ["large, 2 threads, A", "60.0 %", "10.0 %", "30.0 %"] in cells(text)


def test_cards_are_named_where_there_are_any(page: ModuleType) -> None:
    record(page, row("gpu: k", "s", seconds=1, card="Card 1"), row("a: b", "s", seconds=1))
    page.main([])
    assert "GPU figures were measured on: Card 1." in text_of(page)
    assert page.NO_GPU not in text_of(page)


def test_without_a_record_the_page_claims_nothing(page: ModuleType) -> None:
    page.main([])
    assert page.NOTHING in text_of(page)
    assert page.NO_GPU in text_of(page)
    verdicts = [line[5] for line in cells(text_of(page))[2:]]
    assert verdicts == ["not measured"] * len(TARGETS)
    assert list((page.ROOT / "docs" / "performance").iterdir()) == []


def svg(page: ModuleType, name: str) -> ElementTree.Element:
    return ElementTree.parse(page.ROOT / "docs" / "performance" / f"{name}.svg").getroot()


def boxes(root: ElementTree.Element) -> list[dict[str, float]]:
    names = ("x", "y", "width", "height")
    found = root.iter(f"{SVG}rect")
    return [{name: float(box.get(name)) for name in names} for box in found]


def test_bars_are_as_long_as_their_ratios(page: ModuleType) -> None:
    full(page)
    root = svg(page, "ratios-evaluation")  # from .1 to 1: the bar goes back from the 1 at the end
    (bar,) = boxes(root)
    ticks = {t.text: float(t.get("x")) for t in root.iter(f"{SVG}text") if t.text.endswith("×")}
    assert bar["x"] + bar["width"] == pytest.approx(ticks["1 ×"], abs=0.2)
    decade = ticks["1 ×"] - ticks["0.1 ×"]
    assert bar["width"] / decade == pytest.approx(0.1549, abs=1e-3)  # −log10 .7
    assert "<&>, 2 threads, A" in [text.text for text in root.iter(f"{SVG}text")]
    root = svg(page, "ratios-kernels")
    (bar,) = boxes(root)
    strokes = [line for line in root.iter(f"{SVG}line") if line.get("stroke-width") == "2"]
    (target,) = strokes  # 150, right of the bar's 121, hence the colour of what was missed
    assert float(target.get("x1")) > bar["x"] + bar["width"]
    (rect,) = root.iter(f"{SVG}rect")
    (other,) = svg(page, "ratios-evaluation").iter(f"{SVG}rect")
    assert rect.get("fill") != other.get("fill")


def test_a_stack_is_as_long_as_its_shares(page: ModuleType) -> None:
    full(page)
    first = boxes(svg(page, "profile"))[:3]  # little: optimizer .1, sampling .3, scores .6
    total = sum(box["width"] for box in first)
    assert [box["width"] / total for box in first] == pytest.approx([0.1, 0.3, 0.6], abs=1e-3)
    for left, right in itertools.pairwise(first):
        assert left["x"] + left["width"] == pytest.approx(right["x"], abs=0.2)


def test_curves_rise_with_what_they_show(page: ModuleType) -> None:
    full(page)
    root = svg(page, "scale-memory")
    lines = {}
    for line in root.iter(f"{SVG}polyline"):
        points = [tuple(map(float, point.split(","))) for point in line.get("points").split()]
        lines[line.get("stroke-dasharray") is not None] = points
    for (x1, y1), (x2, y2) in lines.values():
        assert x1 < x2
        assert y1 > y2  # up is smaller
    peak, expected = lines[False], lines[True]
    assert all(p[1] < e[1] for p, e in zip(peak, expected, strict=True))
    labels = [text.text for text in root.iter(f"{SVG}text")]
    assert {"Peak memory", "MiB", "interactions", "mf, 2 threads, A"} <= set(labels)


def test_every_plot_stays_inside_its_frame(page: ModuleType) -> None:
    full(page)
    names = {path.stem for path in (page.ROOT / "docs" / "performance").glob("*.svg")}
    ratios = {"ratios-kernels", "ratios-evaluation", "ratios-epoch"}
    assert names == ratios | {"profile", "scale-time", "scale-memory"}
    for name in names:
        root = svg(page, name)
        _, _, width, height = map(float, root.get("viewBox").split())
        for box in boxes(root):
            assert 0 <= box["x"] <= box["x"] + box["width"] <= width
            assert 0 <= box["y"] <= box["y"] + box["height"] <= height
        for text in root.iter(f"{SVG}text"):
            assert 0 < float(text.get("y")) < height
            wide = 7 * len(text.text)
            left = {"end": wide, "middle": wide / 2}.get(text.get("text-anchor"), 0)
            assert 0 <= float(text.get("x")) - left <= width - wide


def test_a_stale_page_or_plot_is_noticed(page: ModuleType) -> None:
    full(page)
    page.main(["--check"])
    before = text_of(page)
    target = page.ROOT / "docs" / "performance.md"
    target.write_text(before.replace("121 ×", "151 ×"), encoding="utf-8")
    with pytest.raises(SystemExit, match=r"not what the record says: performance\.md"):
        page.main(["--check"])
    assert "151 ×" in text_of(page)
    target.write_text(before, encoding="utf-8")
    plot = page.ROOT / "docs" / "performance" / "profile.svg"
    for change in (lambda: plot.write_text("<svg/>", encoding="utf-8"), plot.unlink):
        change()
        with pytest.raises(SystemExit, match=r"says: profile\.svg"):
            page.main(["--check"])
    page.main([])
    page.main(["--check"])
    record(page, row("kernels: k", "8 of 1000 items", seconds=1))  # no ratio, no profile any more
    with pytest.raises(SystemExit, match=r"performance\.md, profile\.svg, ratios-epoch\.svg"):
        page.main(["--check"])
    page.main([])
    page.main(["--check"])
    assert list((page.ROOT / "docs" / "performance").iterdir()) == []


def test_the_committed_page_is_up_to_date(page: ModuleType) -> None:
    page.ROOT = ROOT
    page.main(["--check"])


def test_no_number_is_typed_outside_the_marks(page: ModuleType) -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(page.START)
    assert not re.search(r"\d", before + rest.partition(page.END)[2])
