"""A loss of one's own, without touching the package: a function, a config and a class.

The loss is a hinge on the hardest sampled negative: `relu(margin − s_ui + max_j s_uj)`. Run this
file with `python examples/own_loss.py`, or name the class to any command:

    PYTHONPATH=examples contrarec train DATA --loss own_loss:HardestHinge --set margin=0.5
"""

from dataclasses import dataclass

import torch

from contrarec.config import require_positive, settle
from contrarec.data.synthetic import SyntheticConfig, synthesize
from contrarec.losses import score_loss
from contrarec.recommender import Recommender


def hardest_hinge(pos: torch.Tensor, neg: torch.Tensor, *, margin: float) -> torch.Tensor:
    """Return the loss of each row `[B]` from scores `pos [B]` and `neg [B, N]`."""
    return torch.relu(margin - pos + neg.amax(dim=1))


@dataclass(frozen=True, kw_only=True)
class HardestHingeConfig:
    """The function's keywords, with defaults and checks."""

    margin: float = 0.3
    """How far a positive has to be above the hardest negative."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "margin")


HardestHinge = score_loss(hardest_hinge, HardestHingeConfig, similarity="cosine")


def main() -> tuple[float, float]:
    """Train it on a generated world; print and return recall before and after."""
    data = synthesize(SyntheticConfig(n_users=300, n_items=150), seed=0).dataset
    recalls = []
    for epochs, lr in ((1, 1e-9), (20, 0.01)):
        recommender = Recommender(
            "mf", "own_loss:HardestHinge", margin=0.5, epochs=epochs, lr=lr, batch_size=512
        )
        metrics = recommender.fit(data).result["metrics"]
        recalls.append(metrics["id"]["recall@20"])
    before, after = recalls
    print(f"recall@20 before training {before:.3f}, after {after:.3f}")
    return before, after


if __name__ == "__main__":
    main()
