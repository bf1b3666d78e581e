"""Worlds in which it is known who likes what, and what each user was shown."""

from dataclasses import dataclass, replace

import numpy as np

from contrarec.config import require, settle
from contrarec.data.dataset import Dataset
from contrarec.data.interactions import Interactions
from contrarec.data.splits import PopularityShift, Random, water_level
from contrarec.data.vocabulary import Vocabulary

_BLOCK = 1 << 22  # affinities in memory at a time


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """What a world is like. The defaults make one that trains in seconds."""

    n_users: int = 1500
    """Users."""
    n_items: int = 600
    """Items."""
    dim: int = 8
    """Length of the latent vectors that preferences come from."""
    n_preferred: int = 60
    """Items that each user likes: those of highest affinity."""
    exposure: float = 0.3
    """Share of the liked pairs (outside the experiments) that the log shows, over all items."""
    bias: float = 1.0
    """How unevenly: an item of rank r is shown in proportion to `r^−bias`, 0 being evenly."""
    experiment: float = 0.1
    """Share of the liked pairs that goes into each of the two tests with another exposure."""
    gamma: float = 2.0
    """Popularity shift of the test set `shifted`, see `splits.PopularityShift`."""
    held_out: float = 0.1
    """Share of the log that goes into the test set `id`, and then of the rest into valid."""

    def __post_init__(self) -> None:
        settle(self)
        for name in ("n_users", "n_items", "dim", "n_preferred"):
            require(getattr(self, name) >= 1, name, "be at least 1", getattr(self, name))
        fits = self.n_preferred < self.n_items
        require(fits, "n_preferred", f"be below `n_items` = {self.n_items}", self.n_preferred)
        for name in ("exposure", "held_out"):
            value = getattr(self, name)
            require(0 < value < 1, name, "be above 0 and below 1", value)
        require(0 < self.experiment < 0.5, "experiment", "be above 0 and below ½", self.experiment)
        require(self.bias >= 0, "bias", "be non-negative", self.bias)
        require(0 < self.gamma < np.inf, "gamma", "be positive and finite", self.gamma)


@dataclass(frozen=True, kw_only=True, eq=False)
class World:
    """A data set, and the truth behind it."""

    dataset: Dataset
    """train, valid and the test set `id` from the biased log; `shifted` and `uniform`."""
    preferred: Interactions
    """Every pair of a user and an item that the user likes."""
    false_negatives: Interactions
    """Liked but not in the log (neither train, valid nor `id`): what a sampler takes for negatives.
    The test sets `shifted` and `uniform` are among them."""
    exposure: np.ndarray
    """`[n_items]`, the probability that the log shows a liked pair with the item."""
    user_vectors: np.ndarray
    """`[n_users, dim]`, unit vectors."""
    item_vectors: np.ndarray
    """`[n_items, dim]`, unit vectors; the affinity of a pair is their dot product."""


def synthesize(config: SyntheticConfig | None = None, *, seed: int = 0) -> World:
    """Make a world.

    Users and items are random unit vectors, and each user likes the `n_preferred` items of highest
    affinity. Every liked pair meets one of three fates, independently of all others:

    - the experiment with uniform exposure, equally often for all items: the test set `uniform`;
    - the one with a milder popularity bias than the log's, which falls with γ over ten groups of
      items: the test set `shifted`;
    - otherwise the log shows it with the item's `exposure`, and a pair that it shows is an
      interaction: train, valid and the test set `id` are a random split of these. What the log
      does not show is a false negative.

    An item's exposure has nothing to do with who likes it, so that what makes an item popular in
    the log is exposure alone. Memory is that of the liked pairs, and a block of affinities; time
    grows with `n_users · n_items · dim`.

    Args:
        config: what the world is like.
        seed: decides everything random; the same world comes out on every call.
    """
    config = config or SyntheticConfig()
    rng = np.random.default_rng(seed)
    user_vectors = _unit_vectors(rng, config.n_users, config.dim)
    item_vectors = _unit_vectors(rng, config.n_items, config.dim)
    preferred = _preferred(user_vectors, item_vectors, config.n_preferred)
    counts = preferred.item_counts

    rank = rng.permutation(config.n_items) + 1.0
    mild = PopularityShift(config.gamma).curve(1 / rank)
    shifted = _chances(counts, mild, config.experiment, limit=1 - config.experiment)
    exposure = _chances(counts, rank**-config.bias, config.exposure)
    fate = rng.random(preferred.nnz)
    in_uniform = fate < config.experiment
    in_shifted = ~in_uniform & (fate < config.experiment + shifted[preferred.indices])
    shown = rng.random(preferred.nnz) < exposure[preferred.indices]
    in_log = shown & ~in_uniform & ~in_shifted

    log = Dataset.from_parts(
        train=preferred.select(in_log),
        tests={"shifted": preferred.select(in_shifted), "uniform": preferred.select(in_uniform)},
        name="synthetic",
    )
    held_out = Random(config.held_out)
    split = log.split(tests={"id": held_out}, valid=held_out, seed=seed)
    tests = {name: split.tests[name] for name in ("id", "shifted", "uniform")}
    return World(
        dataset=replace(split, tests=tests, steps=(f"{config}, seed {seed}",)),
        preferred=preferred,
        false_negatives=preferred.select(~in_log),
        exposure=exposure,
        user_vectors=user_vectors,
        item_vectors=item_vectors,
    )


def _unit_vectors(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    vectors = rng.standard_normal((n, dim))
    unit: np.ndarray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def _preferred(user_vectors: np.ndarray, item_vectors: np.ndarray, n: int) -> Interactions:
    """Return for each user the n items of highest affinity, a block of users at a time."""
    n_users, n_items = len(user_vectors), len(item_vectors)
    items = np.empty((n_users, n), dtype=np.int32)
    step = max(1, _BLOCK // n_items)
    for start in range(0, n_users, step):
        affinity = user_vectors[start : start + step] @ item_vectors.T
        best = np.argpartition(affinity, n_items - n, axis=1)[:, n_items - n :]
        items[start : start + step] = np.sort(best, axis=1)
    return Interactions(
        indptr=np.arange(0, n_users * n + 1, n),
        indices=items.ravel(),
        users=Vocabulary.of(np.arange(n_users)),
        items=Vocabulary.of(np.arange(n_items)),
    )


def _chances(
    counts: np.ndarray, shape: np.ndarray, mean: float, *, limit: float = 1.0
) -> np.ndarray:
    """Return `[n_items]` probabilities, in proportion to `shape` up to a limit.

    Args:
        counts: `[n_items]`, how many pairs each item's probability is for.
        shape: `[n_items]`, positive.
        mean: mean of the probabilities over all pairs, below `limit`.
        limit: no probability is above it.
    """
    used = counts > 0
    available, wanted = counts[used] * limit, counts[used] * shape[used]
    chances: np.ndarray = np.minimum(
        limit, water_level(available, wanted, mean * counts.sum()) * shape
    )
    return chances
