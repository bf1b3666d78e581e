"""What tells a false negative: the adversary's hardness, and the controls beside it."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from contrarec.audit.pairs import Block, Pairs, View, deltas
from contrarec.losses.adversary import PopularityHardness, RandomHardness
from contrarec.losses.functional import closed_form_log_p, kl_to_uniform

Floats = NDArray[np.float64]

ADVERSARY = "adversary"
MIN_KL = 1e-6
"""A control needs some budget."""


class Detectors:
    """δ of the adversary and of every control, for a block of users.

    Args:
        view: the model.
        item_counts: `[n_items]` training interactions.
        kl: to uniform, in nats, that every row of a control has.
        seed: of the random control.
    """

    def __init__(self, view: View, item_counts: NDArray[np.integer], kl: float, seed: int) -> None:
        self._view, self._kl = view, kl
        self._tau = getattr(view.loss.config, "tau", 1.0)
        generator = torch.Generator().manual_seed(seed)
        self._fixed = {
            "random": RandomHardness(eta=kl, generator=generator).to(view.device),
            "popularity": PopularityHardness(torch.as_tensor(item_counts), eta=kl).to(view.device),
        }

    def __call__(self, block: Block) -> dict[str, NDArray[np.floating]]:
        """Return detector → δ `[b, n_items]`; only the candidates' values mean anything."""
        scores, out = self._view.scores(block.users), torch.from_numpy(block.out)
        out = out.to(scores.device)
        log_p = {ADVERSARY: self._view.log_p(block, scores)}
        users = torch.from_numpy(block.users).to(scores.device)
        items = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
        for name, hardness in self._fixed.items():
            log_p[name] = hardness(users, items, None, out)
        left = scores.masked_fill(out, -torch.inf)
        log_p["closed_form"] = closed_form_log_p(left, tau=self._tau, eta=self._kl)
        found: dict[str, NDArray[np.floating]] = {
            name: deltas(values, block.out) for name, values in log_p.items()
        }
        n = (~block.out).sum(1, keepdims=True)
        own = scores.double().cpu().numpy()
        mean = np.where(block.out, 0.0, own).sum(1, keepdims=True) / n
        return found | {"score": mean - own}


def auc(x: NDArray[np.floating], positive: NDArray[np.bool_], inside: NDArray[np.bool_]) -> Floats:
    """Return, row by row, the chance that a positive's x is above another's; ties count half.

    Args:
        x: `[b, n]`.
        positive: `[b, n]`, within `inside`.
        inside: `[b, n]`, which entries count at all.

    Returns:
        `[b]`; NaN in a row without a positive or without another entry.

    >>> x = np.array([[3.0, 1.0, 2.0, 9.0]])
    >>> auc(x, np.array([[True, False, False, False]]), np.array([[True, True, True, False]]))
    array([1.])
    """
    # above all others, what does not count changes no rank
    ranks = rankdata(np.where(inside, x, np.inf), axis=1)
    n_positive = positive.sum(1)
    n_other = inside.sum(1) - n_positive
    above = np.where(positive, ranks, 0.0).sum(1) - n_positive * (n_positive + 1) / 2
    found = np.full(len(x), np.nan)
    np.divide(above, n_positive * n_other, out=found, where=(n_positive > 0) & (n_other > 0))
    return found


def mean_kl(view: View, pairs: Pairs) -> float:
    """Return the mean over users of the KL of the loss's weights to uniform, in nats."""
    total = 0.0
    for block in pairs.blocks():
        log_p = view.log_p(block, view.scores(block.users))
        total += float(kl_to_uniform(log_p, torch.from_numpy(block.out).to(log_p.device)).sum())
    return total / len(pairs.users)
