"""`contrarec report`, and `--report` and `--track` of the commands that have them."""

import json
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from browser import BrowserPage
from cli.tools import FAST, Answer
from contrarec import runs
from contrarec.cli import main
from contrarec.config import parse_override
from contrarec.report.blocks import Chart, Page, Table
from contrarec.report.comparison import comparison_page
from contrarec.report.run import run_page
from contrarec.settings import resolve_settings
from contrarec.training.metrics_log import read_log

Call = Callable[..., Answer]


@pytest.fixture(scope="module")
def compared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison of three methods, one of them a baseline."""
    path = tmp_path_factory.mktemp("compared") / "table"
    pairs = (pair for pair in (*FAST, "epochs=4") if not pair.startswith(("adv_", "tau")))
    general = ["--threads", "1", *(f"--set={pair}" for pair in pairs)]
    command = ["compare", str(folder), "--methods", "infonce,advinfonce,popularity", "--seeds", "2"]
    assert main([*command, *general, "--out", str(path)]) == 0
    return path


def tables(page: Page) -> dict[str, list[dict[str, Any]]]:
    """Title → rows of every table."""
    return {
        block.title: [dict(zip(block.columns, row, strict=True)) for row in block.rows]
        for section in page.sections
        for block in section.blocks
        if isinstance(block, Table)
    }


def charts(page: Page) -> dict[str, Chart]:
    return {
        block.title: block
        for section in page.sections
        for block in section.blocks
        if isinstance(block, Chart)
    }


def payloads(path: Path) -> list[dict[str, Any]]:
    """The charts of a report that was written."""
    found = re.findall(
        r'<script type="application/json">(.*?)</script>', path.read_text(encoding="utf-8")
    )
    return [json.loads(text) for text in found]


class TestRun:
    def test_a_report_of_a_run(self, contrarec: Call, run: Path, tmp_path: Path) -> None:
        answer = contrarec("report", run, "--out", tmp_path / "r.html", "--json")
        assert answer.status == 0
        found = json.loads(answer.out)
        assert found["kind"] == "run"
        assert found["report"] == str(tmp_path / "r.html")
        assert found["bytes"] == (tmp_path / "r.html").stat().st_size < 6_000_000
        assert found["notes"] == []
        first = json.loads(contrarec("evaluate", run, "--json").out)["sets"]["ood"]
        rows = {
            (row["set"], row["metric"]): row for row in payloads(tmp_path / "r.html")[0]["rows"]
        }
        mean, ends = first["metrics"]["recall@10"], first["intervals"]["recall@10"]
        shown = rows["ood", "recall@10"]
        assert (shown["mean"], [shown["low"], shown["high"]]) == (mean, ends)

    def test_groups_are_those_of_evaluate(self, contrarec: Call, run: Path, tmp_path: Path) -> None:
        contrarec("report", run, "--out", tmp_path / "r.html")
        measured = json.loads(contrarec("evaluate", run, "--json").out)["sets"]
        shown = payloads(tmp_path / "r.html")[1]["rows"]
        assert {row["group"] for row in shown} == {"head", "middle", "tail"}
        for row in shown:
            group = measured[row["set"]]["groups"][row["group"]]
            assert row["mean"] == group["metrics"][row["metric"]]
            assert [row["low"], row["high"]] == group["intervals"][row["metric"]]

    def test_a_run_of_a_comparison_shows_the_sets_that_its_training_did_not_look_at(
        self, contrarec: Call, compared: Path, tmp_path: Path
    ) -> None:
        run = compared / "mf-infonce-0"
        assert set(runs.read_result(run)["metrics"]) == {"valid"}
        contrarec("report", run, "--out", tmp_path / "r.html")
        measured = json.loads(contrarec("evaluate", run, "--json").out)["sets"]
        shown = payloads(tmp_path / "r.html")[0]["rows"]
        assert {row["set"] for row in shown} == set(measured) > {"valid"}
        for row in shown:
            assert row["mean"] == measured[row["set"]]["metrics"][row["metric"]]
        text = (tmp_path / "r.html").read_text(encoding="utf-8")
        assert re.search(r"ood: recall@\d+ is ", text)

    def test_the_course_is_that_of_the_log(self, run: Path) -> None:
        page, log = run_page(run, {}), read_log(run / "metrics.jsonl")
        course = charts(page)["Metrics per epoch"]
        wanted = {
            (line["epoch"], name, metric): value
            for line in log
            for name, metrics in line.get("metrics", {}).items()
            for metric, value in metrics.items()
        }
        shown = {(row["epoch"], row["set"], row["metric"]): row["value"] for row in course.rows}
        assert shown == wanted
        assert len({epoch for epoch, _, _ in shown}) == 2
        best = runs.read_result(run)["best_epoch"]
        assert course.spec["layer"][0]["encoding"]["x"] == {"datum": best}
        losses = charts(page)["Loss per epoch"].rows
        assert [r["loss"] for r in losses if r["of"] == "model"] == [x["loss"] for x in log]
        assert [r["epoch"] for r in losses if r["of"] == "adversary"] == [
            line["epoch"] for line in log if "adversary_loss" in line
        ]
        spread = charts(page)["How far the weights of negatives are from uniform"].rows
        assert [row["mean"] for row in spread] == [x["kl"]["mean"] for x in log if "kl" in x]

    def test_the_command_trains_the_same_again(self, run: Path) -> None:
        page = run_page(run, {})
        words = shlex.split(page.commands[0])
        options = dict(zip(words[3::2], words[4::2], strict=True))
        pairs = [parse_override(words[n + 1]) for n, word in enumerate(words) if word == "--set"]
        again = resolve_settings(
            backbone=options["--backbone"],
            loss=options["--loss"],
            seed=int(options["--seed"]),
            overrides=dict(pairs),
        )
        assert again == runs.read_settings(run)[0]
        assert words[:2] == ["contrarec", "train"]
        assert Path(words[2]).is_dir()
        changed = {row["setting"] for row in tables(page)["Every setting of the run"]
                   if row["changed"]}  # fmt: skip
        assert changed == {key for key, _ in pairs}

    def test_without_its_data_it_has_no_intervals_and_says_so(
        self, contrarec: Call, run: Path, tmp_path: Path
    ) -> None:
        moved = tmp_path / "moved"
        shutil.copytree(run, moved)
        config = (moved / "config.toml").read_text(encoding="utf-8")
        path = runs.read_settings(run)[1].path
        (moved / "config.toml").write_text(config.replace(path, "/gone/away"), encoding="utf-8")
        answer = contrarec("report", moved, "--json")
        assert answer.status == 0
        assert "/gone/away: not there" in json.loads(answer.out)["notes"][0]
        assert {row["low"] for row in payloads(moved / "report.html")[0]["rows"]} == {None}
        assert "not at hand" in (moved / "report.html").read_text(encoding="utf-8")

    def test_a_baseline_has_no_course(self, contrarec: Call, folder: Path, tmp_path: Path) -> None:
        out = tmp_path / "run"
        answer = contrarec("train", folder, "--loss", "popularity", "--out", out, "--report",
                           "--json")  # fmt: skip
        assert json.loads(answer.out)["report"] == str(out / "report.html")
        page = run_page(out, {})
        assert "The course of training" not in {section.title for section in page.sections}
        assert page.title == "popularity on tiny"
        assert "--backbone" not in page.commands[0]
        assert len(payloads(out / "report.html")) == 2

    def test_with_nothing_to_evaluate_on_there_is_the_loss(
        self, contrarec: Call, folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "alone").mkdir()
        shutil.copy(folder / "train.txt", tmp_path / "alone")
        out = tmp_path / "run"
        start = ["train", tmp_path / "alone", "--loss", "bpr", "--out", out, "--report"]
        assert contrarec(*start, "--set", "epochs=2", "--set", "dim=8").status == 0
        assert [found["title"] for found in payloads(out / "report.html")] == ["Loss per epoch"]
        assert "not at hand" not in (out / "report.html").read_text(encoding="utf-8")

    def test_an_unfinished_run(self, contrarec: Call, run: Path, tmp_path: Path) -> None:
        shutil.copytree(run, tmp_path / "run")
        (tmp_path / "run" / "result.json").unlink()
        (tmp_path / "run" / "model.safetensors").unlink()
        answer = contrarec("report", tmp_path / "run")
        assert answer.status == 2
        assert "training has not finished" in answer.err


class TestComparison:
    def test_a_report_of_a_comparison(
        self, contrarec: Call, compared: Path, tmp_path: Path
    ) -> None:
        answer = contrarec("report", compared, "--out", tmp_path / "c.html", "--json")
        assert json.loads(answer.out)["kind"] == "comparison"
        assert [found["title"] for found in payloads(tmp_path / "c.html")] == [
            "Quality of each method", "How far each method is from the best",
            "Seconds against quality",
        ]  # fmt: skip

    def test_means_and_seeds(self, compared: Path) -> None:
        found = json.loads((compared / "comparison.json").read_text(encoding="utf-8"))
        page = comparison_page(compared)
        shown = charts(page)["Quality of each method"].rows
        for row in found["rows"]:
            values = row["metrics"]["ood"]["ndcg@10"]
            mine = [
                point for point in shown
                if (point["method"], point["metric"]) == (row["method"], "ndcg@10")
            ]  # fmt: skip
            assert [point["value"] for point in mine] == values["values"]
            assert [point["seed"] for point in mine] == [0, 1]
            assert {point["mean"] for point in mine} == {values["mean"]}
            assert mine[0]["high"] - mine[0]["mean"] == pytest.approx(values["sd"])
        cost = {row["method"]: row for row in tables(page)["Time and epochs"]}
        assert cost["popularity"]["epochs"] == 0
        assert cost["infonce"]["epochs"] == 4

    def test_differences_are_to_the_best_and_say_what_the_leaders_say(
        self, compared: Path, tmp_path: Path
    ) -> None:
        found = json.loads((compared / "comparison.json").read_text(encoding="utf-8"))
        place = {"backbone": "mf", "test": "ood", "metric": "recall@10"}
        contrast = {"p": 0.01, "p_holm": 0.03, "difference": 0.2, "low": 0.1, "high": 0.4}
        found["leaders"] = [place | {"best": "advinfonce", "methods": ["advinfonce", "popularity"]}]
        found["contrasts"] = [
            place | contrast | {"method": "advinfonce", "against": "infonce"},
            place | contrast | {"method": "infonce", "against": "advinfonce", "p_holm": 0.5},
            place | contrast | {"method": "advinfonce", "against": "popularity", "p_holm": 0.2},
            place | contrast | {"method": "advinfonce", "against": "infonce", "metric": "hit@10"},
        ]
        (tmp_path / "comparison.json").write_text(json.dumps(found), encoding="utf-8")
        first, second = tables(comparison_page(tmp_path))["Differences to the best"]
        assert (first["method"], first["best"]) == ("infonce", "advinfonce")
        assert (first["difference"], first["95 % from"], first["to"]) == (-0.2, -0.4, -0.1)
        assert (first["p"], first["verdict"]) == (0.03, "beaten")
        assert (second["method"], second["p"]) == ("popularity", 0.2)
        assert second["verdict"] == "not beaten"

    def test_the_command_compares_the_same_again(self, compared: Path, contrarec: Call) -> None:
        page = comparison_page(compared)
        assert page.commands[0].startswith("contrarec compare /")
        before = (compared / "comparison.json").read_bytes()
        answer = contrarec(*shlex.split(page.commands[0])[1:])
        assert answer.status == 0
        assert answer.err.count("finished before") == 6
        assert (compared / "comparison.json").read_bytes() == before

    def test_compare_writes_it_itself(self, contrarec: Call, compared: Path) -> None:
        command = shlex.split(comparison_page(compared).commands[0])[1:]
        found = json.loads(contrarec(*command, "--report", "--json").out)
        assert found["report"] == str(compared / "report.html")
        assert (compared / "report.html").stat().st_size > 500_000


def drawn(browser_page: BrowserPage, path: Path) -> list[int]:
    """How many points each chart of a report shows in a browser, which has nothing to object."""
    browser_page.page.goto(path.as_uri())
    browser_page.page.wait_for_selector("html[data-drawn]")
    assert browser_page.errors == browser_page.requests == []
    figures = browser_page.page.locator("figure")
    points = ".plot > svg .mark-symbol.role-mark path"
    return [figures.nth(n).locator(points).count() for n in range(figures.count())]


class TestInABrowser:
    def test_a_run(
        self, contrarec: Call, run: Path, tmp_path: Path, browser_page: BrowserPage
    ) -> None:
        contrarec("report", run, "--out", tmp_path / "r.html")
        n_epochs, n_spread = 10, sum("kl" in line for line in read_log(run / "metrics.jsonl"))
        n_losses = n_epochs + sum("adversary_loss" in x for x in read_log(run / "metrics.jsonl"))
        # 2 sets; 3 groups of both; 2 evaluations of both
        assert drawn(browser_page, tmp_path / "r.html") == [2, 6, 4, n_losses, n_spread]
        figure = browser_page.page.locator("figure").first
        before = figure.locator(".mark-symbol.role-mark path").first.get_attribute("transform")
        figure.locator("select").select_option("mrr@5")
        moved = figure.locator(f'.mark-symbol.role-mark path:not([transform="{before}"])')
        moved.first.wait_for(state="attached")
        assert figure.locator(".mark-symbol.role-mark path").count() == 2

    def test_a_comparison(
        self, contrarec: Call, compared: Path, tmp_path: Path, browser_page: BrowserPage
    ) -> None:
        contrarec("report", compared, "--out", tmp_path / "c.html")
        # 3 methods, a point for each of 2 seeds at the mean; 2 others than the best; 3 methods
        assert drawn(browser_page, tmp_path / "c.html") == [6, 2, 3]


class TestRefusals:
    def refused(self, answer: Answer) -> str:
        assert answer.status == 2
        assert len(answer.err.splitlines()) == 1
        return answer.err

    def test_neither_run_nor_comparison(self, contrarec: Call, tmp_path: Path) -> None:
        assert "neither a run nor a comparison" in self.refused(contrarec("report", tmp_path))

    def test_a_damaged_comparison(self, contrarec: Call, tmp_path: Path) -> None:
        (tmp_path / "comparison.json").write_text("{", encoding="utf-8")
        assert "comparison.json: damaged" in self.refused(contrarec("report", tmp_path))

    def test_no_folder_for_it(self, contrarec: Call, run: Path, tmp_path: Path) -> None:
        answer = contrarec("report", run, "--out", tmp_path / "no" / "r.html")
        assert "--out: no folder" in self.refused(answer)

    def test_what_is_missing_is_said_before_training(
        self, contrarec: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "vl_convert", None)
        monkeypatch.setitem(sys.modules, "mlflow", None)
        start = ["train", folder, "--out", tmp_path / "run"]
        for option, extra in (["--report"], "report"), (["--track", "mlflow"], "track"):
            line = self.refused(contrarec(*start, *option))
            assert f"pip install 'contrarec[{extra}]'" in line
        assert "pip install 'contrarec[report]'" in self.refused(contrarec("report", tmp_path))
        assert not list(tmp_path.iterdir())

    def test_unknown_tracking(self, contrarec: Call, folder: Path, tmp_path: Path) -> None:
        start = ["train", folder, "--out", tmp_path / "run"]
        answer = contrarec(*start, "--track", "tensorbord")
        assert "did you mean 'tensorboard'" in self.refused(answer)
        assert "--track" in self.refused(contrarec(*start, "--track-to", "x"))
        assert not list(tmp_path.iterdir())
