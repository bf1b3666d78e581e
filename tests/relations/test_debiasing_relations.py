"""Relations of the debiasing losses, and what those that learn have to keep."""

import math
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contrarec import Dataset, Recommender
from contrarec.errors import ConfigError
from contrarec.losses import (
    BISER,
    IPS,
    LOSSES,
    MACR,
    PID,
    SAMREG,
    BISERConfig,
    CausE,
    CausEConfig,
    MACRConfig,
    PIDConfig,
    SAMREGConfig,
)
from contrarec.losses.functional import bpr, macr, sam_reg, self_unbiased, squared_correlation
from contrarec.model import Model
from contrarec.training.loop import Hooks

N_USERS, N_ITEMS, DIM, B, N = 5, 7, 4, 6, 3
COUNTS = np.array([9, 1, 4, 4, 2, 0, 6])
SEEDS = st.integers(0, 10_000)
NAMES = [name for name, spec in LOSSES.items() if spec.kind == "debiasing"]
quick = settings(max_examples=15, deadline=None)


def batch(seed, dtype=torch.float32):
    g = torch.Generator().manual_seed(seed)
    U = torch.randn(N_USERS, DIM, generator=g, dtype=dtype, requires_grad=True)
    V = torch.randn(N_ITEMS, DIM, generator=g, dtype=dtype, requires_grad=True)
    users = torch.randint(0, N_USERS, (B,), generator=g)
    pos_items = torch.randint(0, N_ITEMS, (B,), generator=g)
    neg_items = torch.randint(0, N_ITEMS, (B, N), generator=g)
    rows = {"users": users, "pos_items": pos_items, "neg_items": neg_items, "outputs": (U, V)}
    pos = (U[users] * V[pos_items]).sum(1)
    return pos, torch.einsum("bd,bnd->bn", U[users], V[neg_items]), rows


def about(counts=COUNTS):
    return {"n_users": N_USERS, "n_items": N_ITEMS, "dim": DIM, "item_counts": counts, "rng": 0}


def plain(pos, neg):
    return bpr(pos, neg).mean()


@quick
@given(SEEDS, st.sampled_from([0, 1, 50]))
def test_equal_popularity_makes_ips_bpr(seed, count):
    pos, neg, rows = batch(seed)
    equal = IPS(**about(np.full(N_ITEMS, count)))
    torch.testing.assert_close(equal(pos, neg, **rows), plain(pos, neg))
    weighted = IPS(**about()).per_row(pos, neg, **rows)
    assert (weighted <= bpr(pos, neg)).all()


@quick
@given(SEEDS)
def test_without_penalty_and_control_cause_is_bpr(seed):
    pos, neg, rows = batch(seed)
    loss = CausE(CausEConfig(penalty=0, share=0), **about())
    torch.testing.assert_close(loss(pos, neg, **rows), plain(pos, neg))
    # with the tables equal the control sample scores the same, and they are no way apart
    torch.nn.init.zeros_(loss.control).data.add_(rows["outputs"][1].detach())
    loss.probability.fill_(1)
    torch.testing.assert_close(loss(pos, neg, **rows), plain(pos, neg))
    loss.config = CausEConfig(penalty=1, share=0)
    torch.testing.assert_close(loss(pos, neg, **rows), plain(pos, neg), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_tables_do_not_pull_at_each_other_in_cause(dtype):
    """The root of their distance is taken at 0, where the slope of a root is infinite."""
    _, _, rows = batch(3, dtype)
    U, items = rows["outputs"][0], torch.arange(N_ITEMS)
    # each along an axis, so that the cosine of equal vectors is 1 to the last digit
    V = (torch.eye(DIM, dtype=dtype)[items % DIM] * 2.0 ** (items % 3)[:, None]).requires_grad_()
    rows["outputs"] = (U, V)
    pos = (U[rows["users"]] * V[rows["pos_items"]]).sum(1)
    neg = torch.einsum("bd,bnd->bn", U[rows["users"]], V[rows["neg_items"]])
    found = []
    for penalty in (0.0, 1.0):
        loss = CausE(CausEConfig(penalty=penalty, share=0.5), **about()).to(dtype)
        loss.control.data.copy_(V)
        value = loss(pos, neg, **rows)
        grads = torch.autograd.grad(value, (U, V, loss.control), retain_graph=True)
        found.append((value, *grads))
    for without, with_penalty in zip(*found, strict=True):
        torch.testing.assert_close(with_penalty, without, rtol=0, atol=2e-6)


def test_the_control_table_of_cause_starts_elsewhere(data):
    rec = recommender("cause", "mf")
    model = Model(rec.settings, data.train, rec.device)
    cosine = torch.cosine_similarity(model.backbone.item_table, model.loss.control)
    assert (cosine < 0.99).all()
    other = Model(replace(rec.settings, seed=4), data.train, rec.device)
    assert not torch.equal(model.loss.control, other.loss.control)


@quick
@given(SEEDS, st.floats(-40, 40))
def test_constant_heads_rank_as_the_scores_do(seed, c):
    _, _, rows = batch(seed, torch.float64)
    loss = MACR(MACRConfig(c=c), **about()).double()
    for head in loss.learned():
        torch.nn.init.zeros_(head)
    U, V = rows["outputs"]
    users, items = loss.final_vectors(U, V)
    assert users.shape == (N_USERS, DIM + 1)
    torch.testing.assert_close(users @ items.T, (U @ V.T - c) / 2)
    assert torch.equal((users @ items.T).argsort(1), (U @ V.T).argsort(1))


@quick
@given(SEEDS)
def test_macr_of_sure_heads_is_binary_cross_entropy(seed):
    pos, neg, _ = batch(seed)
    sure = torch.full_like(pos, 80.0)
    got = macr(pos, neg, sure, sure, sure[:, None].expand_as(neg), alpha=0, beta=0)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    want = bce(pos, torch.ones_like(pos), reduction="none")
    want = want + bce(neg, torch.zeros_like(neg), reduction="none").mean(1)
    torch.testing.assert_close(got, want)


def test_macr_rows_are_rows():
    """A port let every score meet every head; then other rows would matter."""
    pos, neg, rows = batch(1)
    loss = MACR(MACRConfig(alpha=1.0, beta=1.0), **about())
    whole = loss.per_row(pos, neg, **rows)
    for b in range(B):
        one = {key: rows[key][b : b + 1] for key in ("users", "pos_items", "neg_items")}
        alone = loss.per_row(pos[b : b + 1], neg[b : b + 1], **one, outputs=rows["outputs"])
        torch.testing.assert_close(alone, whole[b : b + 1])


@quick
@given(SEEDS, st.sampled_from([0.0, 0.05, 0.9]))
def test_sam_reg_and_bpr(seed, weight):
    pos, neg, rows = batch(seed)
    none = SAMREG(SAMREGConfig(weight=0), **about())
    torch.testing.assert_close(none(pos, neg, **rows), plain(pos, neg))
    equal = SAMREG(SAMREGConfig(weight=weight), **about(np.full(N_ITEMS, 3)))
    torch.testing.assert_close(equal(pos, neg, **rows), (1 - weight) * plain(pos, neg))


@quick
@given(SEEDS, st.floats(0.1, 10), st.floats(-5, 5))
def test_correlation_ignores_scale_shift_and_sign(seed, scale, shift):
    g = torch.Generator().manual_seed(seed)
    x, y = (torch.randn(9, generator=g, dtype=torch.float64) for _ in range(2))
    base = squared_correlation(x, y)
    assert 0 <= base <= 1
    for other in (squared_correlation(y, x), squared_correlation(x, -scale * y + shift)):
        torch.testing.assert_close(other, base, rtol=1e-6, atol=1e-9)


@quick
@given(SEEDS)
def test_pid_of_ranking_alone_is_bpr(seed):
    _, _, rows = batch(seed)
    loss = PID(PIDConfig(alpha=1), **about())
    U, V = loss.propagate(lambda: rows["outputs"])
    torch.testing.assert_close(U @ V.T, rows["outputs"][0] @ rows["outputs"][1].T)
    pos, neg, rows = batch(seed)
    torch.testing.assert_close(loss(pos, neg, **rows | {"outputs": (U, V)}), plain(pos, neg))


def test_pid_hides_popularity():
    """Vectors that give popularity away are led to hide it from a probe that keeps learning."""
    counts = np.arange(1, N_ITEMS + 1)
    loss = PID(PIDConfig(alpha=0), **about(counts))
    U = torch.zeros(N_USERS, DIM)
    V = torch.randn(N_ITEMS, DIM, generator=torch.Generator().manual_seed(0))
    V[:, 0] = 3 * torch.linspace(-1, 1, N_ITEMS)
    V.requires_grad_()
    items = torch.arange(N_ITEMS)
    rows = {"pos_items": items, "neg_items": items[:, None], "users": items % N_USERS}
    pos, neg = torch.zeros(N_ITEMS), torch.zeros(N_ITEMS, 1)

    def told():
        """How much of popularity the best linear guess explains."""
        design = torch.cat([V.detach()[:, :1], torch.ones(N_ITEMS, 1)], 1)
        wanted = loss.popularity[:, None]
        fit = design @ torch.linalg.lstsq(design, wanted).solution
        return squared_correlation(fit[:, 0], wanted[:, 0]).item()

    assert told() > 0.99
    probe = torch.optim.Adam(loss.learned(), lr=0.05)
    vectors = torch.optim.Adam([V], lr=0.02)
    for _ in range(300):
        value = loss(pos, neg, **rows, outputs=(U, V))
        for optimizer in (probe, vectors):
            optimizer.zero_grad()
        value.backward()
        probe.step()
        vectors.step()
    assert told() < 0.5


@quick
@given(SEEDS)
def test_biser_without_bond_is_self_unbiased(seed):
    pos, neg, rows = batch(seed)
    loss = BISER(BISERConfig(weight=0), **about())
    want = torch.autograd.grad(self_unbiased(pos, neg, floor=0.1).mean(), rows["outputs"])
    pos, neg, rows = batch(seed)
    got = torch.autograd.grad(loss(pos, neg, **rows), rows["outputs"])
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@quick
@given(SEEDS)
def test_full_propensity_is_the_plain_squared_error(seed):
    pos, neg, _ = batch(seed)
    want = (1 - torch.sigmoid(pos)).square() + torch.sigmoid(neg).square().mean(1)
    torch.testing.assert_close(self_unbiased(pos, neg, floor=1.0), want)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e4, 1e15])
@pytest.mark.parametrize("n_rows", [1, B])
def test_extreme_vectors_stay_finite(name, scale, n_rows):
    _, _, rows = batch(2)
    rows = {key: rows[key][:n_rows] for key in ("users", "pos_items", "neg_items")}
    U, V = ((scale * x.detach()).requires_grad_() for x in batch(2)[2]["outputs"])
    loss = LOSSES[name].loss(**about())
    outputs = loss.propagate(lambda: (U, V))
    pos = (outputs[0][rows["users"]] * outputs[1][rows["pos_items"]]).sum(1)
    neg = torch.einsum("bd,bnd->bn", outputs[0][rows["users"]], outputs[1][rows["neg_items"]])
    value = loss(pos, neg, **rows, outputs=outputs)
    assert math.isfinite(value.item())
    value.backward()
    for x in (U, V, *loss.learned()):
        assert x.grad is None or x.grad.isfinite().all()


@pytest.mark.parametrize("name", [name for name in NAMES if "counts" in LOSSES[name].needs])
def test_counts_are_asked_for(name):
    with pytest.raises(ConfigError, match="`item_counts` must be given with this loss, got None"):
        LOSSES[name].loss(**about(None))
    with pytest.raises(ConfigError, match=r"must be \[n_items\] = \[7\], got \(2,\)"):
        LOSSES[name].loss(**about(np.ones(2)))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_named(name):
    pos, neg, _ = batch(5)
    with pytest.raises(ConfigError, match="must be given with this loss, got None"):
        LOSSES[name].loss(**about())(pos, neg)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MACRConfig(alpha=-1), "`alpha` must not be negative, got -1.0."),
        (lambda: MACRConfig(c=math.inf), "`c` must be finite, got inf."),
        (lambda: SAMREGConfig(weight=1.5), "`weight` must be between 0 and 1, got 1.5."),
        (lambda: PIDConfig(alpha=-0.1), "`alpha` must be between 0 and 1, got -0.1."),
        (lambda: CausEConfig(share=-1), "`share` must not be negative, got -1.0."),
        (lambda: BISERConfig(floor=0), r"`floor` must be in \(0, 1\], got 0.0."),
        (lambda: sam_reg(torch.zeros(2), torch.zeros(2, 1), torch.zeros(1), weight=0), r"\(1,\)"),
        (lambda: self_unbiased(torch.zeros(1), torch.zeros(1, 1), floor=2), "got 2."),
        (
            lambda: macr(*[torch.zeros(2), torch.zeros(2, 1)] * 2, torch.zeros(2), alpha=0, beta=0),
            "must be",
        ),
        (
            lambda: macr(
                torch.zeros(2), torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(2),
                torch.zeros(2, 1), alpha=0, beta=0,
            ),
            r"the logits must have the shapes of the scores, got \(2, 1\)",
        ),
    ],
)  # fmt: skip
def test_wrong_calls(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


# what they learn and remember, in training


@pytest.fixture(scope="module")
def data():
    """Two tastes, and items of unequal popularity."""
    rng = np.random.default_rng(0)
    rows = []
    for user in range(16):
        liked = np.arange(user % 2, 14, 2)
        items = rng.choice(liked, 4, replace=False, p=(w := np.arange(7, 0, -1)) / w.sum())
        rows += [(user, int(item)) for item in items]
    train, valid = (
        pl.DataFrame(part, schema=["user", "item"], orient="row") for part in (rows, rows[::4])
    )
    return Dataset.from_parts(train=train, valid=valid, user="user", item="item", name="tastes")


def recommender(name, backbone, **more):
    return Recommender(
        backbone, name, seed=3, device="cpu", dim=6, batch_size=16, n_neg=3, lr=0.02, epochs=3,
        eval_every=2, checkpoint_seconds=0.0, ks=(5,), monitor="recall@5", **more,
    )  # fmt: skip


class Stop(Exception):
    pass


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
@pytest.mark.parametrize("name", ["cause", "macr", "pid", "biser", "mawu", "uctrl"])
def test_what_learns_resumes_bit_for_bit(data, tmp_path, name, backbone):
    whole = recommender(name, backbone).fit(data, out=tmp_path / "whole")
    count = 0

    def on_step(*_):
        nonlocal count
        count += 1
        if count == 6:
            raise Stop

    with pytest.raises(Stop):
        recommender(name, backbone).fit(data, out=tmp_path / "cut", hooks=Hooks(on_step=on_step))
    resumed = recommender(name, backbone).fit(data, out=tmp_path / "cut", resume=True)
    for key, tensor in whole._trained().weights().items():
        assert torch.equal(tensor, resumed._trained().weights()[key]), key


@pytest.mark.parametrize("backbone", ["mf", "lightgcn"])
@pytest.mark.parametrize("name", ["cause", "macr", "pid", "biser"])
def test_every_way_of_serving(data, tmp_path, name, backbone):
    """Vectors that recommend may be longer than the model's; saving, similar items, new users."""
    rec = recommender(name, backbone).fit(data, out=tmp_path / "run")
    model = rec._trained()
    users, items = model.loss.final_vectors(*model.backbone())
    scores = (users @ items.T).detach()
    again = Recommender.load(tmp_path / "run", device="cpu")
    listed = again.recommend([4], k=3, filter_viewed=False)
    want = scores[rec.users.index(pl.Series([4]))[0]].topk(3)
    assert listed["score"].to_list() == pytest.approx(want.values.tolist(), rel=1e-5)
    assert listed["item_id"].to_list() == rec.items.take(want.indices.numpy()).to_list()
    assert again.evaluate(data)["valid"].metrics() == pytest.approx(rec.result["metrics"]["valid"])
    assert len(again.similar_items([0], k=3)) == 3
    folded = again.fold_in([[0, 2], [1]], k=4)
    assert len(folded) == 8
    assert folded["score"].is_finite().all()


@pytest.mark.parametrize("name", ["cause", "macr", "pid", "biser", "mawu", "uctrl"])
def test_what_is_learned_moves_in_training(data, name):
    rec = recommender(name, "mf").fit(data)
    start = Model(rec.settings, data.train, rec.device).loss.state_dict()
    for key, parameter in rec._trained().loss.named_parameters():
        assert not torch.equal(parameter, start[key]), key


@pytest.mark.parametrize("name", ["directau", "mawu", "uctrl", "cause", "macr", "pid", "biser"])
def test_dense_gradients_are_not_left_to_lazy_adam(data, name, monkeypatch):
    with pytest.raises(ConfigError, match=r"`optimizer` must be 'auto' or 'adam'.*dense"):
        recommender(name, "mf", optimizer="lazy_adam").fit(data)
    monkeypatch.setattr("contrarec.optimizers.LAZY_ROWS", 1)
    assert recommender(name, "mf").fit(data).result["epochs"] == 3


@pytest.mark.parametrize("name", ["ips", "sam-reg"])
def test_row_sparse_gradients_are_left_to_lazy_adam(data, name, monkeypatch):
    monkeypatch.setattr("contrarec.optimizers.LAZY_ROWS", 1)
    assert recommender(name, "mf").fit(data).result["epochs"] == 3
