"""`contrarec evaluate`: the right numbers, of the right sets, with what is needed to read them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cli.tools import Answer
from contrarec.data.dataset import Dataset
from contrarec.data.splits import Random
from contrarec.recommender import Recommender

Call = Callable[..., Answer]


@pytest.fixture(scope="module")
def ranked(run: Path) -> dict[int, list[int]]:
    """The first five items of every user of the run, training history masked."""
    recommender = Recommender.load(run)
    frame = recommender.recommend(range(100, 139), k=5)  # 139 has no history
    lists: dict[int, list[int]] = {}
    for user, item, _, _ in frame.rows():
        lists.setdefault(user, []).append(item)
    return lists


def recall_at_5(truth: dict[int, set[int]], ranked: dict[int, list[int]]) -> float:
    return float(np.mean([len(truth[u] & set(ranked[u])) / len(truth[u]) for u in truth]))


def test_metrics_of_the_run_s_own_data(
    contrarec: Call, folder: Path, run: Path, ranked: dict[int, list[int]]
) -> None:
    answer = contrarec("evaluate", run, "--json")
    assert answer.status == 0
    result = json.loads(answer.out)
    trained = json.loads((run / "result.json").read_text())
    for key in ("run", "best_epoch", "epochs", "seconds", "metrics"):
        assert result[key] == trained[key]
    truth = {
        int(user): set(map(int, items))
        for user, *items in map(str.split, (folder / "valid.txt").read_text().splitlines())
    }
    assert result["metrics"]["valid"]["recall@5"] == pytest.approx(recall_at_5(truth, ranked))
    valid, ood = result["sets"]["valid"], result["sets"]["ood"]
    assert (valid["masked"], ood["masked"]) == (["train"], ["train", "valid"])
    assert valid["users"] == len(truth)
    low, high = valid["intervals"]["recall@5"]
    assert low < result["metrics"]["valid"]["recall@5"] < high
    assert set(valid["groups"]) == {"head", "middle", "tail"}
    assert "positives among the first k" in valid["definitions"]["recall"]
    assert result["notes"] == []


def test_other_cutoffs(contrarec: Call, run: Path) -> None:
    metrics = json.loads(contrarec("evaluate", run, "--k", "3, 1", "--json").out)["metrics"]["ood"]
    assert {name.partition("@")[2] for name in metrics} == {"1", "3"}
    assert metrics["hit@1"] == metrics["precision@1"]
    assert metrics["hit@1"] <= metrics["hit@3"]


def test_the_table_says_what_was_counted_and_masked(
    contrarec: Call, folder: Path, run: Path
) -> None:
    answer = contrarec("evaluate", run)
    first, header, *_ = answer.out.split("\n\n")[1].splitlines()
    n_users = len((folder / "test_ood.txt").read_text().splitlines())
    assert first.startswith(f"ood: {n_users} users counted, {40 - n_users} without a positive")
    assert first.endswith("30 items ranked; masked: train, valid")
    assert header.split() == ["metric", "mean", "95", "%", "from", "to", "head", "middle", "tail"]
    assert answer.err == ""


def test_a_log_becomes_one_test_set_beside_the_run_s_history(
    contrarec: Call, run: Path, ranked: dict[int, list[int]], tmp_path: Path
) -> None:
    wanted = {100: {ranked[100][0]}, 101: {ranked[101][4], 999}}  # 999: an item it never saw
    file = tmp_path / "test_later.csv"
    rows = [f"{user},{item}" for user, items in wanted.items() for item in items]
    file.write_text("\n".join(["user_id,item_id", *rows, "77777,500"]) + "\n")
    result = json.loads(contrarec("evaluate", run, "--data", file, "--k", 5, "--json").out)
    assert list(result["metrics"]) == ["later"]
    assert result["sets"]["later"]["masked"] == ["train"]
    assert result["sets"]["later"]["positives_unreachable"] == 1
    assert result["metrics"]["later"]["recall@5"] == pytest.approx(recall_at_5(wanted, ranked))
    assert result["data"] == str(file)


def test_a_log_of_what_was_trained_on_is_noted(
    contrarec: Call, folder: Path, run: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "train.txt", tmp_path / "again.txt")
    notes = json.loads(contrarec("evaluate", run, "--data", tmp_path / "again.txt", "--json").out)
    (note,) = notes["notes"]
    n = json.loads(contrarec("data", "describe", folder, "--json").out)["parts"]["train"]
    assert f"{n['interactions']} of {n['interactions']} interactions" in note


def test_other_data_than_trained_on_are_noted(
    contrarec: Call, folder: Path, run: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "train.txt").write_text((folder / "valid.txt").read_text())
    answer = contrarec("evaluate", run, "--data", other, "--json")
    (note,) = json.loads(answer.out)["notes"]
    assert "is not what" in note
    assert f"contrarec: note: {note}" in answer.err


def test_a_log_that_was_split_in_another_way_is_refused(
    contrarec: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(folder / "train.txt", "log.txt")
    data = Dataset.load("log.txt").split(valid=Random(0.3), seed=5)
    Recommender("mf", "bpr", epochs=1).fit(data, out="run")
    answer = contrarec("evaluate", "run")
    assert (answer.status, answer.out) == (2, "")
    assert "was trained on another split of this log" in answer.err


def test_data_that_have_gone(contrarec: Call, run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    config = copy / "config.toml"
    text = config.read_text()
    path = next(line for line in text.splitlines() if line.startswith("path = "))
    config.write_text(text.replace(path, f'path = "{tmp_path}/gone"'))
    answer = contrarec("evaluate", copy)
    assert (answer.status, answer.out) == (2, "")
    assert f"{tmp_path}/gone: no such file or folder." in answer.err

    config.write_text(text.replace(path, 'path = ""'))
    assert "--data" in contrarec("evaluate", copy).err


@pytest.mark.parametrize("name", ["model.safetensors", "history.safetensors", "ids.parquet"])
def test_a_damaged_run_is_one_line(contrarec: Call, run: Path, tmp_path: Path, name: str) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    whole = (copy / name).read_bytes()
    (copy / name).write_bytes(whole[: len(whole) // 2])
    answer = contrarec("evaluate", copy)
    assert (answer.status, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    assert str(copy / name) in answer.err
