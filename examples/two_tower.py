"""AdvInfoNCE in a training loop of one's own: a two-tower model in plain PyTorch.

Nothing of contrarec is used but the loss. It takes cosines, never models, ids or loaders: a call is
the model's step (min), `adversary_step` is the adversary's (max).

Run it with `python examples/two_tower.py`.
"""

import torch
import torch.nn.functional as F
from torch import nn

import contrarec as cr

N_USERS, N_ITEMS, N_TASTES = 400, 300, 10
EPOCHS, BATCH, N_NEG = 20, 256, 32


class Tower(nn.Module):
    """Turn indices into vectors of length 1; features would go in here."""

    def __init__(self, n: int, dim: int = 32) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n, dim)
        self.layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, index: torch.Tensor) -> torch.Tensor:
        """Return `[..., dim]` for indices `[...]`."""
        return F.normalize(self.layers(self.embedding(index)), dim=-1)


def make_log(rng: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw a log of users who mostly take items of their taste: train and test pairs `[n, 2]`."""
    user_taste = torch.randint(N_TASTES, (N_USERS, 1), generator=rng)
    item_taste = torch.randint(N_TASTES, (N_ITEMS,), generator=rng)
    liking = 1.0 + 100.0 * (user_taste == item_taste)  # [users, items]
    items = torch.multinomial(liking, 12, generator=rng)  # without repetition
    users = torch.arange(N_USERS)[:, None].expand_as(items)
    pairs = torch.stack([users, items], dim=-1)  # [users, 12, 2]
    return pairs[:, :10].reshape(-1, 2), pairs[:, 10:].reshape(-1, 2)


@torch.no_grad()
def recall(users: Tower, items: Tower, train: torch.Tensor, test: torch.Tensor, k: int) -> float:
    """Return the share of test pairs among the first k items, those of train left out."""
    scores = users(torch.arange(N_USERS)) @ items(torch.arange(N_ITEMS)).T
    scores[train[:, 0], train[:, 1]] = -torch.inf
    top = scores.topk(k).indices  # [users, k]
    return (top[test[:, 0]] == test[:, 1:]).any(1).float().mean().item()


def main() -> tuple[float, float]:
    """Train the two towers; print and return recall before and after."""
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    train, test = make_log(rng)
    user_tower, item_tower = Tower(N_USERS), Tower(N_ITEMS)
    optimizer = torch.optim.Adam([*user_tower.parameters(), *item_tower.parameters()], lr=3e-3)
    config = cr.losses.AdvInfoNCEConfig(tau=0.2, adv_lr=1e-3)
    loss = cr.losses.AdvInfoNCE(config, n_users=N_USERS, n_items=N_ITEMS, rng=0)

    before = recall(user_tower, item_tower, train, test, k=20)
    for epoch in range(EPOCHS):
        for batch in train[torch.randperm(len(train), generator=rng)].split(BATCH):
            users, positives = batch.unbind(1)
            negatives = torch.randint(N_ITEMS, (len(batch), N_NEG), generator=rng)
            vectors = user_tower(users)
            pos = (vectors * item_tower(positives)).sum(1)  # [B]
            neg = torch.einsum("bd,bnd->bn", vectors, item_tower(negatives))  # [B, N]

            # min step: the model learns, the adversary is a constant
            optimizer.zero_grad()
            loss(pos, neg, users=users, neg_items=negatives).backward()
            optimizer.step()

            # max step, every fifth epoch: the adversary learns, the model is a constant
            if epoch % 5 == 4:
                loss.adversary_step(pos.detach(), neg.detach(), users=users, neg_items=negatives)
    after = recall(user_tower, item_tower, train, test, k=20)
    print(f"recall@20 before training {before:.3f}, after {after:.3f}")
    return before, after


if __name__ == "__main__":
    main()
