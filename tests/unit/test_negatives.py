"""Negatives that the rows of a batch share: scores, weights and what is left out, by loops."""

import math

import numpy as np
import polars as pl
import pytest
import torch

from contrarec import Dataset, Recommender
from contrarec.config import TrainingConfig
from contrarec.errors import ConfigError
from contrarec.losses import LOSSES, AdvInfoNCE, AdvInfoNCEConfig, InfoNCE, InfoNCEConfig
from contrarec.losses.functional import infonce, kl_to_uniform
from contrarec.sampling import Batch, Sampler
from contrarec.training import negatives as module
from contrarec.training.loop import batch_scores
from contrarec.training.negatives import SharedNegatives, positive_share
from contrarec.training.state import KLTrace

HISTORIES = [[0, 2, 3], [1], [0, 1, 4, 5], [2, 3], [5]]
N_ITEMS, DIM = 8, 3
BATCH = Batch(
    torch.tensor([2, 0, 4, 2, 1, 3]), torch.tensor([[4, 2], [0, 1], [5, 3], [1, 7], [1, 0], [2, 6]])
)


@pytest.fixture(scope="module")
def train():
    rows = [(u, i) for u, history in enumerate(HISTORIES) for i in history]
    # items 6 and 7 are nobody's in train
    frame = pl.DataFrame([*rows, (5, 6), (5, 7)], schema=["user", "item"], orient="row")
    return Dataset.from_frame(frame, user="user", item="item").train


def shared(train, kind, loss=None, **settings):
    config = TrainingConfig(**{"negatives": kind, "batch_size": 6} | settings)
    return SharedNegatives(train, config, loss or InfoNCE(), torch.device("cpu"))


def tables(seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(n, DIM, generator=g, dtype=dtype, requires_grad=True) for n in (6, N_ITEMS)]


@pytest.mark.parametrize("positives", ["interaction", "user"])
def test_share_of_positives_is_what_the_sampler_draws(train, positives):
    share = positive_share(train, by_user=positives == "user")
    assert share.sum() == pytest.approx(1)
    if positives == "interaction":
        assert share.tolist() == pytest.approx([n / train.nnz for n in (2, 2, 2, 2, 1, 2, 1, 1)])
    else:  # user 1 has item 1 alone, user 2 has it among four; six users
        assert share[1] == pytest.approx((1 + 1 / 4) / 6)
    sampler = Sampler(train, batch_size=13, n_neg=1, positives=positives, drop_last=False, seed=0)
    drawn = np.concatenate(
        [batch.items[:, 0] for epoch in range(2000) for batch in sampler.batches(epoch)]
    )
    counts = np.bincount(drawn, minlength=N_ITEMS)
    # 26,000 draws: six standard errors, and 13 rows among six users go one more to the first
    assert counts / len(drawn) == pytest.approx(share, abs=0.02)
    assert len(drawn) == 26_000


@pytest.mark.parametrize("positives", ["interaction", "user"])
def test_in_batch_context_by_loops(train, positives):
    context = shared(train, "in_batch", positives=positives).context(BATCH)
    share = positive_share(train, by_user=positives == "user")
    columns = BATCH.items[:, 0].tolist()
    assert context["neg_items"].shape == context["neg_log_weight"].shape == (6, 6)
    for b, u in enumerate(BATCH.users.tolist()):
        for j, item in enumerate(columns):
            got = context["neg_log_weight"][b, j].item()
            if item in HISTORIES[u]:
                assert got == -math.inf
            else:
                assert got == pytest.approx(-math.log(N_ITEMS * share[item]), rel=1e-6)
            want = BATCH.items[b, 1].item() if b == j else item
            assert context["neg_items"][b, j].item() == want


def test_all_context_by_loops(train):
    context = shared(train, "all").context(BATCH)
    for b, u in enumerate(BATCH.users.tolist()):
        assert context["neg_items"][b].tolist() == list(range(N_ITEMS))
        want = [-math.inf if item in HISTORIES[u] else 0.0 for item in range(N_ITEMS)]
        assert context["neg_log_weight"][b].tolist() == want


def test_equal_popularity_means_no_correction():
    frame = pl.DataFrame({"user": [0, 0, 1, 1], "item": [0, 1, 2, 3]})
    train = Dataset.from_frame(frame, user="user", item="item").train
    batch = Batch(torch.tensor([0, 1]), torch.tensor([[1, 2], [2, 1]]))
    for positives in ("interaction", "user"):
        weight = shared(train, "in_batch", positives=positives).context(batch)["neg_log_weight"]
        torch.testing.assert_close(weight, torch.tensor([[-math.inf, 0.0], [0.0, -math.inf]]))


def test_a_row_that_knows_the_whole_batch_keeps_the_negative_drawn_for_it(train):
    source = shared(train, "in_batch")
    batch = Batch(torch.tensor([2, 0]), torch.tensor([[0, 7], [0, 6]]))
    context = source.context(batch)
    inf = math.inf
    assert context["neg_log_weight"].tolist() == [[0.0, -inf], [-inf, 0.0]]
    assert context["neg_items"].tolist() == [[7, 0], [0, 6]]
    vectors = tables()
    pos, neg = batch_scores(vectors, batch, False, shared=source)
    torch.testing.assert_close(neg[0, 0], vectors[0][2] @ vectors[1][7])
    torch.testing.assert_close(neg[1, 1], vectors[0][0] @ vectors[1][6])
    assert math.isfinite(InfoNCE()(pos, neg, **context).item())


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("kind", ["in_batch", "all"])
def test_scores_and_their_gradients_by_loops(train, kind, cosine, sparse):
    source, vectors = shared(train, kind), tables()
    pos, neg = batch_scores(vectors, BATCH, cosine, sparse_grad=sparse, shared=source)
    items = source.context(BATCH)["neg_items"]
    upstream = torch.randn(neg.shape, generator=torch.Generator().manual_seed(1)).double()
    grads = torch.autograd.grad((neg * upstream).sum() + pos.sum(), vectors)
    twins = tables()

    def score(u, i):
        x, y = twins[0][u], twins[1][i]
        return x @ y / (x.norm() * y.norm() if cosine else 1)

    total = 0
    for b, u in enumerate(BATCH.users.tolist()):
        want = score(u, BATCH.items[b, 0])
        torch.testing.assert_close(pos[b], want)
        total = total + want
        for j in range(neg.shape[1]):
            want = score(u, items[b, j])
            torch.testing.assert_close(neg[b, j], want)
            total = total + upstream[b, j] * want
    for grad, want in zip(grads, torch.autograd.grad(total, twins), strict=True):
        assert grad.is_sparse == sparse
        torch.testing.assert_close(grad.to_dense() if sparse else grad, want)


def test_known_with_repeated_columns_and_users_without_a_history(train):
    source = shared(train, "in_batch")
    for seed in range(5):
        g = torch.Generator().manual_seed(seed)
        users = torch.randint(0, 5, (9,), generator=g)
        columns = torch.randint(0, N_ITEMS, (11,), generator=g)
        want = [[c in HISTORIES[u] for c in columns.tolist()] for u in users.tolist()]
        assert source.known(users, columns).tolist() == want
    assert source.known(users[:0], columns).shape == (0, 11)
    assert not source.known(torch.tensor([1]), torch.tensor([0, 7])).any()


def test_in_batch_sum_estimates_that_over_the_catalogue(train):
    """Over many batches the weighted mean is that over the items outside the history."""
    source = shared(train, "in_batch", positives="interaction", batch_size=13)
    sampler = Sampler(
        train, batch_size=13, n_neg=1, positives="interaction", drop_last=False, seed=0
    )
    level = torch.arange(1.0, N_ITEMS + 1)
    draw = torch.cat([batch.items[:, 0] for e in range(50) for batch in sampler.batches(e)])
    weight = source._log_weight[draw].exp()
    for u, history in enumerate(HISTORIES):
        known = source.known(torch.tensor([u]), draw)[0]
        got = (weight * level[draw] * ~known).sum() / len(draw)
        want = sum(level[i].item() for i in range(N_ITEMS) if i not in history) / N_ITEMS
        assert got.item() == pytest.approx(want, rel=1e-5)  # an epoch takes each row once


def test_refusals(train, monkeypatch):
    with pytest.raises(
        ConfigError, match=r"`negatives` must be 'sampled' with BPR, .* got 'in_batch'"
    ):
        shared(train, "in_batch", LOSSES["bpr"].loss())
    shared(train, "all")
    monkeypatch.setattr(module, "LIMIT", 6 * 8 * 32 - 1)
    shared(train, "in_batch")  # 6 × 6
    with pytest.raises(ConfigError, match=r"'all' would take about 0.0 GiB for steps of 6 × 8 sco"):
        shared(train, "all")
    monkeypatch.setattr(module, "LIMIT", 6 * 6 * 32 - 1)
    with pytest.raises(ConfigError, match=r"for steps of 6 × 6 .* lower `batch_size`, got 6"):
        shared(train, "in_batch")


# what is left out, and the adversary


B, N = 4, 6


def rows(seed=0):
    g = torch.Generator().manual_seed(seed)
    pos = 2 * torch.rand(B, generator=g, dtype=torch.float64) - 1
    neg = 2 * torch.rand(B, N, generator=g, dtype=torch.float64) - 1
    weight = torch.randn(B, N, generator=g, dtype=torch.float64)
    out = torch.tensor([[0, 1, 0, 0, 1, 0], [0] * 6, [1, 1, 1, 1, 1, 0], [1, 0, 0, 1, 0, 1]]).bool()
    context = {
        "users": torch.randint(0, 5, (B,), generator=g),
        "neg_items": torch.randint(0, N_ITEMS, (B, N), generator=g),
        "vectors": (torch.randn(5, DIM, generator=g), torch.randn(N_ITEMS, DIM, generator=g)),
    }
    return pos, neg, weight.masked_fill(out, -math.inf), out, context


ADVERSARIES = [
    {"hardness": "embedding"}, {"hardness": "mlp"}, {"hardness": "embedding", "eta": 0.05},
    {"hardness": "mlp", "eta": 0.05}, {"hardness": "closed_form", "eta": 0.05},
    {"hardness": "closed_form", "lam": 2.0},
]  # fmt: skip
CONTROLS = [{"weights": "random"}, {"weights": "popularity"}, {"weights": "random", "eta": 0.05}]


def make(settings):
    about = {"n_users": 5, "n_items": N_ITEMS, "dim": DIM, "rng": 1}
    if "weights" in settings:
        counts = torch.arange(N_ITEMS)
        return InfoNCE(InfoNCEConfig(k_neg=3.0, **settings), item_counts=counts, **about)
    loss = AdvInfoNCE(AdvInfoNCEConfig(k_neg=3.0, adv_lr=1e-3, **settings), **about)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.mul_(3)  # far from uniform
    return loss


def one(context, b, keep):
    """The context of a row that has nothing but the negatives left in."""
    return context | {
        "users": context["users"][b : b + 1], "neg_items": context["neg_items"][b : b + 1, keep],
    }  # fmt: skip


@pytest.mark.parametrize("settings", [*ADVERSARIES, *CONTROLS], ids=str)
def test_what_is_left_out_is_as_if_it_had_never_been_there(settings):
    pos, neg, weight, out, context = rows()
    loss = make(settings)
    got = loss.per_row(pos, neg, neg_log_weight=weight, **context)
    log_p = loss.log_p(neg, neg_log_weight=weight, **context)
    kl = kl_to_uniform(log_p.double(), out)
    assert (log_p[out] == -math.inf).all()
    torch.testing.assert_close(log_p.exp().sum(1).double(), torch.ones(B).double())
    for b in range(B):
        keep = ~out[b]
        alone = (pos[b : b + 1], neg[b : b + 1, keep])
        about = one(context, b, keep)
        want = loss.per_row(*alone, neg_log_weight=weight[b : b + 1, keep], **about)
        torch.testing.assert_close(got[b : b + 1], want, rtol=1e-5, atol=1e-7)
        p = loss.log_p(alone[1], **about)
        torch.testing.assert_close(log_p[b, keep], p[0], rtol=1e-4, atol=1e-5)
        assert kl[b].item() == pytest.approx(kl_to_uniform(p.double()).item(), rel=1e-3, abs=1e-7)
    if "eta" in settings:
        assert (kl <= 0.05 * (1 + 1e-4)).all()
        assert kl.max() > 0.04
    assert kl[2] == pytest.approx(0, abs=1e-9)  # one negative is left: nothing to choose


@pytest.mark.parametrize("settings", [s for s in ADVERSARIES if "closed_form" not in s.values()])
def test_the_adversary_moves_on_what_is_left_alone(settings):
    pos, neg, weight, out, context = rows(3)
    loss = make(settings | {"adv_l2": 0.0})
    before = loss.per_row(pos, neg, neg_log_weight=weight, **context).mean().item()
    kl = kl_to_uniform(loss.log_p(neg, neg_log_weight=weight, **context), out)
    # garbage where it is left out: neither the step nor what it reports may depend on it
    twin = make(settings | {"adv_l2": 0.0})
    other = context["neg_items"].masked_fill(out, 0)
    step = loss.adversary_step(pos, neg, neg_log_weight=weight, **context)
    same = twin.adversary_step(
        pos, neg.masked_fill(out, 9.0), neg_log_weight=weight, **context | {"neg_items": other}
    )
    torch.testing.assert_close(same.loss, step.loss, rtol=1e-6, atol=0)
    for a, b in zip(loss.parameters(), twin.parameters(), strict=True):
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)
    assert step.loss.item() == pytest.approx(before, rel=1e-6)
    torch.testing.assert_close(step.kl, kl, rtol=1e-5, atol=1e-7)
    assert loss.per_row(pos, neg, neg_log_weight=weight, **context).mean().item() > before


def test_uniform_p_is_no_weight_whatever_is_left_out():
    pos, neg, weight, _, context = rows(5)
    loss = AdvInfoNCE(AdvInfoNCEConfig(tau=0.3), n_users=5, n_items=N_ITEMS, rng=0)
    torch.nn.init.zeros_(loss.hardness.users)
    got = loss.per_row(pos, neg, neg_log_weight=weight, **context)
    want = infonce(pos, neg, tau=0.3, neg_log_weight=weight)
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)


# in the loop


@pytest.fixture(scope="module")
def tastes():
    """Even users like even items, odd users odd ones."""
    rng = np.random.default_rng(0)
    parts = {"t": [], "v": []}
    for user in range(40):
        items = rng.choice(np.arange(user % 2, 30, 2), 8, replace=False)
        parts["t"] += [(user, int(i)) for i in items[:6]]
        parts["v"] += [(user, int(i)) for i in items[6:]]
    frames = {k: pl.DataFrame(v, schema=["user", "item"], orient="row") for k, v in parts.items()}
    return Dataset.from_parts(
        train=frames["t"], valid=frames["v"], tests={}, user="user", item="item", name="tastes"
    )


FAST = {
    "dim": 8, "batch_size": 64, "lr": 0.05, "eval_every": 10, "epochs": 30, "ks": (10,), "seed": 1,
    "monitor": "recall@10", "device": "cpu",
}  # fmt: skip


@pytest.mark.parametrize("loss", ["infonce", "advinfonce", "advinfonce-budget", "sl", "bsl"])
@pytest.mark.parametrize("kind", ["in_batch", "all"])
def test_learns_the_tastes(tastes, kind, loss, monkeypatch):
    kls = []
    monkeypatch.setattr(KLTrace, "add", lambda _self, _users, kl: kls.append(kl))
    more = {"adv_interval": 3, "adv_lr": 0.01} if loss.startswith("adv") else {}
    rec = Recommender("mf", loss, negatives=kind, tau=0.3, **more, **FAST).fit(tastes)
    assert rec.result["metrics"]["valid"]["recall@10"] > 0.8  # of 24 unseen items 9 are of a taste
    if loss.startswith("adv"):
        # what is left out is not a choice of the adversary's, so its KL starts near zero
        assert kls[0].max() < 0.05
        assert all((kl >= 0).all() for kl in kls)


@pytest.mark.parametrize("settings", [{"optimizer": "lazy_adam"}, {"backbone": "lightgcn"}])
@pytest.mark.parametrize("kind", ["in_batch", "all"])
def test_with_lazy_adam_and_graphs(tastes, kind, settings):
    settings = {"backbone": "mf"} | settings
    rec = Recommender(**settings, loss="infonce", negatives=kind, tau=0.3, **FAST).fit(tastes)
    assert rec.result["metrics"]["valid"]["recall@10"] > 0.8


def test_l2_reaches_users_and_positives_alone(tastes, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "contrarec.training.loop.add_batch_l2", lambda *_, negatives: seen.append(negatives)
    )
    for kind in ("sampled", "in_batch", "all"):
        Recommender("mf", "infonce", negatives=kind, **FAST | {"epochs": 1}).fit(tastes)
    assert seen[0]
    assert not any(seen[len(seen) // 3 :])


def test_losses_without_weights_are_refused_by_fit(tastes):
    with pytest.raises(ConfigError, match="`negatives` must be 'sampled' with CCL"):
        Recommender("mf", "ccl", negatives="all", **FAST).fit(tastes)


def test_unknown_source():
    with pytest.raises(ConfigError, match="did you mean 'in_batch'"):
        TrainingConfig(negatives="in_bach")
