"""The report of an audit: every figure is in it, and its charts are Vega-Lite."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audits import M, audit, method, set_info
from contrarec.audit.result import Audit
from contrarec.report.audit import POSITIVES, audit_page, write_report
from contrarec.report.blocks import Chart, Page, Table


@pytest.fixture(scope="module")
def made_up() -> Audit:
    methods = [method("infonce", 0.30, 0.20, 0.10), method("<b>", 0.28, 0.22, 0.14)]
    found = audit(methods, {("infonce", "<b>", "uniform"): 0.01}, notes=("id: few",))
    return replace(found, summary=("Short.",))


@pytest.fixture(scope="module")
def page(made_up: Audit) -> Page:
    return audit_page(made_up, ["contrarec audit log.csv"])


def blocks(page: Page, kind: type[Any]) -> dict[str, Any]:
    return {
        block.title: block
        for section in page.sections
        for block in section.blocks
        if isinstance(block, kind)
    }


def test_quality_against_shift(page: Page, made_up: Audit) -> None:
    chart = blocks(page, Chart)[f"{M} against shift"]
    assert len(chart.rows) == 2 * 3
    (row,) = [r for r in chart.rows if (r["method"], r["set"]) == ("<b>", "uniform")]
    assert row == {"method": "<b>", "set": "uniform", "shift": 0.5, "mean": 0.14,
                   "low": pytest.approx(0.13), "high": pytest.approx(0.15)}  # fmt: skip
    table = blocks(page, Table)[M]
    assert table.columns[:4] == ["method", "id", "g2", "uniform"]
    assert table.rows[0][:5] == ["infonce", 0.30, 0.20, 0.10, pytest.approx(0.15)]
    assert page.summary == made_up.summary
    assert page.commands == ["contrarec audit log.csv"]


def test_the_trade_off_sets_both_beside_one_another(page: Page) -> None:
    chart = blocks(page, Chart)[f"{M}: in distribution and under shift"]
    points = {row["method"]: (row["in distribution"], row["shifted"]) for row in chart.rows}
    assert points == {
        "infonce": (0.30, pytest.approx(0.15)), "<b>": (0.28, pytest.approx(0.18)),
    }  # fmt: skip


def test_lists_stand_beside_the_positives(page: Page) -> None:
    rows = blocks(page, Chart)["Head items in the lists"].rows
    assert [row["mean"] for row in rows if row["method"] == POSITIVES] == [0.2] * 3
    assert [row["mean"] for row in rows if row["method"] == "infonce"] == [0.4] * 3


def test_groups_differences_and_weighing(page: Page) -> None:
    tables = blocks(page, Table)
    groups = tables["recall@20 per group"].rows
    assert ["infonce", "g2", "head", 0.4] in [row[:4] for row in groups]
    differences = tables["Differences between methods"].rows
    assert [M, "uniform", "<b>", "infonce"] in [row[:4] for row in differences]
    (weighed,) = [t for title, t in tables.items() if title.startswith("Weighed")]
    assert "Worth 47 of 300 positives (Kish): too few" in weighed.note
    assert weighed.rows[0] == ["infonce", M, 0.3, 0.1, 0.9, 0.15, 0.1, 0.9, None, None, None]


def test_every_definition_is_in_it(page: Page, made_up: Audit) -> None:
    rows = blocks(page, Table)["Definitions"].rows
    assert dict(rows) == made_up.definitions()


def test_without_an_in_distribution_set_or_weights(made_up: Audit) -> None:
    methods = tuple(
        replace(method, metrics={k: v for k, v in method.metrics.items() if k != "id"})
        for method in made_up.methods
    )
    sets = (set_info("g2"), set_info("uniform"))
    bare = replace(made_up, reference=None, weighing=(), sets=sets, methods=methods)
    titles = blocks(audit_page(bare, []), Chart)
    assert f"{M}: in distribution and under shift" not in titles


def test_the_charts_are_vega_lite(page: Page) -> None:
    vl_convert = pytest.importorskip("vl_convert")
    charts = blocks(page, Chart)
    assert len(charts) == 5
    for title, chart in charts.items():
        spec = {**chart.spec, "data": {"values": json.loads(json.dumps(chart.rows))}}
        svg = vl_convert.vegalite_to_svg(spec)
        for label in ("infonce", "uniform") if "against" not in title else ("infonce",):
            if "distribution and" not in title or label == "infonce":
                assert label in svg, title


def test_one_file_without_what_names_could_do(made_up: Audit, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    write_report(made_up, tmp_path / "report.html", ["contrarec audit log.csv"])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;" in html
    assert "<b>" not in html.split("<script>")[0]
    assert "Short." in html
