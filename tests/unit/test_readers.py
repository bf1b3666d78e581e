"""Every format gives the same log; every broken file names its line."""

import datetime as dt
import re
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy.sparse import coo_matrix, csc_matrix, csr_matrix

from contrarec.data.readers import frame_kind, read_log
from contrarec.errors import DataError

PAIRS = [(3, 20), (3, 10), (1, 20), (3, 20)]
LOG = pl.DataFrame(PAIRS, schema=["user_id", "item_id"], orient="row")


def write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def pairs_of(log):
    return list(zip(log["user"].to_list(), log["item"].to_list(), strict=True))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.txt", "3 20 10\n1 20\n3 20\n"),
        ("log.csv", "user_id,item_id\n3,20\n3,10\n1,20\n3,20\n"),
        ("log.csv", "rating,ITEM,User\n5,20,3\n,10,3\n1,20,1\n1,20,3"),
        ("log.tsv", "uid\tiid\n3\t20\n3\t10\n1\t20\n3\t20\n"),
        (
            "log.inter",
            "user_id:token\titem_id:token\tr:float\n3\t20\t1\n3\t10\t\n1\t20\t1\n3\t20\t",
        ),
    ],
)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with-bom"])
def test_text_formats_agree(tmp_path, name, text, line_end, mark):
    path = write(tmp_path, name, mark + text.replace("\n", line_end).encode())
    log = read_log(path)
    assert pairs_of(log) == PAIRS
    assert log.dtypes == [pl.Int64, pl.Int64]
    assert log.columns == ["user", "item"]


@pytest.mark.parametrize("kind", ["polars", "pandas", "pyarrow", "lazy", "parquet"])
def test_frames_agree(tmp_path, kind):
    frame = LOG.with_columns(time=pl.Series([1, 2, 3, 4]), weight=pl.Series([1.0, 2.0, 3.0, 4.5]))
    source = {
        "polars": lambda: frame,
        "pandas": lambda: pd.DataFrame({name: frame[name].to_numpy() for name in frame.columns}),
        "pyarrow": frame.to_arrow,
        "lazy": frame.lazy,
        "parquet": lambda: frame.write_parquet(tmp_path / "x.parquet") or tmp_path / "x.parquet",
    }[kind]()
    log = read_log(source)
    assert pairs_of(log) == PAIRS
    assert log["time"].to_list() == [1, 2, 3, 4]
    assert log["weight"].to_list() == [1.0, 2.0, 3.0, 4.5]
    assert log.dtypes == [pl.Int64, pl.Int64, pl.Int64, pl.Float64]
    assert frame_kind(source) == (kind if kind in ("pandas", "pyarrow") else "polars")


@pytest.mark.parametrize("matrix_type", [csr_matrix, csc_matrix, coo_matrix])
def test_a_sparse_matrix_is_users_by_items(matrix_type):
    plain = read_log(matrix_type(np.array([[0, 1, 0], [1, 0, 1]])))
    assert sorted(pairs_of(plain)) == [(0, 1), (1, 0), (1, 2)]
    assert plain.columns == ["user", "item"]
    weighted = read_log(matrix_type(np.array([[0.0, 2.5], [1.0, 0.0]]))).sort("user")
    assert pairs_of(weighted) == [(0, 1), (1, 0)]
    assert weighted["weight"].to_list() == [2.5, 1.0]


def test_a_stored_zero_is_no_interaction():
    matrix = csr_matrix((np.array([1.0, 0.0]), ([0, 1], [0, 0])), shape=(2, 1))
    assert pairs_of(read_log(matrix)) == [(0, 0)]


def test_a_user_with_an_empty_list_adds_nothing(tmp_path):
    log = read_log(write(tmp_path, "x.txt", "7\n\n2 5\n3   \n \t\n2 6"))
    assert pairs_of(log) == [(2, 5), (2, 6)]
    assert read_log(write(tmp_path, "empty.txt", "")).height == 0
    assert read_log(write(tmp_path, "alone.txt", "7")).height == 0


def test_an_adjacency_list_with_leading_and_repeated_blanks(tmp_path):
    log = read_log(write(tmp_path, "x.txt", "\n\n  0\t1  2 \n10 003\n"))
    assert pairs_of(log) == [(0, 1), (0, 2), (10, 3)]


def test_a_large_adjacency_list_is_read_like_a_loop_would(tmp_path):
    rng = np.random.default_rng(0)
    lists = [rng.integers(0, 10 ** rng.integers(1, 9), rng.integers(0, 30)) for _ in range(500)]
    text = "".join(f"{user} {' '.join(map(str, items))}\n" for user, items in enumerate(lists))
    expected = [(user, int(item)) for user, items in enumerate(lists) for item in items]
    assert pairs_of(read_log(write(tmp_path, "x.txt", text))) == expected


def test_texts_that_are_integers_become_integers_unless_that_would_change_them(tmp_path):
    def ids(values):
        rows = "".join(f"{value},i1\n" for value in values)
        return read_log(write(tmp_path, "x.csv", "user_id,item_id\n" + rows))["user"]

    assert ids(["10", "9", "-1"]).to_list() == [10, 9, -1]
    for values in (["007", "8"], ["1.0", "2"], ["1", "x"], ["+1", "2"], ["9" * 20, "1"]):
        assert ids(values).to_list() == values


def test_quoted_fields_may_hold_separators_and_line_breaks(tmp_path):
    log = read_log(write(tmp_path, "x.csv", 'user_id,item_id\n"a,b","c\nd"\n"e ""f""",g\n'))
    assert pairs_of(log) == [("a,b", "c\nd"), ('e "f"', "g")]
    raw = read_log(write(tmp_path, "x.inter", 'user_id:token\titem_id:token\n"a\tb\n'))
    assert pairs_of(raw) == [('"a', "b")]


def test_blank_lines_of_a_table_are_skipped(tmp_path):
    log = read_log(write(tmp_path, "x.csv", "user_id,item_id\n1,2\n\n3,4\n\n"))
    assert pairs_of(log) == [(1, 2), (3, 4)]


def test_columns_can_be_named(tmp_path):
    path = write(tmp_path, "x.csv", "who,what,user_id,when\na,b,c,5\n")
    log = read_log(path, user="who", item="what", time="when")
    assert pairs_of(log) == [("a", "b")]
    assert log["time"].to_list() == [5]
    inter = write(tmp_path, "x.inter", "who:token\titem_id:token\twhen:float\na\tb\t5.5\n")
    log = read_log(inter, user="who", time="when")
    assert (pairs_of(log), log["time"].to_list()) == ([("a", "b")], [5.5])


NEW_YEAR = 1_704_067_200_000_000  # 2024-01-01 in microseconds


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["5", "12"], [5, 12]),
        (["5", "12.5"], [5.0, 12.5]),
        (["2024-01-01", "2024-01-02"], [NEW_YEAR, NEW_YEAR + 86_400_000_000]),
        (["2024-01-01 00:00:01", "2024-01-01"], [NEW_YEAR + 1_000_000, NEW_YEAR]),
        (["2024-01-01T00:00:00.000001", "2024-01-01T00:00"], [NEW_YEAR + 1, NEW_YEAR]),
        (
            ["2024-01-01T00:00:00Z", "2024-01-01T02:00:00+01:00"],
            [NEW_YEAR, NEW_YEAR + 3_600_000_000],
        ),
    ],
)
def test_times_in_texts(tmp_path, texts, expected):
    rows = "".join(f"1,{n},{text}\n" for n, text in enumerate(texts))
    log = read_log(write(tmp_path, "x.csv", "user_id,item_id,timestamp\n" + rows))
    assert log["time"].to_list() == expected


def test_times_in_frames():
    moments = [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 0, 0, 1)]
    expected = [NEW_YEAR, NEW_YEAR + 1_000_000]
    columns = {"user_id": [1, 2], "item_id": [1, 2], "ts": moments}
    frames = [pl.DataFrame(columns), pd.DataFrame(columns), pa.table(columns)]
    frames.append(pl.DataFrame(columns).with_columns(pl.col("ts").dt.replace_time_zone("UTC")))
    for frame in frames:
        assert read_log(frame)["time"].to_list() == expected
    days = pl.DataFrame(columns).with_columns(pl.col("ts").dt.date())
    assert read_log(days)["time"].to_list() == [NEW_YEAR, NEW_YEAR]


def test_ids_of_frames_keep_their_kind():
    frame = pd.DataFrame({"user": ["u2", "u1"], "item": pd.Categorical(["x", "y"])})
    assert pairs_of(read_log(frame)) == [("u2", "x"), ("u1", "y")]
    assert pairs_of(read_log(pl.DataFrame({"user": ["7"], "item": [8.0]}))) == [("7", 8)]


BROKEN = [
    ("x.txt", "1 2\n3 4 -5\n", ":2: expected non-negative integers .* got '-5'"),
    ("x.txt", "1 2\n\n3 4.5\n", ":3: .* got '4.5'"),
    ("x.txt", "user item\n1 2\n", ":1: .* got 'user'"),
    ("x.txt", "1,2\n", ":1: .* got '1,2'"),
    ("x.txt", "1 2\n3 1234567890123456789\n", ":2: .* got '1234567890123456789'"),
    ("x.txt", b"1 2\n3 \xff\n", ":2: .* got '\ufffd'"),
    ("x.txt", "1 2\r3 4\n", ":1: a carriage return within the line"),
    ("x.txt", "1 2\n3 4\x0b5\n", ":2: .* got"),
    ("x.csv", "", ":1: the file is empty"),
    ("x.csv", "user_id,item_id\n1,2\n3\n", ":3: `item_id` is missing"),
    ("x.csv", "user_id,item_id\n1,2\n\n,4\n", ":4: `user_id` is missing"),
    ("x.csv", 'user_id,item_id\n1,2\n"",4\n', ":3: `user_id` is missing"),
    ("x.csv", "user_id,item_id\n1,2\n3,4,5\n6,7,8\n", ":3: expected 2 fields, got 3"),
    ("x.csv", 'user_id,item_id\n1,"a\nb"\n3,4\n3,4,5\n', ":5: expected 2 fields, got 3"),
    ("x.csv", 'user_id,item_id\n1,2\n3,"4\n5,6\n', ":3: unexpected end of data"),
    ("x.csv", b"user_id,item_id\n1,2\n\xff,4\n", ":3: not UTF-8"),
    ("x.csv", "user,item,ts\n1,2,3\n1,3,soon\n", ":3: `ts` must be numbers or dates .* got 'soon'"),
    ("x.csv", "user,item,ts\n1,2,2024-01-01\n1,3,7\n", ":3: `ts` must be .* got '7'"),
    ("x.csv", "user,item,ts\n1,2,2024-13-01\n", ":2: `ts` must be .* got '2024-13-01'"),
    ("x.csv", "user,item,ts\n1,2,01/02/2024\n", ":2: `ts` must be .* got '01/02/2024'"),
    ("x.csv", "user,item,ts\n1,2,3\n1,3,\n", ":3: `ts` is missing"),
    ("x.csv", "user,item,ts\n1,2,2024-01-01T00:00Z\n1,3,2024-01-01T00:00\n", ":3: `ts` must be"),
    ("x.csv", "user,item,ts\n1,2,3\n1,3,nan\n", ":3: `ts` must be .* got 'nan'"),
    ("x.csv", "user,item,weight\n1,2,3\n1,3,inf\n", ":3: `weight` must be finite .* got 'inf'"),
    ("x.csv", "usr,item\n1,2\n", ":1: no column is called user_id .* Columns: usr, item"),
    ("x.inter", "user_id:token\titem_id:token\n1\t2\n3\n", ":3: `item_id` is missing"),
    ("x.parquet", "no parquet", ": not a sound Parquet file"),
    ("x.json", "{}", ": unknown file type '.json'"),
]


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_names_the_line(tmp_path, name, content, message):
    path = write(tmp_path, name, content)
    with pytest.raises(DataError, match=f"^{re.escape(str(path))}{message}") as caught:
        read_log(path)
    assert "\n" not in str(caught.value)


def test_a_missing_value_of_parquet_or_a_frame_names_the_row(tmp_path):
    frame = pl.DataFrame({"user_id": [1, None], "item_id": ["a", "b"]})
    frame.write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: row 2: `user_id` is missing"):
        read_log(tmp_path / "x.parquet")
    for given in (frame, frame.to_pandas(), frame.to_arrow()):
        with pytest.raises(DataError, match=r"^row 2: `user_id` is missing"):
            read_log(given)


WRONG_VALUES = [
    ({"user": [1.0, 1.5]}, "row 2: `user` must be texts or whole numbers, got 1.5"),
    ({"user": [1.0, float("nan")]}, "row 2: `user` is missing"),
    ({"user": ["a", ""]}, "row 2: `user` is missing"),
    ({"user": [None, None]}, "row 1: `user` is missing"),
    ({"user": [True, False]}, "`user` must be texts or whole numbers, got the type Boolean"),
    ({"user": [[1], [2]]}, "`user` must be texts or whole numbers, got the type List"),
    ({"ts": [1, None]}, "row 2: `ts` is missing"),
    ({"ts": [dt.timedelta(1), dt.timedelta(2)]}, "`ts` must be numbers or dates .* got the type D"),
    ({"weight": [1.0, float("inf")]}, "row 2: `weight` must be finite numbers, got inf"),
    ({"weight": [[1], [2]]}, "`weight` must be finite numbers, got the type List"),
]


@pytest.mark.parametrize(("columns", "message"), WRONG_VALUES)
def test_a_wrong_value_in_a_frame_names_the_row(columns, message):
    frame = pl.DataFrame({"user": [1, 2], "item": [1, 2]} | columns)
    for given in (frame, frame.to_arrow()):
        with pytest.raises(DataError, match=message):
            read_log(given)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"user": [1, "a"], "item": [1, 2]}), "`user` must hold values of one type"),
        (pd.DataFrame({"user": [1, 2], "item": [1, None]}), "row 2: `item` is missing"),
        (
            pd.DataFrame({"user": pd.array([1, None], dtype="Int64"), "item": [1, 2]}),
            "row 2: `user` is missing",
        ),
        (
            pd.DataFrame({"user": [1, 2], "item": [1, 2], "ts": [pd.Timestamp(0), pd.NaT]}),
            "row 2: `ts` is missing",
        ),
        (pd.DataFrame([[1, 2, 3]], columns=["user", "item", "item"]), "cannot be read: .*'item' 2"),
    ],
)
def test_what_only_pandas_can_hold(frame, message):
    with pytest.raises(DataError, match=message) as caught:
        read_log(frame)
    assert "\n" not in str(caught.value)


def test_a_column_that_is_not_there_is_answered_with_the_nearest():
    with pytest.raises(DataError, match=r"unknown column 'user' \(did you mean 'user_id'"):
        read_log(LOG, user="user")
    with pytest.raises(DataError, match="'user_id' is asked for twice"):
        read_log(LOG, user="user_id", item="user_id")
    with pytest.raises(DataError, match=r"no column is called item_id or .* holds the items"):
        read_log(LOG, user="item_id")


def test_what_is_no_log_at_all(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_log(tmp_path / "nothing.csv")
    with pytest.raises(DataError, match="got list"):
        read_log([(1, 2)])
    path = write(tmp_path, "x.txt", "1 2\n")
    with pytest.raises(DataError, match="an adjacency list has no columns: no time 'ts'"):
        read_log(path, time="ts")


def test_reading_300_000_interactions_takes_well_under_a_second(data_dir):
    path = data_dir("tencent-lite") / "train.txt"
    start = time.process_time()  # of this process alone: the machine may be busy
    log = read_log(path)
    assert log.height == 295_505
    assert time.process_time() - start < 0.5


def test_pandas_is_not_imported_for_reading_files(tmp_path):
    path = write(tmp_path, "x.csv", "user_id,item_id\n1,2\n")
    code = (
        "import sys; from contrarec.data.readers import read_log; "
        f"read_log({str(path)!r}); print('pandas' in sys.modules, 'pyarrow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
