"""Propensities: estimated, read from files, taken from a column; what is refused."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contrarec.audit.propensity import (
    column_propensities,
    log_counts,
    power_law,
    read_propensities,
)
from contrarec.data.dataset import Dataset
from contrarec.errors import ConfigError, DataError

TRAIN = [("u1", "a"), ("u1", "b"), ("u2", "a")]
TEST = [("u2", "b"), ("u1", "c")]


def frame(pairs: list[tuple[str, str]], values: list[float] | None = None) -> pl.DataFrame:
    table = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    return table if values is None else table.with_columns(p=pl.Series(values))


@pytest.fixture
def data() -> Dataset:
    return Dataset.from_parts(train=frame(TRAIN), tests={"id": frame(TEST)}, name="tiny")


def test_the_power_law_by_hand() -> None:
    # γ = 3: p ∝ n²
    found = power_law(np.array([4, 2, 0, 1]), gamma=3.0)
    assert found.by_item is not None
    assert found.by_item[[0, 1, 3]] == pytest.approx([1, 0.25, 0.0625])
    assert np.isnan(found.by_item[2])
    assert not found.absolute
    assert "γ = 3" in found.source
    uniform = power_law(np.array([4, 2, 0, 1]), gamma=-1.0).by_item
    assert uniform is not None
    assert uniform[[0, 1, 3]].tolist() == [1, 1, 1]
    with pytest.raises(ConfigError, match=r"`gamma` must be at least -1 .* got -1.5"):
        power_law(np.array([1]), gamma=-1.5)


def test_the_log_is_counted_once(data: Dataset) -> None:
    assert log_counts(data, ("id",)).tolist() == [2, 2, 1]
    assert log_counts(data, ("train", "id", "id")).tolist() == [2, 2, 1]
    assert log_counts(data, ()).tolist() == [2, 1, 0]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
def test_propensities_of_items(data: Dataset, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"p.{suffix}"
    table = pl.DataFrame({"propensity": [0.5, 0.25, 1.0, 0.1], "item": ["c", "b", "zz", "a"]})
    if suffix == "parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path, separator="\t" if suffix == "tsv" else ",")
    found = read_propensities(path, data)
    assert found.absolute
    # the test's positives in the order of user and item: (u1, c), (u2, b)
    assert found.of(data.tests["id"].truth, "id").tolist() == [0.5, 0.25]


def test_propensities_of_pairs(data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(
        "user_id,item_id,propensity\nu2,b,.2\nu9,b,.9\nu1,b,.3\nu1,c,.4\n", encoding="utf-8"
    )
    assert read_propensities(path, data).of(data.tests["id"].truth, "id").tolist() == [0.4, 0.2]
    path.write_text("user_id,item_id,propensity\nu2,a,.2\nu1,c,.4\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"nothing about 1 of 2 .* user 'u2' and item 'b'"):
        read_propensities(path, data).of(data.tests["id"].truth, "id")


def test_whole_numbers_as_ids(tmp_path: Path) -> None:
    pairs = pl.DataFrame({"user_id": [7, 8], "item_id": [30, 4]})
    data = Dataset.from_parts(train=pairs, tests={"id": pairs})
    path = tmp_path / "p.csv"
    path.write_text("item_id,propensity\n4,.5\n30,.25\n", encoding="utf-8")
    assert read_propensities(path, data).of(data.tests["id"].truth, "id").tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item_id,propensity\na,0\n", r"must be above 0 and at most 1, got '0' in row 1"),
        ("item_id,propensity\na,.1\nb,1.2\n", r"got '1.2' in row 2"),
        ("item_id,propensity\na,x\n", r"got 'x' in row 1"),
        ("item_id,propensity\na,.1\na,.2\n", r"given twice"),
        ("item_id,p\na,.1\n", r"no column is called propensity; columns: item_id, p"),
        ("thing,propensity\na,.1\n", r"no column is called item_id or item"),
        ("item_id,propensity\nzz,.1\n", r"none of its ids is in the data"),
        ("item_id,propensity\na,.1\n", r"nothing about 2 of 2"),
    ],
)
def test_files_that_are_refused(data: Dataset, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as refused:
        read_propensities(path, data).of(data.tests["id"].truth, "id")
    assert str(path) in str(refused.value)


def test_other_files_are_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"p.txt: propensities must be .csv"):
        read_propensities(tmp_path / "p.txt", data)
    with pytest.raises(DataError, match=r"no.csv: cannot be read"):
        read_propensities(tmp_path / "no.csv", data)


def test_a_column_beside_the_interactions() -> None:
    data = Dataset.from_parts(
        train=frame(TRAIN, [0.5, 0.25, 0.5]), tests={"id": frame(TEST, [0.125, 0.5])}, weight="p"
    )
    found = column_propensities(data, "p")
    assert found.of(data.tests["id"].truth, "id").tolist() == [0.5, 0.125]  # (u1, c), (u2, b)
    assert found.absolute


def test_columns_that_are_refused() -> None:
    twice = Dataset.from_parts(train=frame([*TRAIN, TRAIN[0]], [0.5] * 4), weight="p")
    with pytest.raises(DataError, match="every pair once, got 1 repeated"):
        column_propensities(twice, "p")
    large = Dataset.from_parts(
        train=frame(TRAIN, [0.5] * 3), tests={"id": frame(TEST, [0.5, 2.0])}, weight="p"
    )
    with pytest.raises(DataError, match=r"column 'p': .* at most 1, got 2"):
        column_propensities(large, "p").of(large.tests["id"].truth, "id")
