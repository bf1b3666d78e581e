"""One thread against more, and whether torch and the kernels get in each other's way."""

from collections.abc import Callable, Iterator

import numpy as np
import torch

import contrarec as cr
from benchmarks import evaluation, kernels, profile
from benchmarks.record import Row, ensure, pair
from contrarec.settings import resolve_settings

SPEED_UP = "threads: against one thread"
IN_TURN = "threads: torch and kernels in turn, against each by itself"
LOG = (14_382, 1_000, 88_684)  # users, items, interactions
SIZES = {
    "log": LOG,
    "scores": kernels.SIZES[1],
    "ranking": (4_000, 42_000, 40_000),
    "product": (1_024, 1_024),
}

Work = Callable[[], object]


def rows(*, short: bool, threads: int, sizes: dict[str, tuple[int, ...]] = SIZES) -> Iterator[Row]:
    """Yield how much faster an epoch, the kernels and a ranking are on `threads` than on one."""
    repeats = 3 if short else 9
    scores = kernels.ours(kernels.make_problem(*sizes["scores"]))
    works = {
        "epoch, mf infonce": _epoch("mf", sizes["log"]),
        "epoch, lightgcn infonce": _epoch("lightgcn", sizes["log"]),
        "sampled_scores, forward and backward": scores,
        "top-20, history masked": evaluation.Ranking(*sizes["ranking"]).rank,
    }
    try:
        for shape, work in works.items():
            if threads > 1:
                _check(shape, work, threads)
                yield {
                    "what": SPEED_UP, "shape": shape, "threads": threads, "other": "one thread",
                } | pair(on(threads, work), on(1, work), repeats)  # fmt: skip
        cr.set_threads(threads)
        yield {"what": IN_TURN, "shape": "8 products and 8 sampled_scores", "other": "apart"} | (
            in_turn(scores, repeats, sizes["product"])
        )
    finally:
        cr.set_threads(threads)


def on(threads: int, work: Work) -> Work:
    """Return `work` on so many threads."""

    def run() -> object:
        cr.set_threads(threads)
        return work()

    return run


def in_turn(kernel: Work, repeats: int, size: tuple[int, ...], n: int = 8) -> Row:
    """Compare alternating torch's own product with a kernel, against doing first all of one.

    Threads of one that spin while they wait for work would slow the other down: a ratio far below
    one says so.
    """
    a = torch.randn(size, generator=torch.Generator().manual_seed(0))

    def together() -> None:
        for _ in range(n):
            torch.mm(a, a)
            kernel()

    def apart() -> None:
        for _ in range(n):
            torch.mm(a, a)
        for _ in range(n):
            kernel()

    return pair(together, apart, repeats)


def _epoch(backbone: str, size: tuple[int, ...]) -> Work:
    settings = resolve_settings(backbone=backbone, loss="infonce", preset="yahoo-r3")
    epoch = profile.Epoch(settings, profile.world(*size))
    return lambda: epoch.run()[1]


def _check(shape: str, work: Work, threads: int) -> None:
    one, more = on(1, work)(), on(threads, work)()
    if isinstance(one, float):  # the loss of an epoch, which goes on from the one before
        ensure(0 < float(more) < one, f"{shape}: the loss went from {one} to {more}")
        return
    # torch's product may round otherwise on more threads, and so swap two items of a ranking
    same = np.mean([np.mean(np.asarray(a == b)) for a, b in zip(one, more, strict=True)])
    ensure(same > 0.999, f"{shape}: one and {threads} threads agree on {same:.2%}")
