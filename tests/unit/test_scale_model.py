"""The cost model counts what a step costs; the page's figures are what it says."""

import json
from dataclasses import replace

import pytest

from benchmarks import scale_calibrate, scale_page, worker_quality, workers
from benchmarks.scale_model import Hardware, Load, cost

MACHINE = Hardware(
    name="m", source="s", flops=1e9, spread_flops=2e9, draws=1e6, hashes=1e7, memory_rate=1e8,
    memory=1e9, network=1e8, latency=1e-3, together=2,
)  # fmt: skip
LOAD = Load(interactions=1000, users=100, items=50, dim=10, batch_size=200, n_neg=4)


def test_one_worker_by_hand():
    found = cost(LOAD, MACHINE, 1)
    assert found.steps == 5
    assert found.scores == pytest.approx(6 * 200 * 5 * 10 / 1e9)
    assert found.drawing == pytest.approx(1000 / 1e6)
    assert found.adam == pytest.approx((100 + 50) * 10 * 4 * 7 / 1e8)
    assert found.exchange == found.received == found.propagation == 0


def test_several_workers_by_hand():
    found = cost(LOAD, MACHINE, 4)  # of two cores: everything takes twice as long
    assert found.scores == pytest.approx(2 * 6 * 50 * 5 * 10 / 1e9)
    assert found.drawing == pytest.approx(2 * (250 / 1e6 + 200 / 1e7))
    assert found.received == 2 * 50 * 10 * 4  # 5 pairs an item: the whole table is less
    assert found.exchange == pytest.approx(2 * (2 * 1e-3 + 4000 / 1e8))
    # 100 of 100,000 rows, nearly, from each of 4 workers, with their numbers
    sparse = cost(replace(LOAD, items=100_000, batch_size=80), replace(MACHINE, together=9), 4)
    assert sparse.received == pytest.approx(4 * 100 * (10 * 4 + 8), rel=1e-3)


def test_a_graph_by_hand():
    found = cost(replace(LOAD, layers=2), MACHINE, 2)
    assert found.propagation == pytest.approx(8 * 2 * 500 * 10 / 2e9)
    assert found.received == 5 * 2 * 50 * 10 * 4


def test_lazy_adam_moves_what_was_touched():
    load = replace(LOAD, users=200_000, batch_size=10)
    found = cost(load, MACHINE, 1)
    touched = 10 + 50 * (1 - 0.98**50)  # nearly; 50 pairs over 50 items
    assert found.adam == pytest.approx(touched * 10 * 4 * 7 / 1e8, rel=0.02)


def test_what_is_sharded_is_divided():
    load = replace(LOAD, items=10_000_000, users=1_000_000)
    whole, shards = (cost(load, MACHINE, 4, items) for items in ("copies", "sharded"))
    tables = 4 * 4 * 10 * 10_000_000
    assert whole.memory - shards.memory == pytest.approx(tables * 3 / 4)
    assert shards.received < whole.received


def test_calibration_measures_every_rate_of_the_model():
    rates = scale_calibrate.calibrate(short=True)
    assert rates.keys() == Hardware.__dataclass_fields__.keys() - {
        "name", "source", "memory", "together"
    }  # fmt: skip
    assert all(value > 0 for value in rates.values())


def test_the_committed_page_is_what_the_records_say():
    scale_page.main(["--check"])


def test_a_page_that_is_out_of_date_is_noticed(tmp_path, monkeypatch):
    path = tmp_path / "scale.md"
    path.write_text(scale_page.PAGE.read_text().replace("×", "x"))
    monkeypatch.setattr(scale_page, "PAGE", path)
    with pytest.raises(SystemExit, match=r"scale\.md: out of date"):
        scale_page.main(["--check"])
    before, _, _ = path.read_text().partition(scale_page.START)
    scale_page.main([])
    scale_page.main(["--check"])
    assert path.read_text().startswith(before)


def rows(*seconds):
    about = {
        "date": "2026-01-02T",
        "commit": "c",
        "machine": "M",
        "cpu": "C",
        "load": 0.0,
        "threads": 1,
    }
    shape = {"backbone": "mf", "loss": "infonce", "interactions": 1000.0, "users": 100.0}
    shape |= {"items": 50.0, "dim": 10.0, "batch_size": 200.0, "n_neg": 4.0}
    return [
        about | shape | {
            "workers": n, "seconds": s, "rows_per_second": 1000 / s, "peak_mib": 100 - n,
            "communicating": 0.25, "mib_received": 1.5,
        }
        for n, s in zip((0, 1, 2), seconds, strict=True)
    ]  # fmt: skip


def test_targets_are_met_or_missed():
    text = scale_page.targets(rows(10, 11.4, 7))
    assert "plain command: 1.14, met." in text
    assert "as fast as one: 1.63, met." in text
    text = scale_page.targets(rows(10, 11.6, 7.3))
    assert "plain command: 1.16, **missed**." in text
    assert "as fast as one: 1.59, **missed**." in text
    table = scale_page.measured_table(rows(10, 11, 5), MACHINE)
    cells = [cell.strip() for cell in table.splitlines()[4].split("|")]
    assert cells[1:6] == ["2", "5.0", "200", "2.00", "2.20"]
    assert cells[6] == "1"
    assert cells[8] == "25%"  # after the load


def test_of_several_runs_the_median_one_stands_on_the_page(tmp_path, monkeypatch):
    several = [row for seconds in ((9, 8, 4), (12, 7, 5), (10, 6, 6)) for row in rows(*seconds)]
    for row in several:
        row["peak_mib"] += row["seconds"]
    monkeypatch.setattr(scale_page, "RECORD", tmp_path / "workers.csv")
    workers.append(scale_page.RECORD, several)
    found = scale_page.measured()
    assert [row["seconds"] for row in found] == [10, 7, 5]
    assert [row["peak_mib"] for row in found] == [110, 106, 103]  # of that run
    table = scale_page.measured_table(found, MACHINE)
    assert "3: 9.0 to 12.0" in table


def test_the_quality_table_counts_what_is_within_the_interval(tmp_path, monkeypatch):
    path = tmp_path / "workers.json"
    row = {"data": "coat", "backbone": "mf", "loss": "bpr", "best_epoch": 4}
    found = [
        row | {"workers": 0, "ndcg@20": {"ood": 0.5}, "intervals": {"ood": [0.4, 0.6]}},
        row | {"workers": 1, "ndcg@20": {"ood": 0.6}},
        row | {"workers": 2, "ndcg@20": {"ood": 0.61}, "best_epoch": 3},
    ]
    about = {"date": "2026-01-02T", "commit": "c"}
    path.write_text(
        json.dumps({"about": about, "schedules": worker_quality.SCHEDULES, "rows": found})
    )
    monkeypatch.setattr(scale_page, "QUALITY", path)
    *_, table, said = scale_page.quality_part()
    assert said == "1 of 2 values are within the plain command's interval."
    assert ".6000" in table
    assert "3, 4" in table


def test_the_synthetic_log_has_as_many_distinct_pairs_as_were_asked_for(tmp_path):
    import polars as pl

    workers.write_log(tmp_path, 8_000, 400, 100)
    log = pl.read_parquet(tmp_path / "train" / "*.parquet")
    assert len(log) == log.n_unique() == 8_000
    counts = log["item_id"].value_counts(sort=True)["count"]
    assert counts[0] > 4 * counts[50]


def test_the_record_keeps_what_it_had(tmp_path):
    row = dict.fromkeys(workers.COLUMNS, 1)
    workers.append(tmp_path / "r.csv", [row])
    workers.append(tmp_path / "r.csv", [row, row])
    lines = (tmp_path / "r.csv").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0].split(",") == list(workers.COLUMNS)
