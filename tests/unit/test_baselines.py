"""Baselines by hand: their arithmetic, what they refuse, and what they leave alone."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import contrarec.baselines.ease
import contrarec.baselines.itemknn
from contrarec.baselines import (
    ALS,
    BASELINES,
    EASE,
    ALSConfig,
    EASEConfig,
    ItemKNN,
    ItemKNNConfig,
    Popularity,
    PopularityConfig,
)
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import BackendError, ConfigError, DataError
from contrarec.evaluation.ranking import DotScorer

RNG = np.random.default_rng(0)


def histories(*users: list[int], n_items: int = 3) -> Interactions:
    """One list of items per user."""
    rows = np.repeat(np.arange(len(users)), [len(items) for items in users])
    items = np.array([item for items in users for item in items], int)
    return Interactions.from_pairs(
        rows, items, users=Vocabulary.of(range(len(users))), items=Vocabulary.of(range(n_items))
    )


FOUR = histories([0, 1], [0, 1], [0, 2], [0])  # items have 4, 2 and 1 users


def scores(scorer, *rows: int) -> list[list[float]]:
    return scorer(np.array(rows)).tolist()


def test_popularity_counts():
    fitted = Popularity.fit(FOUR, PopularityConfig(), RNG)
    assert scores(fitted.scorer(), 0, 3) == [[4, 2, 1], [4, 2, 1]]
    assert scores(fitted.fold_in(histories([])), 0) == [[4, 2, 1]]
    assert fitted.scorer()(np.array([0])).dtype == torch.float32
    with pytest.raises(ConfigError, match="'popularity' knows no similar items"):
        fitted.similar()


class TestItemKNN:
    # items 0 and 1 share 2 users, 0 and 2 one, 1 and 2 none
    s01 = 2 / (4**0.5 * 2**0.5 + 1)  # .5224
    s02 = 1 / (4**0.5 * 1**0.5 + 1)  # .3333

    def test_all_neighbours(self):
        fitted = ItemKNN.fit(FOUR, ItemKNNConfig(n_neighbours=5, shrink=1), RNG)
        assert fitted.tensors["neighbours"].tolist() == [[1, 2, -1], [0, -1, -1], [0, -1, -1]]
        s01, s02 = self.s01, self.s02
        expected = [[s01, s01, s02], [s02, s01, s02], [0, s01, s02]]
        found = scores(fitted.scorer(), 0, 2, 3)
        assert found == [pytest.approx(row) for row in expected]

    def test_an_item_offers_its_nearest_alone(self):
        fitted = ItemKNN.fit(FOUR, ItemKNNConfig(n_neighbours=1, shrink=1), RNG)
        assert fitted.tensors["neighbours"].tolist() == [[1], [0], [0]]
        # item 0 does not offer item 2 any more, item 2 still offers item 0
        expected = [[self.s01, self.s01, 0], [self.s02, self.s01, 0], [0, self.s01, 0]]
        found = scores(fitted.scorer(), 0, 2, 3)
        assert found == [pytest.approx(row) for row in expected]

    def test_without_shrinkage_it_is_the_cosine(self):
        fitted = ItemKNN.fit(FOUR, ItemKNNConfig(shrink=0), RNG)
        assert scores(fitted.scorer(), 3) == [pytest.approx([0, 2 / 8**0.5, 1 / 2])]

    def test_similar_items(self):
        fitted = ItemKNN.fit(FOUR, ItemKNNConfig(shrink=1), RNG)
        none = -np.inf
        expected = [[self.s02, none, none], [none, self.s01, self.s02]]
        assert scores(fitted.similar(), 2, 0) == [pytest.approx(row) for row in expected]

    def test_among_equal_similarities_the_lowest_index_wins(self):
        train = histories([2, 1, 3, 0], [2, 1, 3, 0], n_items=4)
        fitted = ItemKNN.fit(train, ItemKNNConfig(n_neighbours=2), RNG)
        assert fitted.tensors["neighbours"].tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]

    def test_items_and_users_without_interactions(self):
        train = histories([0, 2], [], n_items=4)
        fitted = ItemKNN.fit(train, ItemKNNConfig(shrink=0), RNG)
        assert fitted.tensors["neighbours"][:, 0].tolist() == [2, -1, 0, -1]
        assert scores(fitted.scorer(), 1, 0) == [[0, 0, 0, 0], pytest.approx([1, 0, 1, 0])]

    @pytest.mark.parametrize("size", [1, 7, 40])
    def test_blocks_change_nothing(self, monkeypatch, size):
        pairs = np.random.default_rng(3).integers((30, 20), size=(150, 2))
        train = histories(*([i for u, i in pairs if u == user] for user in range(30)), n_items=20)
        whole = ItemKNN.fit(train, ItemKNNConfig(n_neighbours=4), RNG).tensors
        monkeypatch.setattr(contrarec.baselines.itemknn, "_BLOCK", size)
        parts = list(contrarec.baselines.itemknn._blocks(train))
        assert [item for part in parts for item in part] == list(range(20))
        assert len(parts) > 1
        blocked = ItemKNN.fit(train, ItemKNNConfig(n_neighbours=4), RNG).tensors
        for name, tensor in whole.items():
            assert torch.equal(tensor, blocked[name]), name

    def test_a_block_holds_no_more_similarities_than_it_may(self, monkeypatch):
        # the users of item 0 have 2 + 2 + 2 + 1 items, which are 3 different ones at most; those of
        # item 1 have 4, so 3 again; that of item 2 has 2
        monkeypatch.setattr(contrarec.baselines.itemknn, "_BLOCK", 6)
        assert list(contrarec.baselines.itemknn._blocks(FOUR)) == [range(2), range(2, 3)]
        monkeypatch.setattr(contrarec.baselines.itemknn, "_BLOCK", 5)
        assert list(contrarec.baselines.itemknn._blocks(FOUR)) == [range(1), range(1, 3)]
        monkeypatch.setattr(contrarec.baselines.itemknn, "_BLOCK", 3)
        singles = [range(1), range(1, 2), range(2, 3)]
        assert list(contrarec.baselines.itemknn._blocks(FOUR)) == singles


class TestEASE:
    def test_two_items(self):
        # XᵀX + I = [3 1; 1 2], its inverse [2 −1; −1 3] / 5: B₀₁ = 1/3 and B₁₀ = 1/2
        fitted = EASE.fit(histories([0, 1], [0], n_items=2), EASEConfig(lam=1), RNG)
        expected = [[0, 1 / 3], [1 / 2, 0]]
        assert fitted.tensors["weights"].tolist() == [pytest.approx(row) for row in expected]
        rows = [[1 / 2, 1 / 3], [0, 1 / 3]]
        assert scores(fitted.scorer(), 0, 1) == [pytest.approx(row) for row in rows]
        assert scores(fitted.similar(), 1) == [pytest.approx([1 / 2, 0])]

    def test_a_new_history(self):
        fitted = EASE.fit(histories([0, 1], [0], n_items=2), EASEConfig(lam=1), RNG)
        found = scores(fitted.fold_in(histories([], [1], n_items=2)), 1, 0)
        assert found == [pytest.approx([1 / 2, 0]), [0, 0]]

    def test_blocks_change_nothing(self, monkeypatch):
        whole = EASE.fit(FOUR, EASEConfig(), RNG).tensors["weights"]
        monkeypatch.setattr(contrarec.baselines.ease, "_BLOCK_BYTES", 1)
        assert torch.equal(whole, EASE.fit(FOUR, EASEConfig(), RNG).tensors["weights"])

    def test_too_many_items_are_refused_before_anything_is_allocated(self):
        train = histories([0], n_items=100_000)
        message = "`max_gb` must be at least 160.0 for EASE on 100,000 items, 16 bytes"
        for call in (EASE.check, lambda *given: EASE.fit(*given, RNG)):
            with pytest.raises(ConfigError, match=message):
                call(train, EASEConfig())
        EASE.check(train, EASEConfig(max_gb=160))


class TestALS:
    def test_one_factor_by_hand(self):
        """x = (1 + α) Σ y / (Σ_all y² + α Σ y² + reg)."""
        vectors = {
            "user_vectors": torch.tensor([[1.0], [-1.0]]),
            "item_vectors": torch.tensor([[1.0], [2.0], [-1.0]]),
        }
        fitted = ALS(vectors, histories([0], [1]), ALSConfig(factors=1, alpha=3, reg=0.5))
        x = 4 * (1 + 2) / (6 + 3 * (1 + 4) + 0.5)
        found = scores(fitted.fold_in(histories([], [0, 1])), 1, 0)
        assert found == [pytest.approx([x, 2 * x, -x]), [0, 0, 0]]
        assert scores(fitted.scorer(), 1) == [[-1, -2, 1]]  # as fitted
        assert scores(fitted.similar(), 2) == [[-1, -1, 1]]
        assert isinstance(fitted.scorer(), DotScorer)

    def test_without_the_library(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
        for call in (ALS.check, lambda *given: ALS.fit(*given, RNG)):
            with pytest.raises(BackendError, match=r"pip install 'contrarec\[als\]'"):
                call(FOUR, ALSConfig())

    @pytest.mark.usefixtures("implicit")
    def test_a_seed_decides_and_threads_do_not(self):
        found = {}
        for seed, threads in ((0, 1), (0, 2), (1, 1)):
            torch.set_num_threads(threads)
            fitted = ALS.fit(FOUR, ALSConfig(factors=4), np.random.default_rng(seed))
            found[seed, threads] = fitted.tensors
        for name, tensor in found[0, 1].items():
            assert torch.equal(tensor, found[0, 2][name]), name
            assert not torch.equal(tensor, found[1, 1][name]), name
            assert tensor.shape[1] == 4

    @pytest.mark.usefixtures("implicit")
    def test_the_blas_has_one_thread_meanwhile_and_then_what_it_had(self, monkeypatch):
        import implicit.utils
        from threadpoolctl import threadpool_info, threadpool_limits

        def threads() -> dict[str, int]:
            pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
            return {pool["filepath"]: pool["num_threads"] for pool in pools}

        monkeypatch.setattr(implicit.utils, "_checked_blas_config", False)
        with threadpool_limits(2, "blas"):
            assert set(threads().values()) == {2}
            ALS.fit(FOUR, ALSConfig(factors=4), RNG)  # the library warns of two
            assert set(threads().values()) == {2}


def test_every_interaction_counts_as_one():
    weighted = replace(FOUR, weight=np.array([5, 1, 7, 1, 9, 1, 3], np.float32))
    for name in ("popularity", "itemknn", "ease"):
        spec = BASELINES[name]
        plain, heavy = (spec.baseline.fit(part, spec.config(), RNG) for part in (FOUR, weighted))
        for key, tensor in plain.tensors.items():
            assert torch.equal(tensor, heavy.tensors[key]), name
        assert scores(plain.scorer(), 0, 1) == scores(heavy.scorer(), 0, 1), name


def test_tensors_of_another_baseline_or_catalogue_are_refused():
    tensors = EASE.fit(FOUR, EASEConfig(), RNG).tensors
    with pytest.raises(DataError, match=r"tensors must have the rows \{'counts': 3\}, got \{'wei"):
        Popularity(tensors, FOUR, PopularityConfig())
    with pytest.raises(DataError, match=r"rows \{'weights': 4\}, got \{'weights': 3\}"):
        EASE(tensors, histories([0], n_items=4), EASEConfig())


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (ItemKNNConfig, {"n_neighbours": 0}, "`n_neighbours` must be at least 1, got 0"),
        (ItemKNNConfig, {"shrink": -1.0}, "`shrink` must not be negative, got -1.0"),
        (ItemKNNConfig, {"shrink": float("inf")}, "`shrink` must not be negative"),
        (EASEConfig, {"lam": 0.0}, "`lam` must be positive, got 0.0"),
        (EASEConfig, {"lam": float("nan")}, "`lam` must be positive, got nan"),
        (EASEConfig, {"max_gb": 0}, "`max_gb` must be positive, got 0.0"),
        (ALSConfig, {"factors": 0}, "`factors` must be at least 1, got 0"),
        (ALSConfig, {"iterations": 0}, "`iterations` must be at least 1, got 0"),
        (ALSConfig, {"alpha": 0.0}, "`alpha` must be positive, got 0.0"),
        (ALSConfig, {"reg": -0.1}, "`reg` must be positive, got -0.1"),
        (ALSConfig, {"reg": "much"}, "`reg` must be a number, got 'much'"),
    ],
)
def test_settings_out_of_range(config, settings, message):
    with pytest.raises(ConfigError, match=message):
        config(**settings)


def test_the_table():
    for name, spec in BASELINES.items():
        assert spec.source or name == "popularity"
        assert spec.summary, name
        assert spec.config() == spec.config()
