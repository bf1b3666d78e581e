"""Each check finds what it is for, with the right count, and nothing else."""

import shutil

import polars as pl
import pytest

from contrarec.data.checks import Finding, check
from contrarec.data.dataset import Dataset

CLEAN = {
    "train": "1 5 6\n2 5\n3 7 8\n",
    "valid": "1 7\n",
    "test": "2 6\n3 5\n",
    "test_ood": "2 7\n",
}


@pytest.fixture
def data_with(tmp_path):
    """`data_with(train="…", …)`: the clean data with some files replaced or added."""

    def load(**changes):
        for name, text in (CLEAN | changes).items():
            (tmp_path / f"{name}.txt").write_text(text)
        return Dataset.load(tmp_path)

    return load


def test_clean_data_have_no_findings(data_with):
    assert check(data_with()) == []


def test_an_empty_part(data_with):
    assert check(data_with(test="", valid="4\n")) == [
        Finding("error", "no interactions", "valid", 0),
        Finding("error", "no interactions", "test", 0),
    ]
    findings = check(data_with(train=""))
    assert findings[0] == Finding("error", "no interactions", "train", 0)


def test_the_same_test_set_under_two_names(data_with):
    findings = check(data_with(test="3 5\n2 6", test_ood="2 6\n3 5\n"))
    assert findings == [Finding("error", "the same interactions in both", "test, ood", 2)]


def test_valid_that_is_a_test_set(data_with):
    findings = check(data_with(valid="2 6\n3 5\n"))
    assert findings == [Finding("error", "the same interactions in both", "valid, test", 2)]


def test_test_sets_that_only_overlap_are_fine(data_with):
    assert check(data_with(test_ood="2 6 7\n3 5\n")) == []


@pytest.mark.parametrize(
    ("changes", "level", "where", "count"),
    [
        ({"valid": "1 5 6 7\n"}, "error", "train, valid", 2),
        ({"test": "2 6\n3 5 8\n"}, "warning", "train, test", 1),
        ({"test_ood": "1 7\n2 7\n"}, "warning", "valid, ood", 1),
        ({"test_ood": "1 7\n2 7\n", "valid": "1 7\n3 6\n"}, "warning", "valid, ood", 1),
    ],
)
def test_pairs_in_two_parts(data_with, changes, level, where, count):
    assert check(data_with(**changes)) == [Finding(level, "pairs in both", where, count)]


def test_test_that_is_train(data_with):
    findings = check(data_with(test=CLEAN["train"]))
    assert findings == [Finding("error", "pairs in both", "train, test", 5)]


def test_a_user_who_has_everything(data_with):
    findings = check(data_with(train="1 5 6\n2 5\n3 7 8\n4 5 6 7 8\n"))
    assert findings == [Finding("error", "users with every item in their history", "train", 1)]


def test_users_and_items_without_history(data_with):
    findings = check(data_with(test="2 6 9\n9 5 10\n"))
    assert findings == [
        Finding("warning", "users without training history", "test", 1),
        Finding("warning", "items without training history", "test", 2),
    ]


def test_positives_that_are_no_candidates(data_with):
    findings = check(data_with(not_candidate="7\n"))
    assert findings == [
        Finding("warning", "positives that are no candidates", "valid", 1),
        Finding("warning", "positives that are no candidates", "ood", 1),
    ]


def test_repeated_pairs(data_with):
    findings = check(data_with(train="1 5 6 5\n2 5\n3 7 8\n1 5\n"))
    assert findings == [Finding("warning", "repeated pairs, collapsed", "train", 2)]


def test_errors_come_before_warnings(data_with):
    data = data_with(train="1 5 6 6\n2 5\n3 7 8\n", valid="1 5 7 8\n", test_ood="3 7\n")
    levels = [(finding.level, finding.where) for finding in check(data)]
    assert levels == [("error", "train, ood"), ("warning", "train, valid"), ("warning", "train")]


def test_real_data_have_no_errors_unless_id_and_ood_are_one_file(data_dir, tmp_path):
    coat = data_dir("coat")
    of_coat = check(Dataset.load(coat))
    assert of_coat == [
        Finding("warning", "pairs in both", "train, ood", 71),  # counted by a loop over the files
        Finding("warning", "pairs in both", "valid, ood", 31),
    ]
    copy = tmp_path / "coat"
    copy.mkdir()
    for file in coat.iterdir():
        shutil.copyfile(file, copy / file.name)
    shutil.copyfile(coat / "test_ood.txt", copy / "test_id.txt")  # as it was published
    assert check(Dataset.load(copy))[0] == Finding(
        "error", "the same interactions in both", "id, ood", 860
    )


def test_a_log_without_parts_has_only_its_own_findings():
    frame = pl.DataFrame({"user": [1, 1, 2], "item": [1, 1, 2]})
    findings = check(Dataset.from_frame(frame))
    assert findings == [Finding("warning", "repeated pairs, collapsed", "train", 1)]
