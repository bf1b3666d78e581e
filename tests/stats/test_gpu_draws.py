"""The sampler on a GPU draws what the sampler on the CPU draws, bit for bit."""

import numpy as np
import pytest
import torch

from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.kernels.draws import draw_batch, stream_key
from contrarec.sampling import Sampler

N_ITEMS = 130
HISTORIES = [
    [0, 1, 2],
    [],
    [5, 129],
    [i for i in range(N_ITEMS) if i != 17],
    [14],
    list(range(0, N_ITEMS, 2)),  # the CPU searches this one and counts through shorter ones
]


def both(log, device, rows, **options):
    from contrarec.kernels.gpu import draws as gpu

    active = np.flatnonzero(np.diff(log[0]))
    there = gpu.draw_batch(
        *(torch.from_numpy(part).to(device) for part in (*log, active)), rows, **options
    )
    here = draw_batch(*log, active, rows, **options)
    for a, b in zip(there, here, strict=True):
        assert a.dtype == torch.int64
        assert np.array_equal(a.cpu().numpy(), b)


def log_of(histories):
    indptr = np.cumsum([0, *map(len, histories)]).astype(np.int64)
    return indptr, np.concatenate(histories).astype(np.int32)


@pytest.mark.parametrize("by_user", [False, True])
@pytest.mark.parametrize(
    ("key", "rows", "n_neg"),
    [
        (0, range(8), 5),
        (stream_key(3, 1, 4), range(100, 107), 33),
        (2**63 + 1, range(190, 200), 1),
        (2**64 - 1, range(7, 9), 1100),  # more than one tile
    ],
)
def test_both_draw_the_same(key, rows, n_neg, by_user, gpu):
    both(log_of(HISTORIES), gpu, rows, n_items=N_ITEMS, n_neg=n_neg, by_user=by_user, key=key)


@pytest.mark.parametrize("by_user", [False, True])
def test_the_smallest_logs(by_user, gpu):
    both(log_of([[0]]), gpu, range(1), n_items=2, n_neg=1, by_user=by_user, key=5)
    both(log_of([[], [3], [0, 1]]), gpu, range(3), n_items=4, n_neg=2, by_user=by_user, key=6)
    both(log_of([[0]]), gpu, range(0), n_items=2, n_neg=1, by_user=by_user, key=5)


def test_a_whole_epoch_is_each_interaction_once(gpu):
    from contrarec.kernels.gpu import draws as twin

    indptr, indices = log_of([[0, 4], [1], [2, 3, 5, 6], []])
    log = (torch.from_numpy(part).to(gpu) for part in (indptr, indices, np.arange(3)))
    users, items = twin.draw_batch(*log, range(7), n_items=9, n_neg=1, by_user=False, key=11)
    pairs = sorted(zip(users.tolist(), items[:, 0].tolist(), strict=True))
    assert pairs == [(0, 0), (0, 4), (1, 1), (2, 2), (2, 3), (2, 5), (2, 6)]


@pytest.mark.parametrize("positives", ["interaction", "user"])
def test_the_sampler_yields_the_same_batches(positives, gpu):
    indptr, indices = log_of([[0, 4], [1], [2, 3, 5, 6], []])
    train = Interactions(
        indptr=indptr, indices=indices, users=Vocabulary.of(range(4)), items=Vocabulary.of(range(9))
    )
    options = {
        "batch_size": 3, "n_neg": 2, "positives": positives, "drop_last": False, "seed": 2,
    }  # fmt: skip
    here = Sampler(train, **options)
    there = Sampler(train, device=gpu, backend="triton", **options)
    batches = list(there.batches(4, "max", 1))
    assert [len(batch.users) for batch in batches] == [3, 1]
    for a, b in zip(here.batches(4, "max", 1), batches, strict=True):
        assert b.items.device.type == gpu.type
        assert torch.equal(a.users, b.users.cpu())
        assert torch.equal(a.items, b.items.cpu())
