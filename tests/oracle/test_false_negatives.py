"""Finding false negatives: AUC by a double loop, a planted adversary, rates by hand."""

import math

import numpy as np
import pytest
import torch

from contrarec.audit.detectors import Detectors, auc, mean_kl
from contrarec.audit.false_negatives import eligible_users, find_false_negatives
from contrarec.audit.pairs import Block, Pairs, dense
from contrarec.errors import ConfigError, DataError
from planted import interactions, planted


def naive_auc(x: list[float], positive: list[bool], inside: list[bool]) -> float:
    """The share of (positive, other) pairs in which the positive is above; ties count half."""
    wins, pairs = 0.0, 0
    for a in range(len(x)):
        for b in range(len(x)):
            if positive[a] and inside[b] and not positive[b]:
                pairs += 1
                wins += 1.0 if x[a] > x[b] else 0.5 if x[a] == x[b] else 0.0
    return wins / pairs if pairs else math.nan


@pytest.mark.parametrize("levels", [3, 1000])  # many ties, hardly any
def test_auc_is_the_double_loop(levels: int) -> None:
    rng = np.random.default_rng(levels)
    x = rng.integers(levels, size=(40, 13)) / levels - 0.5
    inside = rng.random((40, 13)) < 0.7
    positive = inside & (rng.random((40, 13)) < 0.3)
    found = auc(x, positive, inside)
    expected = [naive_auc(*map(list, row)) for row in zip(x, positive, inside, strict=True)]
    assert np.isnan(expected).any()  # rows without a positive are among them
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_dense_rows_are_the_histories() -> None:
    log = interactions([(0, 2), (2, 0), (2, 3), (3, 1)], 4, 4)
    expected = [[False, False, True, False], [True, False, False, True]]
    assert dense(log, np.array([0, 2])).tolist() == expected


class TestPlanted:
    """Two users and six items; item 0 is each one's history, item 5 is left out as held out.

    User 0's logits over the candidates 1 to 4 are log 1, log 2, log 2, log 5, of sum 10: its δ is
    log 0.4, log 0.8, log 0.8, log 2. Items 1 and 4 are its false negatives. User 1's logits are
    log 6, log 2, log 1, log 1: δ is log 2.4, log 0.8, log 0.4, log 0.4. Its false one is item 4.
    """

    history = interactions([(0, 0), (1, 0)], 2, 6)
    left_out = interactions([(0, 0), (1, 0), (0, 5), (1, 5)], 2, 6)
    truth = interactions([(0, 1), (0, 4), (1, 4)], 2, 6)
    logits = np.log([[9.0, 1, 2, 2, 5, 9], [9, 6, 2, 1, 1, 9]]).astype(np.float32)

    def pairs(self) -> Pairs:
        users = eligible_users(self.truth, self.left_out, self.history)
        return Pairs.draw(users, self.left_out, limit=10, seed=0)

    def found(self):
        view = planted(self.history, self.logits)
        return find_false_negatives(view, self.pairs(), self.truth, self.history.item_counts)

    def test_auc(self) -> None:
        # user 0: item 1 is below both others, item 4 above both: (2 + 0) / 4.
        # user 1: item 4 is below items 1 and 2 and level with item 3: 2.5 / 3.
        np.testing.assert_allclose(self.found().auc["adversary"], [0.5, 2.5 / 3])

    def test_rates(self) -> None:
        found = self.found()
        np.testing.assert_allclose(found.base, [2 / 4, 1 / 4])
        # δ < 0: items 1, 2 and 3 of user 0, one of them false; 2, 3 and 4 of user 1, one false
        np.testing.assert_allclose(found.rate["adversary"], [1 / 3, 1 / 3])
        np.testing.assert_allclose(found.below["adversary"], [3 / 4, 3 / 4])
        assert (found.n_pairs, found.n_false) == (8, 3)

    def test_means_and_intervals(self) -> None:
        found = self.found().to_dict()
        adversary = found["detectors"]["adversary"]
        assert found["base_rate"]["mean"] == pytest.approx(3 / 8)
        assert adversary["lift"]["mean"] == pytest.approx((1 / 3 - 1 / 2 + 1 / 3 - 1 / 4) / 2)
        assert adversary["auc"]["low"] == pytest.approx(0.5)  # both draws are user 0
        assert adversary["auc"]["high"] == pytest.approx(2.5 / 3)
        chance = found["contrasts"]["chance"]
        assert chance["difference"] == pytest.approx((0.5 + 2.5 / 3) / 2 - 0.5)

    def test_kl(self) -> None:
        expected = [
            sum(p * math.log(4 * p) for p in row)
            for row in ([0.1, 0.2, 0.2, 0.5], [0.6, 0.2, 0.1, 0.1])
        ]
        kl = mean_kl(planted(self.history, self.logits), self.pairs())
        assert kl == pytest.approx(sum(expected) / 2, rel=1e-5)

    def test_a_better_adversary_has_a_larger_auc(self) -> None:
        logits = np.zeros((2, 6), np.float32)
        logits[0, [1, 4]] = logits[1, 4] = -1
        view = planted(self.history, logits)
        found = find_false_negatives(view, self.pairs(), self.truth, self.history.item_counts)
        np.testing.assert_allclose(found.auc["adversary"], 1)
        np.testing.assert_allclose(found.rate["adversary"], 1)

    def test_where_no_delta_is_below_zero_there_is_no_rate(self) -> None:
        view = planted(self.history, np.zeros((2, 6), np.float32))
        found = find_false_negatives(view, self.pairs(), self.truth, self.history.item_counts)
        assert np.isnan(found.rate["adversary"]).all()
        assert found.to_dict()["detectors"]["adversary"]["lift"]["mean"] is None


class TestControls:
    """Three users, five items with counts 3, 1, 2, 0 and 0; vectors that make scores known."""

    history = interactions([(0, 0), (1, 0), (2, 0), (1, 1), (0, 2), (2, 2)], 3, 5)
    vectors = (
        np.array([[1.0, 0], [0, 1], [1, 1]], np.float32),
        np.array([[1, 0], [1, 1], [0, 1], [2, 1], [-1, 0]], np.float32),
    )

    def deltas(self, kl: float = 0.1) -> tuple[Block, dict[str, np.ndarray]]:
        logits = np.zeros((3, 5), np.float32)
        view = planted(self.history, logits, self.vectors, tau=0.5)
        users = np.arange(3)
        block = Block(users, dense(self.history, users))
        return block, Detectors(view, self.history.item_counts, kl, seed=0)(block)

    @pytest.mark.parametrize("name", ["random", "popularity", "closed_form"])
    def test_a_control_spends_the_adversarys_budget(self, name: str) -> None:
        block, found = self.deltas()
        for delta, out in zip(found[name], block.out, strict=True):
            p = np.exp(delta[~out].astype(float)) / (~out).sum()
            assert p.sum() == pytest.approx(1, rel=1e-5)
            spread = len(set(delta[~out].tolist())) > 1
            if spread:  # a row of equal weights cannot spend anything
                assert (p * np.log((~out).sum() * p)).sum() == pytest.approx(0.1, rel=1e-3)

    def test_their_order(self) -> None:
        block, found = self.deltas()
        inside = ~block.out
        cosines = np.array([[1, 2**-0.5, 0, 2 * 5**-0.5, -1], [0, 2**-0.5, 1, 5**-0.5, 0]])
        for user in range(2):
            mine = inside[user]
            order = np.argsort(cosines[user][mine], kind="stable")
            values = found["closed_form"][user][mine]
            assert (np.diff(values[order]) >= 0).all()
            own = cosines[user][mine]
            np.testing.assert_allclose(found["score"][user][mine], own.mean() - own, atol=1e-6)
        # user 0's candidates 1, 3 and 4 have the counts 1, 0 and 0, and 0 counts as 1
        assert len(set(found["popularity"][0][[1, 3, 4]].tolist())) == 1
        # user 1's candidates 2, 3 and 4 have 2, 0 and 0
        assert found["popularity"][1][2] > found["popularity"][1][3] == found["popularity"][1][4]

    def test_random_weights_do_not_depend_on_the_block(self) -> None:
        view = planted(self.history, np.zeros((3, 5), np.float32), self.vectors)
        detect = Detectors(view, self.history.item_counts, 0.1, seed=3)
        users = np.arange(3)
        together = detect(Block(users, dense(self.history, users)))["random"]
        for user in users:
            one = np.array([user])
            alone = detect(Block(one, dense(self.history, one)))["random"]
            np.testing.assert_allclose(alone[0], together[user], rtol=1e-5)


def test_a_loss_without_weights_is_refused() -> None:
    history = interactions([(0, 0), (1, 1)], 2, 4)
    view = planted(history, loss="infonce")
    assert not view.weighs
    pairs = Pairs.draw(np.arange(2), history, limit=2, seed=0)
    with pytest.raises(ConfigError, match="InfoNCE has no adversary"):
        find_false_negatives(view, pairs, interactions([(0, 1)], 2, 4), history.item_counts)


@pytest.mark.parametrize("loss", ["advinfonce-mlp", "advinfonce-closed", "infonce-random"])
def test_every_kind_of_weights_can_be_asked(loss: str) -> None:
    history = interactions([(0, 0), (1, 1)], 2, 6)
    view = planted(history, loss=loss)
    assert view.weighs
    users = np.arange(2)
    block = Block(users, dense(history, users))
    log_p = view.log_p(block, view.scores(users))
    assert (log_p.isneginf().numpy() == block.out).all()
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(2))


def test_users_are_sampled_without_replacement_by_the_seed() -> None:
    history = interactions([(n, n % 5) for n in range(50)], 50, 5)
    first = Pairs.draw(np.arange(50), history, limit=20, seed=1)
    assert len(set(first.users.tolist())) == 20
    assert (np.diff(first.users) > 0).all()
    assert first.n_eligible == 50
    again = Pairs.draw(np.arange(50), history, limit=20, seed=1)
    assert first.users.tolist() == again.users.tolist()
    other = Pairs.draw(np.arange(50), history, limit=20, seed=2)
    assert first.users.tolist() != other.users.tolist()
    with pytest.raises(ConfigError, match="`users` must be at least 1, got 0"):
        Pairs.draw(np.arange(50), history, limit=0, seed=1)


def test_who_can_be_judged() -> None:
    """User 0 can be; 1 has no other candidate, 2 no false negative, 3 no training history."""
    history = interactions([(0, 0), (1, 0), (2, 0)], 4, 3)
    left_out = interactions([(0, 0), (1, 0), (2, 0), (1, 1)], 4, 3)
    truth = interactions([(0, 1), (1, 2), (3, 1)], 4, 3)
    assert eligible_users(truth, left_out, history).tolist() == [0]
    with pytest.raises(DataError, match="no user with a training history has a known false"):
        eligible_users(interactions([(3, 1)], 4, 3), left_out, history)
