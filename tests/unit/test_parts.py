"""Rows divided among workers at whole blocks, and their files joined."""

from pathlib import Path

import polars as pl
import pytest

from contrarec.distributed.parts import cut_rows, join_tables


@pytest.mark.parametrize("n_rows", [0, 1, 6, 7, 8, 20, 21, 22, 700])
@pytest.mark.parametrize("n_parts", [1, 2, 3, 50])
def test_parts_begin_where_a_block_of_the_whole_does(n_rows: int, n_parts: int) -> None:
    parts = cut_rows(n_rows, n_parts, 7)
    assert 1 <= len(parts) <= n_parts
    assert [row for part in parts for row in range(part.start, part.stop)] == list(range(n_rows))
    assert all(part.start % 7 == 0 for part in parts)
    sizes = [part.stop - part.start for part in parts]
    assert min(sizes) >= min(n_rows, 7)  # a part of less than a block would be ranked otherwise
    assert max(sizes) - min(sizes) < 14  # nobody has two blocks more than another
    assert len(parts) == max(1, min(n_parts, n_rows // 7))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_are_joined_in_their_order(tmp_path: Path, suffix: str) -> None:
    table = pl.DataFrame({"user_id": [f"u,{n % 5}\n" for n in range(40)], "score": range(40)})
    write = pl.DataFrame.write_csv if suffix == ".csv" else pl.DataFrame.write_parquet
    parts = [tmp_path / f"{name}{suffix}" for name in ("c", "a", "b")]
    for part, rows in zip(parts, (table[:13], table[13:13], table[13:]), strict=True):
        write(rows, part)
    write(table, tmp_path / f"whole{suffix}")
    out = tmp_path / f"out{suffix}"
    join_tables(parts, out)
    if suffix == ".csv":
        assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    else:
        assert pl.read_parquet(out).equals(table)
