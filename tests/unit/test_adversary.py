"""The adversary: when it moves, what it starts from, what it may see, how it resumes."""

import copy
import math

import pytest
import torch

from contrarec.errors import ConfigError
from contrarec.losses import (
    AdvInfoNCE,
    AdvInfoNCEConfig,
    EmbeddingHardness,
    MLPHardness,
    adversary_due,
)


def due_epochs(n_epochs, **settings):
    """Epochs before which the adversary moved, in a loop that counts its passes."""
    config, passes, due = AdvInfoNCEConfig(**settings), 0, []
    for epoch in range(n_epochs):
        if adversary_due(epoch, passes, config):
            due.append(epoch)
            passes += config.adv_epochs
    return due


def test_schedule():
    # (e + 3) % 5 == 0
    assert due_epochs(30, adv_interval=5, adv_passes=4) == [2, 7, 12, 17]
    # Coat: (e + 3) % 15 == 0
    assert due_epochs(60, adv_interval=15, adv_passes=20) == [12, 27, 42, 57]
    # (e + 3) % 3 == 0 and e > 0: epoch 0 would be due, and is not
    assert due_epochs(10, adv_interval=3, adv_passes=9) == [3, 6, 9]
    # strictly after the warm-up: epoch 7 is not due yet
    assert due_epochs(20, adv_interval=5, warm_up_epochs=7) == [12, 17]
    assert due_epochs(20, adv_interval=5, warm_up_epochs=6) == [7, 12, 17]


def test_schedule_ends_after_adv_passes_unless_there_is_a_budget():
    assert due_epochs(100, adv_interval=1, adv_passes=3) == [1, 2, 3]
    assert due_epochs(100, adv_interval=1, adv_passes=0) == []
    assert due_epochs(100, adv_interval=10, adv_passes=3, adv_epochs=2) == [7, 17]
    assert due_epochs(100, adv_interval=1, adv_passes=3, eta=0.1) == list(range(1, 100))


def test_initial_tables_are_xavier_normal():
    tables = EmbeddingHardness(3000, 500, 64, generator=torch.Generator().manual_seed(0))
    for table, rows in ((tables.users, 3000), (tables.items, 500)):
        n = rows * 64
        std = math.sqrt(2 / (rows + 64))
        assert table.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * n))
        assert abs(table.mean().item()) < 5 * std / math.sqrt(n)


def test_initial_mlp_lies_within_its_bounds():
    mlp = MLPHardness(16, 4, generator=torch.Generator().manual_seed(0))
    assert mlp.users.weight.shape == (4, 16)
    values = torch.cat([parameter.detach().flatten() for parameter in mlp.parameters()])
    assert values.abs().max() <= 0.25  # 1/√16
    assert values.abs().max() > 0.2
    assert abs(values.mean()) < 5 * 0.25 / math.sqrt(3 * len(values))


@pytest.mark.parametrize("hardness", ["embedding", "mlp"])
def test_rng_decides_and_the_global_stream_is_left_alone(hardness):
    def make(rng):
        loss = AdvInfoNCE(AdvInfoNCEConfig(hardness=hardness), n_users=5, n_items=6, rng=rng)
        return torch.cat([p.detach().flatten() for p in loss.parameters()])

    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert torch.equal(make(1), make(1))
    assert torch.equal(make(1), make(torch.Generator().manual_seed(1)))
    assert not torch.equal(make(1), make(2))
    assert not torch.equal(make(None), make(None))
    assert torch.equal(torch.get_rng_state(), before)


def setup(**settings):
    loss = AdvInfoNCE(
        AdvInfoNCEConfig(adv_lr=0.1, adv_dim=4, **settings), n_users=6, n_items=9, dim=3, rng=0
    )
    g = torch.Generator().manual_seed(0)
    rows = {
        "users": torch.tensor([0, 4, 4]),
        "neg_items": torch.tensor([[1, 2, 2], [8, 1, 3], [5, 2, 1]]),
        "vectors": (torch.randn(6, 3, generator=g), torch.randn(9, 3, generator=g)),
    }
    return loss, torch.rand(3, generator=g), torch.rand(3, 3, generator=g), rows


def test_only_rows_of_the_batch_move():
    loss, pos, neg, rows = setup()
    before = {name: tensor.clone() for name, tensor in loss.state_dict().items()}
    loss.adversary_step(pos, neg, **rows)
    moved_users = (loss.hardness.users != before["hardness.users"]).any(1)
    moved_items = (loss.hardness.items != before["hardness.items"]).any(1)
    assert moved_users.nonzero().flatten().tolist() == [0, 4]
    assert moved_items.nonzero().flatten().tolist() == [1, 2, 3, 5, 8]


@pytest.mark.parametrize("hardness", ["embedding", "mlp"])
def test_step_reports_what_it_saw_before_it_moved(hardness):
    loss, pos, neg, rows = setup(hardness=hardness)
    value, log_p = loss(pos, neg, **rows), loss.log_p(neg, **rows)
    step = loss.adversary_step(pos, neg, **rows)
    assert torch.equal(step.loss, value)
    kl = (log_p.exp() * (log_p + math.log(3))).sum(1)
    torch.testing.assert_close(step.kl, kl, rtol=1e-3, atol=1e-6)
    assert not step.loss.requires_grad
    assert not step.kl.requires_grad
    assert all(parameter.grad is None for parameter in loss.parameters())


def test_step_works_without_a_graph_and_next_to_one():
    loss, pos, neg, rows = setup()
    other = copy.deepcopy(loss)
    with torch.no_grad():
        loss.adversary_step(pos, neg, **rows)
    other.adversary_step(pos.requires_grad_(), neg.requires_grad_(), **rows)
    for a, b in zip(loss.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    assert pos.grad is None
    assert neg.grad is None


def test_gradients_left_by_others_do_not_enter_a_step():
    loss, pos, neg, rows = setup()
    other = copy.deepcopy(loss)
    loss.adversary_step(pos, neg, **rows)
    for parameter in other.parameters():
        parameter.grad = torch.ones_like(parameter)
    other.adversary_step(pos, neg, **rows)
    for a, b in zip(loss.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("settings", [{"hardness": "mlp"}, {"adv_l2": 0.1}, {"eta": 0.01}])
def test_resumed_adversary_goes_on_bit_by_bit(settings):
    loss, pos, neg, rows = setup(**settings)
    for _ in range(3):
        loss.adversary_step(pos, neg, **rows)
    weights = copy.deepcopy(loss.state_dict())
    moments = copy.deepcopy(loss.adversary_optimizer.state_dict())
    fresh = AdvInfoNCE(loss.config, n_users=6, n_items=9, dim=3, rng=99)
    fresh.load_state_dict(weights)
    fresh.adversary_optimizer.load_state_dict(moments)
    for _ in range(3):
        loss.adversary_step(pos, neg, **rows)
        fresh.adversary_step(pos, neg, **rows)
    for a, b in zip(loss.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(a, b)


def test_own_l2_pulls_the_tables_in():
    free, pos, neg, rows = setup()
    held, _, _, _ = setup(adv_l2=1.0)
    for _ in range(25):
        free.adversary_step(pos, neg, **rows)
        held.adversary_step(pos, neg, **rows)
    touched = rows["users"].unique()
    assert held.hardness.users[touched].norm() < 0.3 * free.hardness.users[touched].norm()


def test_l2_by_hand():
    tables = EmbeddingHardness(2, 3, 1)
    with torch.no_grad():
        tables.users.copy_(torch.tensor([[1.0], [2.0]]))
        tables.items.copy_(torch.tensor([[1.0], [3.0], [5.0]]))
    for parameter in tables.parameters():
        parameter.grad = torch.ones_like(parameter)
    # half the squared norms of users 1, 1 and items 0, 1, 1, 1 grow by 2·2, 1·1 and 3·3
    tables.add_l2(torch.tensor([1, 1]), torch.tensor([[0, 1], [1, 1]]), 10.0)
    assert tables.users.grad.flatten().tolist() == [1, 1 + 10 * 4]
    assert tables.items.grad.flatten().tolist() == [1 + 10 * 1, 1 + 10 * 9, 1]
    mlp = MLPHardness(1, 1)
    for value, parameter in enumerate(mlp.parameters(), start=1):
        torch.nn.init.constant_(parameter, value)
        parameter.grad = torch.ones_like(parameter)
    mlp.add_l2(torch.tensor([0]), torch.tensor([[0]]), 10.0)
    assert [parameter.grad.item() for parameter in mlp.parameters()] == [11, 21, 31, 41]


def test_mlp_by_hand():
    # users: relu(2·1 − 1) = 1; items: relu(−1·x + 0) of −log 3 and of 5: log 3 and 0
    mlp = MLPHardness(1, 1)
    values = {"users.weight": [[2.0]], "users.bias": [-1.0], "items.weight": [[-1.0]]}
    mlp.load_state_dict({k: torch.tensor(v) for k, v in (values | {"items.bias": [0.0]}).items()})
    vectors = (torch.tensor([[1.0]]), torch.tensor([[5.0], [-math.log(3)]]))
    log_p = mlp(torch.tensor([0]), torch.tensor([[1, 0]]), vectors)
    torch.testing.assert_close(log_p.exp(), torch.tensor([[0.75, 0.25]]))


def test_mlp_of_a_large_catalogue_sees_only_the_gathered_rows():
    """Rows outside the batch may hold anything; results equal those of a small catalogue."""
    mlp = MLPHardness(3, 4, generator=torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(1)
    users, items = torch.tensor([1, 0]), torch.tensor([[40, 2, 40], [7, 2, 30]])
    U, V = torch.randn(2, 3, generator=g), torch.full((50, 3), math.nan)
    kept = items.unique()
    V[kept] = torch.randn(len(kept), 3, generator=g)
    large = mlp(users, items, (U, V))  # 6 gathered of 50 rows
    index = torch.searchsorted(kept, items)
    small = mlp(users, index, (U, V[kept]))  # 6 gathered of 4 rows: the whole table
    torch.testing.assert_close(large, small)
    for a, b in zip(
        torch.autograd.grad(large.square().sum(), list(mlp.parameters())),
        torch.autograd.grad(small.square().sum(), list(mlp.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_mlp_sends_no_gradient_to_the_tables():
    loss, pos, neg, rows = setup(hardness="mlp")
    U, V = (table.requires_grad_() for table in rows["vectors"])
    loss(pos.requires_grad_(), neg, **rows).backward()
    loss.adversary_step(pos, neg, **rows)
    assert U.grad is None
    assert V.grad is None


def test_mlp_takes_the_backbones_dimension():
    config = AdvInfoNCEConfig(hardness="mlp", adv_dim=64)
    loss = AdvInfoNCE(config, n_users=2, n_items=2, dim=7)
    assert loss.hardness.users.in_features == 7
    assert AdvInfoNCE(config, n_users=2, n_items=2).hardness.users.in_features == 64


def test_mlp_without_vectors_is_refused():
    loss, pos, neg, rows = setup(hardness="mlp")
    del rows["vectors"]
    with pytest.raises(ConfigError, match=r"`vectors` must be given with MLP hardness, got None."):
        loss(pos, neg, **rows)


def test_closed_form_has_nothing_to_learn():
    loss, pos, neg, rows = setup(hardness="closed_form")
    assert not loss.has_adversary
    assert not list(loss.parameters())
    for call in (
        lambda: loss.adversary_step(pos, neg, **rows),
        lambda: loss.adversary_optimizer,
    ):
        with pytest.raises(ConfigError, match="has no adversary to train"):
            call()


@pytest.mark.parametrize(("name", "stays"), [("adam", False), ("lazy_adam", True)])
def test_a_lazy_adversary_leaves_rows_that_it_was_not_asked_about(name, stays):
    config = AdvInfoNCEConfig(adv_optimizer=name, adv_l2=0.0)
    loss = AdvInfoNCE(config, n_users=4, n_items=6, rng=0)
    pos, neg = torch.tensor([0.9]), torch.tensor([[0.1, 0.2]])
    for user, items in ((1, [0, 4]), (2, [3, 5])):
        before = loss.hardness.users.detach().clone()
        batch = {"users": torch.tensor([user]), "neg_items": torch.tensor([items])}
        loss.adversary_step(pos, neg, **batch)
    # Adam's moments carry the first step's user on; lazy Adam leaves it where it was
    assert torch.equal(loss.hardness.users[1], before[1]) is stays
    assert not torch.equal(loss.hardness.users[2], before[2])
