"""Losses by hand, their configs and their names."""

import math
import sys
import types
from dataclasses import FrozenInstanceError, dataclass

import numpy as np
import pytest
import torch

from contrarec.errors import ConfigError
from contrarec.losses import (
    BPR,
    LOSSES,
    AdvInfoNCE,
    AdvInfoNCEConfig,
    History,
    InfoNCE,
    InfoNCEConfig,
    Loss,
    functional,
    resolve_loss,
)
from graphs import encoder


def test_bpr_by_hand():
    # margins pos − neg: log 3 and 0; sigmoid 3/4 and 1/2; mean of −log
    pos, neg = torch.tensor([math.log(3)]), torch.tensor([[0.0, math.log(3)]])
    expected = (math.log(4 / 3) + math.log(2)) / 2
    assert functional.bpr(pos, neg).item() == pytest.approx(expected, rel=1e-6)


def test_infonce_by_hand():
    # τ = 1/2: e^{pos/τ} = 4, e^{neg/τ} = 1 and 9; weights 2 and 1/3: 2 + 3
    pos = torch.tensor([0.5 * math.log(4)])
    neg = torch.tensor([[0.0, 0.5 * math.log(9)]])
    weight = torch.tensor([[math.log(2), -math.log(3)]])
    plain = functional.infonce(pos, neg, tau=0.5)
    weighted = functional.infonce(pos, neg, tau=0.5, neg_log_weight=weight)
    without = functional.infonce(pos, neg, tau=0.5, neg_log_weight=weight, include_positive=False)
    assert plain.item() == pytest.approx(math.log(14 / 4), rel=1e-6)
    assert weighted.item() == pytest.approx(math.log(9 / 4), rel=1e-6)
    assert without.item() == pytest.approx(math.log(5 / 4), rel=1e-6)


def test_kl_by_hand():
    # p = (1/2, 1/4, 1/4, 0) of 4: 1/2·log 2 + 0 + 0
    log_p = torch.tensor([[0.5, 0.25, 0.25, 0.0]]).log()
    assert functional.kl_to_uniform(log_p).item() == pytest.approx(0.5 * math.log(2), rel=1e-6)


def test_advinfonce_by_hand():
    # logits ⟨a, b_j⟩ = log 3 and 0, so p = 3/4 and 1/4; scores 0, τ = 1, k_neg = 2, N = 2:
    # 1 / (1 + 2·2·(3/4 + 1/4)) = 1/5
    loss = AdvInfoNCE(AdvInfoNCEConfig(tau=1.0, k_neg=2.0, adv_dim=1), n_users=1, n_items=2)
    loss.load_state_dict(
        {
            "hardness.users": torch.tensor([[1.0]]),
            "hardness.items": torch.tensor([[math.log(3)], [0]]),
        }
    )
    users, items = torch.tensor([0]), torch.tensor([[0, 1]])
    pos, neg = torch.tensor([0.0]), torch.tensor([[0.0, 0.0]])
    assert loss(pos, neg, users=users, neg_items=items).item() == pytest.approx(math.log(5))
    p = loss.log_p(neg, users=users, neg_items=items).exp()
    torch.testing.assert_close(p, torch.tensor([[0.75, 0.25]]))
    # e^{neg} = 5 and 1: 1 / (1 + 4·(3/4·5 + 1/4)) = 1/17
    neg = torch.tensor([[math.log(5), 0.0]])
    assert loss(pos, neg, users=users, neg_items=items).item() == pytest.approx(math.log(17))
    per_row = loss.per_row(pos, neg, users=users, neg_items=items)
    torch.testing.assert_close(per_row, torch.tensor([math.log(17)]))


def test_popularity_by_hand():
    # counts 16, 4 and 0 (which counts as 1) under α = 1/2: weights 4, 2, 1 of 7
    config = InfoNCEConfig(weights="popularity", alpha=0.5)
    loss = InfoNCE(config, item_counts=np.array([4, 16, 0]))
    p = loss.log_p(
        torch.zeros(1, 3), users=torch.tensor([0]), neg_items=torch.tensor([[1, 0, 2]])
    ).exp()
    torch.testing.assert_close(p, torch.tensor([[4.0, 2.0, 1.0]]) / 7)


def test_uniform_weights_have_no_log_p():
    neg = torch.zeros(2, 3)
    assert InfoNCE().log_p(neg) is None
    assert InfoNCE().neg_log_weight(neg) is None
    kneg = InfoNCE(InfoNCEConfig(k_neg=64.0)).neg_log_weight(neg)
    assert kneg.item() == pytest.approx(math.log(64))


def test_infonce_module_passes_its_settings_on():
    pos, neg = torch.tensor([0.3, 0.1]), torch.tensor([[0.2, 0.5], [0.0, -0.3]])
    loss = InfoNCE(InfoNCEConfig(tau=0.4, k_neg=3.0, include_positive=False))
    # mean of log(3·Σ_j e^{(neg_j − pos)/0.4})
    rows = [
        math.log(3 * (math.exp(-0.1 / 0.4) + math.exp(0.2 / 0.4))),
        math.log(3 * (math.exp(-0.1 / 0.4) + math.exp(-0.4 / 0.4))),
    ]
    assert loss(pos, neg).item() == pytest.approx(sum(rows) / 2, rel=1e-6)


def test_random_weights_belong_to_the_pair():
    """The same pair weighs the same in any batch, whatever stands beside it."""
    loss = InfoNCE(InfoNCEConfig(weights="random"), rng=1)
    neg, users = torch.zeros(2, 3), torch.tensor([3, 8])
    items = torch.tensor([[5, 6, 7], [5, 6, 7]])
    log_p = loss.log_p(neg, users=users, neg_items=items)
    moved = loss.log_p(neg, users=users.flip(0), neg_items=torch.tensor([[7, 5, 6], [9, 7, 5]]))

    def ratio(row, a, b):
        return (row[a] - row[b]).item()

    assert ratio(log_p[1], 0, 2) == pytest.approx(ratio(moved[0], 1, 0), abs=1e-5)
    assert ratio(log_p[0], 0, 2) == pytest.approx(ratio(moved[1], 2, 1), abs=1e-5)
    assert not torch.allclose(log_p[0], log_p[1])  # users differ
    other = InfoNCE(InfoNCEConfig(weights="random"), rng=2).log_p(neg, users=users, neg_items=items)
    assert not torch.allclose(log_p, other)
    restored = InfoNCE(InfoNCEConfig(weights="random"), rng=2)
    restored.load_state_dict(loss.state_dict())
    assert torch.equal(restored.log_p(neg, users=users, neg_items=items), log_p)


def test_random_logits_are_standard_normal():
    """40,000 pairs; bounds are 5 standard errors, so a right hash fails once in a million runs."""
    loss = InfoNCE(InfoNCEConfig(weights="random", scale=2.0), rng=0)
    users, items = torch.arange(200), torch.arange(200).expand(200, 200)
    g = loss.hardness(users, items)
    g = g - g.mean(1, keepdim=True)  # log-softmax keeps the logits up to a row's constant
    n = g.numel()
    variance = (g.square().sum() / (n - 200)).item()
    assert variance == pytest.approx(4, abs=5 * 4 * math.sqrt(2 / n))
    assert g.pow(4).mean().item() / variance**2 == pytest.approx(
        3, abs=5 * math.sqrt(24 / n) + 0.03
    )
    for lag in (1, 2):  # neither neighbouring items nor neighbouring users go together
        across = (g[:, lag:] * g[:, :-lag]).mean().item() / variance
        down = (g[lag:] * g[:-lag]).mean().item() / variance
        assert abs(across + 1 / 200) < 5 / math.sqrt(n)
        assert abs(down) < 5 / math.sqrt(n)


# published weights are for large catalogues, where few negatives come near the margins
FOR_A_FEW_ITEMS = {"ccl": {"neg_weight": 5.0}, "mmcl": {"neg_weights": (1.0, 1.0, 1.0)}}
SMALL_STARTS = {"llpauc": 0.3}  # its scores go through a sigmoid, which forgets what is far wrong
# without negatives colours part only once the positives have found each other, and a squared error
# is slow to leave a saturated sigmoid
SLOW = ("biser", "directau", "mawu", "uctrl")


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_name_trains_two_towers_on_a_checkerboard(name):
    """Its loss goes down, and users end up nearer to the items of their own colour."""
    torch.manual_seed(0)
    n = 8
    spec = LOSSES[name]
    users = torch.arange(n)
    positive = users.view(-1, 1) % 2 + 2 * torch.arange(4)  # [8, 4], the items of one's colour
    history = History(np.arange(0, 4 * n + 1, 4), positive.flatten().numpy())
    loss = spec.loss(
        spec.configure(**FOR_A_FEW_ITEMS.get(name, {})),
        n_users=n,
        n_items=n,
        item_counts=torch.ones(n),
        history=history,
        dim=4,
        rng=0,
    )
    start = SMALL_STARTS.get(name, 1.0)
    U, V = ((start * torch.randn(n, 4)).requires_grad_() for _ in range(2))
    towers = lambda: (U, V)  # noqa: E731
    if spec.kind == "graph":
        towers = encoder(*history, n, dim=4, **spec.backbone_defaults)
        U, V = towers.user_table, towers.item_table
    negative = 1 - users.view(-1, 1) % 2 + 2 * torch.arange(4)
    optimizer = torch.optim.Adam([U, V], lr=0.05)
    values = []
    for t in range(240 if name in SLOW else 60):
        outputs = a, b = loss.propagate(towers)
        if loss.similarity == "cosine":
            a, b = torch.nn.functional.normalize(a), torch.nn.functional.normalize(b)
        scores = a @ b.T
        pos, neg = scores[users, positive[:, t % 4]], scores.gather(1, negative)
        rows = {
            "users": users,
            "pos_items": positive[:, t % 4],
            "neg_items": negative,
            "vectors": (U, V),
            "outputs": outputs,
        }
        value = loss(pos, neg, **rows)
        optimizer.zero_grad()
        value.backward()
        loss.after_backward()
        optimizer.step()
        values.append(value.item())
        if loss.has_adversary and t % 5 == 0:
            loss.adversary_step(pos, neg, **rows)
    if name != "mixrec":  # which weighs its parts by chance, so that its values go up and down
        assert sum(values[-4:]) < 0.5 * sum(values[:4])
    assert (scores.gather(1, positive).amin(1) > scores.gather(1, negative).amax(1)).all()


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        (InfoNCEConfig, {"tau": -0.1}, "`tau` must be positive, got -0.1."),
        (InfoNCEConfig, {"tau": math.nan}, "`tau` must be positive, got nan."),
        (InfoNCEConfig, {"k_neg": 0}, "`k_neg` must be positive, got 0.0."),
        (InfoNCEConfig, {"weights": "populrity"}, "did you mean 'popularity'"),
        (InfoNCEConfig, {"alpha": math.inf}, "`alpha` must be finite, got inf."),
        (AdvInfoNCEConfig, {"eta": 0.0}, "`eta` must be positive, got 0.0."),
        (AdvInfoNCEConfig, {"adv_dim": 0}, "`adv_dim` must be positive, got 0."),
        (AdvInfoNCEConfig, {"adv_interval": 0}, "`adv_interval` must be positive, got 0."),
        (AdvInfoNCEConfig, {"adv_passes": -1}, "`adv_passes` must not be negative, got -1."),
        (AdvInfoNCEConfig, {"direction": "up"}, "unknown choice 'up'"),
        (
            AdvInfoNCEConfig,
            {"hardness": "closed_form", "direction": "min"},
            "`direction` must be 'max' with the closed form, got 'min'.",
        ),
    ],
)
def test_configs_refuse(config, settings, message):
    with pytest.raises(ConfigError, match=message):
        config(**settings)


def test_configs_are_frozen_and_keyword_only():
    with pytest.raises(FrozenInstanceError):
        InfoNCEConfig().tau = 0.2
    with pytest.raises(TypeError):
        InfoNCEConfig(0.2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, n: functional.infonce(p, n, tau=0), "`tau` must be positive, got 0."),
        (lambda _, n: functional.closed_form_log_p(n, tau=-1), "`tau` must be positive"),
        (
            lambda _, n: functional.closed_form_log_p(n, tau=1, lam=0),
            "`lam` must be positive, got 0.",
        ),
        (lambda _, n: functional.budgeted_log_p(n, -1.0), "`eta` must be positive, got -1.0."),
        (lambda p, n: functional.bpr(p[:, None], n), r"got \(2, 1\) and \(2, 3\)"),
        (lambda p, n: functional.infonce(p[:1], n, tau=1), r"got \(1,\) and \(2, 3\)"),
        (lambda p, n: BPR()(p, n[0]), r"got \(2,\) and \(3,\)"),
        (
            lambda p, n: AdvInfoNCE(n_users=1, n_items=1)(p, n),
            "`users` and `neg_items` must be given",
        ),
        (
            lambda *_: InfoNCE(InfoNCEConfig(weights="popularity")),
            "`item_counts` must be given with popularity weights, got None.",
        ),
        (
            lambda *_: InfoNCE(
                InfoNCEConfig(weights="popularity"), n_items=3, item_counts=np.ones(2)
            ),
            r"`item_counts` must be \[n_items\] = \[3\], got \(2,\).",
        ),
    ],
)
def test_wrong_calls(call, message):
    with pytest.raises(ConfigError, match=message):
        call(torch.zeros(2), torch.zeros(2, 3))


def test_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match="did you mean 'users'"):
        BPR()(torch.zeros(1), torch.zeros(1, 1), user=torch.zeros(1))
    with pytest.raises(TypeError):
        InfoNCE(n_user=3)


def test_configure():
    config = LOSSES["infonce-popularity"].configure(tau=0.3)
    assert config == InfoNCEConfig(tau=0.3, k_neg=64.0, weights="popularity")
    assert LOSSES["infonce-kneg"].configure(k_neg=2).k_neg == 2  # what is said wins
    with pytest.raises(ConfigError, match="did you mean 'tau'"):
        LOSSES["infonce"].configure(taau=0.3)


def test_names_stand_for_what_they_say():
    assert LOSSES["advinfonce"].configure().k_neg == 1
    assert LOSSES["advinfonce-mlp"].configure().hardness == "mlp"
    assert LOSSES["advinfonce-closed"].configure().hardness == "closed_form"
    assert LOSSES["advinfonce-budget"].configure().eta == 0.05
    assert LOSSES["infonce-kneg"].configure().k_neg == 64
    with pytest.raises(ConfigError, match="did you mean 'advinfonce'"):
        resolve_loss("advinfonse")


@dataclass(frozen=True, kw_only=True)
class MyConfig:
    margin: float = 1.0


class MyLoss(Loss):
    """Hinge.

    More about it.
    """

    config_class = MyConfig


def test_own_class(monkeypatch):
    module = types.ModuleType("their_losses")
    module.MyLoss, module.NoConfig = MyLoss, type("NoConfig", (Loss,), {})
    module.NoLoss = torch.nn.Identity
    monkeypatch.setitem(sys.modules, "their_losses", module)
    spec = resolve_loss("their_losses:MyLoss")
    assert (spec.loss, spec.config, spec.summary) == (MyLoss, MyConfig, "Hinge.")
    assert spec.configure(margin=2).margin == 2
    with pytest.raises(ConfigError, match="must have a dataclass as `config_class`"):
        resolve_loss("their_losses:NoConfig")
    with pytest.raises(ConfigError, match="must inherit from contrarec"):
        resolve_loss("their_losses:NoLoss")
    with pytest.raises(ConfigError, match="cannot be imported"):
        resolve_loss("their_losses:Missing")
    with pytest.raises(ConfigError, match="No module named 'not_there'"):
        resolve_loss("not_there:MyLoss")
