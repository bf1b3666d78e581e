"""Recommending from the vectors that a run keeps: the same answers, without torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import contrarec as cr
from contrarec.errors import DataError
from contrarec.serving.stored import open_run, open_stored

FAST = {"dim": 8, "n_neg": 4, "batch_size": 64, "epochs": 2, "device": "cpu"}


def data() -> cr.Dataset:
    rng = np.random.default_rng(0)
    pairs = np.argwhere(rng.random((30, 20)) < 0.3)
    return cr.Dataset.from_frame(pl.DataFrame({"user": pairs[:, 0], "item": pairs[:, 1] + 100}))


@pytest.fixture(params=[("mf", "infonce"), ("lightgcn", "bpr"), ("mf", "macr")])
def recommender(request: pytest.FixtureRequest, tmp_path: Path) -> cr.Recommender:
    """Trained with cosines, with dot products, and with more than the vectors."""
    return cr.Recommender(*request.param, **FAST).fit(data(), out=tmp_path / "run")


def same(got: pl.DataFrame, want: pl.DataFrame) -> None:
    assert got.drop("score", strict=False).equals(want.drop("score", strict=False))
    if "score" in want.columns:
        np.testing.assert_allclose(got["score"], want["score"], atol=1e-5)


def test_the_same_answers(recommender: cr.Recommender, tmp_path: Path) -> None:
    stored = open_stored(tmp_path / "run")
    assert stored is not None
    users, items = recommender.users.ids, recommender.items.ids
    same(stored.recommend(users, 5), recommender.recommend(users, 5))
    same(stored.similar_items(items, 5), recommender.similar_items(items, 5))
    same(stored.score(users[:20], items), recommender.score(users[:20], items))
    got, want = (o.explain(users[:20], items, 1) for o in (stored, recommender))
    assert got["because_item_id"].equals(want["because_item_id"])


def test_no_torch_is_loaded(tmp_path: Path) -> None:
    cr.Recommender("mf", "infonce", **FAST).fit(data(), out=tmp_path / "run")
    code = (
        "import sys\nfrom contrarec.cli import main\n"
        f"main(['recommend', {str(tmp_path / 'run')!r}, '--users', '3', '--explain'])\n"
        "print({'torch', 'numba', 'scipy'} & {m.partition('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
    assert "because_item_id" in done.stdout


def test_vectors_of_another_model_are_not_taken(tmp_path: Path) -> None:
    for seed in (0, 1):
        cr.Recommender("mf", "infonce", seed=seed, **FAST).fit(data(), out=tmp_path / f"{seed}")
    (tmp_path / "1" / "vectors.safetensors").replace(tmp_path / "0" / "vectors.safetensors")
    assert open_stored(tmp_path / "0") is None
    got = open_run(tmp_path / "0", device="cpu").recommend(pl.Series([3]), 5)
    same(got, cr.Recommender.load(tmp_path / "0", device="cpu").recommend(pl.Series([3]), 5))


def test_a_run_without_vectors_is_answered_by_its_model(tmp_path: Path) -> None:
    rec = cr.Recommender(loss="itemknn").fit(data(), out=tmp_path / "run")
    assert open_stored(tmp_path / "run") is None
    users = rec.users.ids
    same(open_run(tmp_path / "run").recommend(users, 3), rec.recommend(users, 3))
    same(open_run(tmp_path / "run").score(users[3], rec.items.ids), rec.score(3, rec.items.ids))


@pytest.mark.parametrize("cut", [4, 50, -1])
def test_a_damaged_file_is_an_error(tmp_path: Path, cut: int) -> None:
    cr.Recommender("mf", "infonce", **FAST).fit(data(), out=tmp_path / "run")
    path = tmp_path / "run" / "vectors.safetensors"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"vectors\.safetensors: damaged"):
        open_stored(tmp_path / "run")


def test_weights_of_any_type_have_a_checksum(tmp_path: Path) -> None:
    """A loss may keep a flag among its weights, which is never mapped."""
    rec = cr.Recommender("mf", "bc", **FAST).fit(data(), out=tmp_path / "run")
    assert any(tensor.dtype == torch.bool for tensor in rec.model.weights().values())
    stored = open_stored(tmp_path / "run")
    assert stored is not None
    same(stored.recommend(rec.users.ids, 3), rec.recommend(rec.users.ids, 3))
