"""Data that no process holds whole: the same blocks, ids, history and notes as read at once."""

import polars as pl
import pytest

from contrarec import Dataset, runs
from contrarec.cli.inputs import load_data
from contrarec.data.blocks import cut_points
from contrarec.distributed.parquet_parts import find_parted, is_parted
from contrarec.distributed.parted import Parted
from contrarec.distributed.shards import part_folder, read_block, write_blocks
from contrarec.errors import ConfigError, DataError
from contrarec.settings import resolve_settings
from contrarec.tensorfile import InPieces, load_tensors, save_tensors
from parquet_parts import read_whole, write_parts

pytest.importorskip("pyarrow")


def at_once(function, calls):
    return [function(*arguments) for arguments in calls]


def read_parted(folder, tmp_path, n=3, **sizes):
    sizes = {"batch_rows": 64, "partition_rows": 100} | sizes
    return Parted(find_parted(str(folder), {}), tmp_path / "scratch", n, at_once, **sizes)


@pytest.mark.parametrize(
    ("kind", "n_workers"), [("text", 1), ("text", 4), ("number", 2), ("mixed", 3)]
)
def test_blocks_are_those_of_the_data_read_whole(tmp_path, kind, n_workers):
    folder = write_parts(tmp_path / "log", kind)
    whole = read_whole(folder)
    parted = read_parted(folder, tmp_path, n_workers)
    settings = resolve_settings(backbone="mf", loss="infonce")
    assert parted.about.fingerprint == whole.fingerprint()
    parted.begin(tmp_path / "run", settings)
    history = runs.read_history(tmp_path / "run")
    assert history.users == whole.users
    assert history.items == whole.items
    assert (history.indptr == whole.train.indptr).all()
    assert (history.indices == whole.train.indices).all()

    parted.write_blocks(tmp_path / "ours", n_workers)
    write_blocks(tmp_path / "theirs", whole, n_workers)
    for rank in range(n_workers):
        (ours, block), (theirs, wanted) = (
            read_block(tmp_path / name, rank) for name in ("ours", "theirs")
        )
        assert (block.item_counts == wanted.item_counts).all()
        assert vars(block) | {"item_counts": 0} == vars(wanted) | {"item_counts": 0}
        assert ours.parts.keys() == theirs.parts.keys() == {"train", "valid", "test", "ood"}
        for name, log in theirs.parts.items():
            assert (ours.parts[name].keys == log.keys).all()
            assert ours.parts[name].n_users == log.n_users
        assert (ours.candidates == theirs.candidates).all()
    assert not (tmp_path / "scratch").exists()
    assert set(whole.notes) | {"notes.csv: no part, ignored"} == set(parted.notes)


def test_no_process_holds_more_than_a_batch_a_partition_or_a_block(tmp_path):
    folder = write_parts(tmp_path / "log")
    parted = read_parted(folder, tmp_path, 4)
    parted.write_blocks(tmp_path / "blocks", 4)
    found = parted.account["reading"]
    assert found["rows"] == sum(
        len(pl.read_parquet(file)) for file in folder.glob("*/[0-9].parquet")
    )
    assert found["files"] == 12
    assert found["partitions"] >= 4
    blocks = [
        len(pl.read_parquet(part_folder(tmp_path / "blocks", rank) / "train.parquet"))
        for rank in range(4)
    ]
    assert max(blocks) <= found["most_rows"] < found["rows"] / 3


def test_a_folder_of_parts_is_read_without_workers_too(tmp_path):
    folder = write_parts(tmp_path / "log", "number")
    (folder / "train" / "empty.parquet").unlink()  # its items are numbers, the others' texts
    read = Dataset.load(folder)
    whole = read_whole(folder)
    assert read.fingerprint() == whole.fingerprint()
    assert read.parts.keys() == whole.parts.keys()
    assert set(read.notes) == set(whole.notes) | {"notes.csv: no part, ignored"}


def test_an_address_is_a_folder_elsewhere(tmp_path):
    folder = write_parts(tmp_path / "log")
    address = folder.as_uri()
    assert is_parted(address)
    assert is_parted(str(folder))
    assert not is_parted(str(tmp_path / "nowhere"))
    assert find_parted(address, {}) == find_parted(str(folder), {})
    with pytest.raises(DataError, match=r"file://.*/log: an address is read by .* --workers alone"):
        load_data(address)


def test_nested_folders_and_single_files(tmp_path):
    folder = write_parts(tmp_path / "log")
    (folder / "train" / "day=1").mkdir()
    (folder / "train" / "0.parquet").rename(folder / "train" / "day=1" / "x.parquet")
    (folder / "test" / "1.parquet").unlink()
    (folder / "test" / "0.parquet").rename(folder / "test.parquet")
    files = find_parted(str(folder), {}).files
    assert len(files["train"]) == 6
    assert [file.rsplit("/", 1)[1] for file in files["test"]] == ["test.parquet"]


def wrong_value(folder):
    """In the second batch of the file."""
    users = [f"u{n % 9}" for n in range(70)] + [None]
    pl.DataFrame({"user_id": users, "item_id": ["x"] * 71}).write_parquet(
        folder / "train" / "9.parquet"
    )


def fullest(folder):
    items = [f"i{i}" for i in (*range(40), 777)]
    pl.DataFrame({"user_id": ["u15"] * 41, "item_id": items}).write_parquet(
        folder / "train" / "9.parquet"
    )


def nothing(folder):
    for file in (folder / "train").glob("[0-9].parquet"):
        file.unlink()


def column(folder):
    pl.DataFrame({"who": [1], "item_id": [1]}).write_parquet(folder / "valid" / "9.parquet")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (wrong_value, r"train/9\.parquet: row 71: `user_id` is missing"),
        (column, r"valid/9\.parquet: no column is called user_id or user"),
        (fullest, "train: user 'u15' has interacted with all 41 items"),
        (nothing, "train: no interactions to learn from"),
        (lambda f: (f / "train" / "3.parquet").write_bytes(b"no"), r"3\.parquet: cannot be read"),
        (lambda f: (f / "train" / "x.csv").touch(), r"x\.csv: with parts, every file must be"),
        (
            lambda f: (f / "valid.parquet").touch(),
            r"valid/0\.parquet: the part 'valid' is also in valid\.parquet",
        ),
        (lambda f: (f / "train").rename(f / "trains"), r"no train; expected train/\*\.parquet"),
        (lambda f: (f / "not_candidate.txt").write_text("a b"), r"txt:1: expected one item id"),
    ],
)
def test_what_is_refused_is_one_line(tmp_path, spoil, says):
    folder = write_parts(tmp_path / "log")
    spoil(folder)
    with pytest.raises(DataError, match=says) as caught:
        read_parted(folder, tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("address", ["nowhere://bucket/log", "/no/such/folder", "file:///no/such"])
def test_no_such_place(address):
    with pytest.raises(DataError, match="cannot be read"):
        find_parted(address, {})


def test_more_workers_than_users_are_refused(tmp_path):
    parted = read_parted(write_parts(tmp_path / "log"), tmp_path)
    with pytest.raises(ConfigError, match=r"between 1 and the 59 users .* got 60"):
        parted.write_blocks(tmp_path / "blocks", 60)


class TestTensorsInPieces:
    def test_the_file_is_the_one_that_is_written_at_once(self, tmp_path):
        import torch

        table = torch.arange(21, dtype=torch.float32).reshape(7, 3)
        whole = {"b": table, "a": torch.tensor([5], dtype=torch.int64), "c": table.bfloat16()}
        pieces = InPieces(table.dtype, (7, 3), lambda: [table[:2], table[2:2], table[2:]])
        save_tensors(tmp_path / "whole", whole, {"x": 0.1})
        save_tensors(tmp_path / "pieces", whole | {"b": pieces}, {"x": 0.1})
        (ours, meta), (theirs, _) = (load_tensors(tmp_path / n) for n in ("pieces", "whole"))
        assert meta == {"x": 0.1}
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    def test_pieces_that_are_too_few(self, tmp_path):
        import torch

        short = InPieces(torch.float32, (7, 3), lambda: [torch.zeros(6, 3)])
        with pytest.raises(DataError, match="`b` must have 84 bytes, got pieces of 72"):
            save_tensors(tmp_path / "short", {"b": short}, {})
        assert not (tmp_path / "short").exists()


def test_cuts_are_those_of_the_whole(tmp_path):
    folder = write_parts(tmp_path / "log")
    counts = read_whole(folder).train.user_counts
    parted = read_parted(folder, tmp_path, 12)  # partitions of single users among them
    for n in (1, 2, 5, 12, 59):
        assert parted.cut_points(n) == cut_points(counts, n).tolist()
