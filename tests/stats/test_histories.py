"""Draws from the users' histories: uniform, and of the right kind."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from contrarec.errors import ConfigError
from contrarec.losses import History
from contrarec.losses.histories import Histories

# users with 1, 3, 2 and 5 of 6 items
HISTORY = History(np.array([0, 1, 4, 6, 11]), np.array([0, 0, 2, 5, 1, 5, 0, 1, 2, 4, 5], np.int32))
N_ITEMS = 6
SETS = [{0}, {0, 2, 5}, {1, 5}, {0, 1, 2, 4, 5}]
ALARM = 1e-6  # false alarms of each chi-square test


def histories(seed=0):
    return Histories(HISTORY, N_ITEMS, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", ["positives", "negatives"])
def test_draws_are_uniform_over_the_history_or_what_is_outside(kind):
    log, users = histories(), torch.arange(4)
    drawn = []
    for stream in range(200):
        more = (log.gaps(),) if kind == "negatives" else ()
        drawn.append(getattr(log, kind)(users, 30, stream, *more))
    items = torch.cat(drawn, 1)  # [4, 6000]
    for u, history in enumerate(SETS):
        allowed = sorted(history if kind == "positives" else set(range(N_ITEMS)) - history)
        counts = torch.bincount(items[u], minlength=N_ITEMS)
        assert counts.sum() == counts[allowed].sum()
        if len(allowed) > 1:
            assert chisquare(counts[allowed].numpy()).pvalue > ALARM


def test_pairs_of_draws_are_independent():
    """Neighbouring positions and neighbouring streams: each pair of items is as likely."""
    log, users = histories(), torch.tensor([1])
    items = torch.cat([log.positives(users, 40, stream) for stream in range(300)])  # [300, 40]
    code = torch.tensor([0, 0, 1, 0, 0, 2])[items]
    for a, b in ((code[:, 1:], code[:, :-1]), (code[1:], code[:-1])):
        counts = torch.bincount((3 * a + b).flatten(), minlength=9)
        assert chisquare(counts.numpy()).pvalue > ALARM


def test_a_draw_belongs_to_key_stream_and_row():
    log, users = histories(), torch.tensor([1, 3, 1])
    first = log.positives(users, 20, 7)
    assert torch.equal(first, log.positives(users, 20, torch.tensor(7)))
    assert not torch.equal(first, log.positives(users, 20, 8))
    assert not torch.equal(first, histories(1).positives(users, 20, 7))
    assert not torch.equal(first[0], first[2])  # a user that occurs twice
    restored = histories(1)
    restored.load_state_dict(log.state_dict())
    assert torch.equal(first, restored.positives(users, 20, 7))
    assert set(log.state_dict()) == {"key"}
    # negatives are the user's own, whoever else is asked for
    alone = log.negatives(torch.tensor([2]), 20, 7, log.gaps())
    assert torch.equal(alone[0], log.negatives(torch.arange(4), 20, 7, log.gaps())[2])


def test_needs_a_history():
    with pytest.raises(ConfigError, match="`history` and `n_items` must be given"):
        Histories(None, 3, torch.Generator())
