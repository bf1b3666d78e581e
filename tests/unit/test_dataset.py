"""Data sets: what is in each part, what is masked, and the way to disk and back."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_matrix

from contrarec.data.dataset import Dataset, TestSet
from contrarec.data.interactions import Interactions
from contrarec.data.report import popularity_kl
from contrarec.data.splits import LeaveLastN, PopularityShift, Random
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import DataError


def by_id(log):
    users, items = log.users.take(log.rows), log.items.take(log.indices)
    return set(zip(users.to_list(), items.to_list(), strict=True))


@pytest.fixture
def folder(tmp_path):
    """Users 1, 2, 3; user 3 is only in `ood_1`, item 9 only in `test`, (1, 6) in train and test."""
    files = {
        "train.txt": "1 5 6 7\n2 5\n4\n",
        "valid.txt": "1 8\n",
        "test.txt": "1 6 9\n2 8\n",
        "test_ood_1.txt": "3 5 5\n",
        "README.md": "no data",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_folder_of_adjacency_lists(folder):
    data = Dataset.load(folder)
    assert (data.name, data.path, data.frame) == (folder.name, str(folder), "polars")
    assert data.users.ids.to_list() == [1, 2, 3]
    assert data.items.ids.to_list() == [5, 6, 7, 8, 9]
    assert list(data.tests) == ["test", "ood_1"]
    assert by_id(data.train) == {(1, 5), (1, 6), (1, 7), (2, 5)}
    assert by_id(data.valid.truth) == {(1, 8)}
    assert by_id(data.tests["test"].truth) == {(1, 6), (1, 9), (2, 8)}
    assert by_id(data.tests["ood_1"].truth) == {(3, 5)}
    for part in data.parts.values():
        assert part.users == data.users
        assert part.items == data.items


def test_what_is_masked_and_that_truth_never_is(folder):
    data = Dataset.load(folder)
    assert data.valid.masked == ("train",)
    assert by_id(data.valid.mask) == by_id(data.train)
    test = data.tests["test"]
    assert test.masked == ("train", "valid")
    assert by_id(test.mask) == {(1, 5), (1, 7), (1, 8), (2, 5)}  # (1, 6) is truth
    assert by_id(data.tests["ood_1"].mask) == by_id(data.train) | by_id(data.valid.truth)


def test_without_valid_only_train_is_masked():
    parts = {name: Dataset.from_csr(csr_matrix(np.eye(2))).train for name in ("train", "x")}
    data = Dataset.from_parts(train=parts["train"], tests={"x": parts["x"]})
    assert data.tests["x"].masked == ("train",)
    assert data.valid is None


def test_duplicates_and_unseen_ids_are_noted(folder):
    data = Dataset.load(folder)
    assert data.notes == (
        "ood_1: 1 repeated pairs collapsed",
        "valid: 0 users and 1 items without training interactions",
        "test: 0 users and 2 items without training interactions",
        "ood_1: 1 users and 0 items without training interactions",
    )
    parts = data.describe()["parts"]
    assert parts["ood_1"]["duplicates"] == 1
    assert (parts["test"]["unseen_users"], parts["test"]["unseen_items"]) == (0, 2)


def test_real_data_has_the_published_sizes(data_dir):
    sizes = {
        "coat": (290, 295, {"train": 1363, "valid": 553, "ood": 860}, 237),
        "yahoo-r3": (14382, 1000, {"train": 88684, "valid": 36393, "ood": 4671}, 2383),
    }
    for name, (n_users, n_items, interactions, test_users) in sizes.items():
        data = Dataset.load(data_dir(name))
        assert (data.n_users, data.n_items) == (n_users, n_items)
        assert {part: log.nnz for part, log in data.parts.items()} == interactions
        assert int((data.tests["ood"].truth.user_counts > 0).sum()) == test_users
        assert data.describe()["parts"]["ood"]["users"] == test_users


def test_test_sets_of_tencent_lite_are_found_in_order(data_dir):
    data = Dataset.load(data_dir("tencent-lite"))
    assert (data.n_users, data.n_items) == (95_623, 41_602)
    assert list(data.tests) == ["ood_1", "ood_2", "ood_3"]
    shift = [data.describe()["parts"][name]["popularity_kl"] for name in data.tests]
    assert 0 < shift[0] < shift[1] < shift[2]  # mildest to flattest, as its description says


def test_not_candidates(folder):
    (folder / "not_candidate.txt").write_text("7\n77\n\n9\n")
    data = Dataset.load(folder)
    for part in (data.valid, *data.tests.values()):
        assert data.items.take(part.candidates).to_list() == [5, 6, 8]
        assert part.candidates.dtype == np.int32
    assert "2 items are not candidates (1 more are not in the data)" in data.notes
    assert data.describe()["candidates"] == 3
    (folder / "not_candidate.txt").write_text("7\n8 9\n")
    with pytest.raises(DataError, match=r"not_candidate\.txt:2: expected one item id, got '8 9'"):
        Dataset.load(folder)


def test_candidates_outlive_a_split(folder):
    (folder / "not_candidate.txt").write_text("7\n")
    data = Dataset.load(folder).split(tests={"more": Random(fraction=0.3)})
    assert data.items.take(data.tests["more"].candidates).to_list() == [5, 6, 8, 9]


def test_parts_of_different_formats_and_types(tmp_path):
    (tmp_path / "train.csv").write_text("user_id,item_id\n7,1\nu8,2\n")
    (tmp_path / "test.txt").write_text("7 2\n")
    data = Dataset.load(tmp_path)
    assert data.users.ids.to_list() == ["7", "u8"]
    assert by_id(data.tests["test"].truth) == {("7", 2)}
    assert data.describe()["parts"]["test"]["unseen_users"] == 0


def test_files_that_are_no_part_are_named(folder):
    (folder / "tst_ood.txt").write_text("1 5\n")
    assert "tst_ood.txt: no part, ignored" in Dataset.load(folder).notes


def test_broken_folders(folder, tmp_path):
    (folder / "train.csv").write_text("user_id,item_id\n1,2\n")
    with pytest.raises(DataError, match=r"train\.txt: the part 'train' is also in train\.csv"):
        Dataset.load(folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match=r"no train file; expected one of train\.txt"):
        Dataset.load(empty)
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        Dataset.load(tmp_path / "nowhere")


def test_a_single_file_and_a_frame_are_train_only(folder):
    data = Dataset.load(folder / "train.txt")
    assert (data.name, data.valid, data.tests) == ("train", None, {})
    frame = pd.DataFrame({"who": ["b", "a", "b"], "what": [1, 2, 1], "n": [1.0, 2.0, 4.0]})
    data = Dataset.from_frame(frame, user="who", item="what", weight="n")
    assert data.frame == "pandas"
    assert by_id(data.train) == {("a", 2), ("b", 1)}
    assert data.train.weight.tolist() == [2.0, 5.0]
    with pytest.raises(DataError, match=r"unknown column 'wat' \(did you mean 'what'\?\)"):
        Dataset.from_frame(frame, user="who", item="wat")


def test_a_matrix_keeps_its_empty_rows_and_columns():
    matrix = csr_matrix(([1.0, 2.0], ([0, 2], [1, 3])), shape=(4, 5))
    data = Dataset.from_csr(matrix)
    assert (data.n_users, data.n_items) == (4, 5)
    assert np.array_equal(data.train.to_scipy().toarray(), matrix.toarray())


def test_interactions_keep_their_own_order_of_ids():
    items = Vocabulary(pl.Series(["z", "a"]))
    log = Interactions.from_pairs(
        np.array([0]), np.array([0]), users=Vocabulary.of(["u"]), items=items
    )
    assert Dataset.from_parts(train=log).items == items


@pytest.mark.parametrize("name", ["train", "valid", "a/b", "", ".hidden", "a b"])
def test_a_test_set_must_have_a_usable_name(name):
    log = Dataset.from_csr(csr_matrix(np.eye(2))).train
    with pytest.raises(DataError, match="a test set's name must be"):
        Dataset.from_parts(train=log, tests={name: log})
    with pytest.raises(DataError, match="a test set's name must be"):
        Dataset.from_parts(train=log).split(tests={name: Random(fraction=0.5)})
    with pytest.raises(DataError, match="a test set's name must be"):
        Dataset(name="x", train=log, tests={name: TestSet(name=name, truth=log)})


def full_log(n_users=20, n_items=15, timed=True):
    log = Dataset.from_csr(csr_matrix(np.ones((n_users, n_items)))).train
    time = np.random.default_rng(0).permutation(log.nnz) if timed else None
    return Interactions(**vars_of(log) | {"time": time})


def vars_of(log):
    return {name: getattr(log, name) for name in ("indptr", "indices", "users", "items")}


def test_split_takes_parts_that_make_up_the_log_again():
    data = Dataset.from_parts(train=full_log(), name="full")
    steps = {"id": Random(fraction=0.2), "last": LeaveLastN(n=1)}
    split = data.split(valid=Random(fraction=0.1), tests=steps, seed=3)
    assert list(split.parts) == ["train", "valid", "id", "last"]
    assert {name: log.nnz for name, log in split.parts.items()} == {
        "id": 60,  # 0.2 of 300
        "last": 20,  # one for each user
        "valid": 22,  # 0.1 of the remaining 220
        "train": 198,
    }
    pairs = [by_id(log) for log in split.parts.values()]
    assert sum(map(len, pairs)) == len(set.union(*pairs)) == 300
    assert split.tests["id"].masked == ("train", "valid")
    assert split.tests["id"].mask.nnz == 198 + 22
    assert data.train.nnz == 300
    assert split.parts["id"].time is not None
    assert [note.split(":")[0] for note in split.notes] == ["id", "last", "valid"]


def test_a_split_is_decided_by_its_seed_alone():
    data = Dataset.from_parts(train=full_log())
    same = [data.split(tests={"x": Random(fraction=0.3)}, seed=s).fingerprint() for s in (1, 1, 2)]
    assert same[0] == same[1] != same[2]


def test_a_split_keeps_the_test_sets_that_are_there(folder):
    data = Dataset.load(folder)
    data = Dataset(name="x", train=data.train, tests=data.tests)
    split = data.split(valid=Random(fraction=0.25))
    assert by_id(split.tests["ood_1"].truth) == {(3, 5)}
    assert split.tests["ood_1"].masked == ("train", "valid")
    assert split.valid.truth.nnz == 1
    assert by_id(split.tests["ood_1"].mask) == by_id(data.train)


def test_splits_that_cannot_be(folder):
    data = Dataset.load(folder)
    with pytest.raises(DataError, match="there is a part 'valid' already"):
        data.split(valid=Random(fraction=0.2))
    with pytest.raises(DataError, match="there is a part 'test' already"):
        data.split(tests={"test": Random(fraction=0.2)})
    with pytest.raises(DataError, match=r"Random\(fraction=0.01\) takes 0 of 4 for 'x'"):
        data.split(tests={"x": Random(fraction=0.01)})


def test_the_report_adds_up():
    data = Dataset.from_parts(train=full_log()).split(
        valid=Random(fraction=0.1), tests={"flat": PopularityShift(gamma=1.0, fraction=0.1)}
    )
    report = data.describe()
    assert (report["users"], report["items"], report["candidates"]) == (20, 15, 15)
    assert list(report["parts"]) == ["train", "valid", "flat"]
    assert sum(part["interactions"] for part in report["parts"].values()) == 300
    assert report["parts"]["train"]["popularity_kl"] == 0
    assert report["parts"]["flat"]["popularity_kl"] > 0
    assert "1 added to the count" in report["popularity_kl"]
    assert report["notes"] == list(data.notes)


def test_divergence_of_popularity_by_hand():
    # p = (3+1, 0+1) / 5 = (.8, .2), q = (1+1, 1+1) / 4 = (.5, .5)
    expected = 0.8 * np.log(0.8 / 0.5) + 0.2 * np.log(0.2 / 0.5)
    assert popularity_kl(np.array([3, 0]), np.array([1, 1])) == pytest.approx(expected, abs=1e-12)
    assert popularity_kl(np.array([5, 0]), np.array([0, 5]), smoothing=0.1) > 1


def test_fingerprint_depends_on_pairs_and_ids_and_nothing_else(folder):
    data = Dataset.load(folder)
    same = Dataset.load(folder / "train.txt")
    assert len(data.fingerprint()) == 16
    assert data.fingerprint() == Dataset.load(folder).fingerprint()
    assert data.fingerprint() != same.fingerprint()  # the test sets' ids have rows too
    variants = [
        Dataset.from_csr(csr_matrix(np.array([[1, 1, 0], [0, 1, 0]]))),
        Dataset.from_csr(csr_matrix(np.array([[1, 0, 1], [0, 1, 0]]))),
        Dataset.from_csr(csr_matrix(np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0]]))),
    ]
    texts = [["ab", "c", "d"], ["a", "bc", "d"]]  # together the same letters
    variants += [
        Dataset.from_parts(
            train=Interactions(**vars_of(variants[0].train) | {"items": Vocabulary.of(ids)})
        )
        for ids in texts
    ]
    assert len({variant.fingerprint() for variant in variants}) == len(variants)


def test_save_and_load_again(tmp_path):
    frame = pl.DataFrame(
        {"user": ["a", "a", "b", "b"], "item": [1, 2, 2, 3], "time": [1, 2, 3, 4]}
    ).with_columns(weight=pl.Series([1.0, 0.5, 2.0, 1.0]))
    extra = pl.DataFrame({"user": ["c"], "item": [4]})
    data = Dataset.from_parts(
        train=frame, valid=extra, tests={"test": extra, "ood": extra}, not_candidates=[2]
    )
    target = tmp_path / "new" / "saved"
    data.save(target)
    names = ["not_candidate.txt", "test.parquet", "test_ood.parquet", "train.parquet"]
    assert sorted(file.name for file in target.iterdir()) == [*names, "valid.parquet"]
    again = Dataset.load(target)
    assert again.fingerprint() == data.fingerprint()
    assert list(again.parts) == ["train", "valid", "test", "ood"]
    for name, part in data.parts.items():
        assert by_id(again.parts[name]) == by_id(part)
    assert again.train.time.tolist() == data.train.time.tolist()
    assert again.train.weight.tolist() == data.train.weight.tolist()
    assert again.tests["ood"].candidates.tolist() == data.candidates.tolist()
    assert [file.name for file in target.parent.iterdir()] == ["saved"]


def test_save_never_touches_what_is_there(tmp_path):
    data = Dataset.from_csr(csr_matrix(np.eye(2)))
    (tmp_path / "mine").write_text("x")
    with pytest.raises(DataError, match="not an empty folder"):
        data.save(tmp_path)
    with pytest.raises(DataError, match="not an empty folder"):
        data.save(tmp_path / "mine")
    with pytest.raises(DataError, match=r"mine.below: cannot be written"):
        data.save(tmp_path / "mine" / "below")
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_a_save_that_fails_leaves_nothing(tmp_path, monkeypatch):
    data = Dataset.from_csr(csr_matrix(np.eye(2))).split(tests={"x": Random(fraction=0.5)})
    written = []

    def fail_second(_, path, **_options):
        written.append(path)
        if len(written) == 2:
            raise OSError(28, "No space left on device")
        path.write_bytes(b"")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", fail_second)
    with pytest.raises(DataError, match="No space left on device"):
        data.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_representations_are_one_line() -> None:
    log = pl.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"], "time": [1, 2, 3]})
    data = Dataset.from_parts(train=log, tests={"t": log[:1]}, time="time", name="toy")
    assert repr(data) == "Dataset('toy': 2 users × 2 items; train 3, t 1)"
    assert repr(data.train) == "Interactions(2 users × 2 items, 3 pairs)"
    assert repr(data.tests["t"]) == "TestSet('t': 1 interactions, train masked)"
