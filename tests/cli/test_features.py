"""The command line with given item vectors: training, what it serves, what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cli.tools import Answer
from contrarec.cli import main

Call = Callable[..., Answer]
NEW = (530, 531)


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors of the 30 items of `folder` and of two more, which tell the parity."""
    path = tmp_path_factory.mktemp("features") / "items.npy"
    ids = np.arange(500, 532)
    noise = np.random.default_rng(0).standard_normal((32, 6))
    np.save(path, np.column_stack([np.where(ids % 2, 2.0, -2.0), 0.1 * noise]))
    path.with_suffix(".txt").write_text("\n".join(map(str, ids)) + "\n")
    return path


def options(vectors: object) -> list[str]:
    """Settings of the tests, without those of an adversary."""
    names = ("dim=8", "n_neg=8", "batch_size=64", "epochs=20", "ks=5,10", "monitor=recall@10",
             "tau=0.2", "lr=0.02", "map=linear", f"features={vectors}")  # fmt: skip
    return ["--backbone", "alpharec", "--loss", "infonce", "--threads", "1"] + [
        word for name in names for word in ("--set", name)
    ]


@pytest.fixture(scope="module")
def trained(folder: Path, vectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "alpharec"
    assert main(["train", str(folder), "--out", str(run), *options(vectors)]) == 0
    return run


def test_items_in_no_log_are_recommended(contrarec: Call, trained: Path) -> None:
    answer = contrarec("recommend", trained, "--users", "100,101", "--k", "30", "--json")
    rows = json.loads(answer.out)["recommendations"]
    for user, new in zip((100, 101), NEW, strict=True):
        ranks = {row["item_id"]: row["rank"] for row in rows if row["user_id"] == user}
        others = [rank for item, rank in ranks.items() if item % 2 != user % 2]
        assert ranks[new] < min(others)
    answer = contrarec("similar", trained, "--items", "530", "--k", "10", "--json")
    assert {row["similar_item_id"] % 2 for row in json.loads(answer.out)["neighbours"]} == {0}


def test_evaluating_counts_them_and_notes_nothing(contrarec: Call, trained: Path) -> None:
    found = json.loads(contrarec("evaluate", trained, "--json").out)
    assert found["sets"]["ood"]["candidates"] == 32
    assert found["sets"]["ood"]["positives_unreachable"] == 0
    assert found["metrics"] == json.loads((trained / "result.json").read_text())["metrics"]
    assert not any("is not what" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([], "`features` must name a file of item vectors with the backbone 'alpharec', got ''"),
        (["--set", "features=no.npy"], "no.npy: no such file"),
        (["--set", "features=no.csv"], "no.csv: item vectors must be a .npy or a .parquet file"),
        (["--set", "features=x.npy", "--set", "map=cubic"], "`map`: unknown choice 'cubic'"),
    ],
)
def test_what_is_refused_is_one_line(
    contrarec: Call, folder: Path, tmp_path: Path, given: list[str], says: str
) -> None:
    answer = contrarec(
        "train", folder, "--backbone", "alpharec", *given, "--out", tmp_path / "run", "--json"
    )
    assert (answer.status, answer.out) == (2, "")
    *_, line = answer.err.splitlines()
    assert line.startswith("contrarec: error: ")
    assert says in line
    assert not (tmp_path / "run").exists()


def test_items_without_a_vector_are_named(
    contrarec: Call, folder: Path, vectors: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "few.npy", np.load(vectors)[:28])
    (tmp_path / "few.txt").write_text("\n".join(map(str, range(500, 528))))
    answer = contrarec("train", folder, "--out", tmp_path / "run", *options(tmp_path / "few.npy"))
    assert answer.status == 2
    assert f"{tmp_path}/few.npy: no vector for the item 528, 529 of the data" in answer.err
