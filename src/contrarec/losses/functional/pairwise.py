"""Losses of a positive against each negative."""

import torch
import torch.nn.functional as F

from contrarec.losses.functional.checks import check_scores


def bpr(pos: torch.Tensor, neg: torch.Tensor) -> torch.Tensor:
    """Bayesian personalised ranking, averaged over the negatives of a row.

    `mean_j −log sigmoid(pos − neg_j)`

    Args:
        pos: `[B]` scores of the positives (dot products).
        neg: `[B, N]` scores of the sampled negatives; N is 1 in the paper.

    Returns:
        `[B]` losses.

    Raises:
        ConfigError: the shapes do not fit.

    Source:
        Rendle et al., UAI 2009, section 4.1 (without the regulariser).

    Deviations:
        Any number of negatives: their mean, so that the scale does not depend on N.

    Relations:
        For N = 1 it equals `infonce` at τ = 1, and softplus of `infonce` without the positive.

    >>> bpr(torch.tensor([0.0]), torch.tensor([[0.0, 0.0]]))
    tensor([0.6931])
    """
    check_scores(pos, neg)
    return -F.logsigmoid(pos[:, None] - neg).mean(1)
