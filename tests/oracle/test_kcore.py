"""The core of a log against networkx and against a loop that removes one after the other."""

import networkx as nx
import numpy as np
import polars as pl
import pytest

from contrarec.data.cleaning import KCore
from contrarec.data.interactions import Interactions
from contrarec.data.kcore import k_core
from contrarec.data.vocabulary import Vocabulary


def random_pairs(seed: int, n_users: int = 40, n_items: int = 25, n: int = 220) -> np.ndarray:
    """Pairs, some more than once, with popular items and busy users."""
    rng = np.random.default_rng(seed)
    skewed = rng.random((n, 2)) ** 2 * (n_users, n_items)
    return skewed.astype(int)


def interactions(pairs: np.ndarray) -> Interactions:
    users, items = (Vocabulary.of(np.arange(size)) for size in (40, 25))
    return Interactions.from_pairs(*pairs.T, users=users, items=items)


def naive(pairs: set[tuple[int, int]], per_user: int, per_item: int) -> set[tuple[int, int]]:
    """Remove the pairs of one user or item that has too few, until there is none."""
    while True:
        for side, need in ((0, per_user), (1, per_item)):
            short = [
                who
                for who in {pair[side] for pair in pairs}
                if sum(pair[side] == who for pair in pairs) < need
            ]
            if short:
                pairs = {pair for pair in pairs if pair[side] != short[0]}
                break
        else:
            return pairs


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_the_same_for_both_sides_is_the_core_of_the_graph(seed: int, k: int) -> None:
    pairs = random_pairs(seed)
    graph = nx.Graph([(("u", int(u)), ("i", int(i))) for u, i in pairs])
    core = nx.k_core(graph, k)
    users, items = k_core(interactions(pairs), per_user=k, per_item=k)
    assert {("u", int(u)) for u in np.flatnonzero(users)} == {n for n in core if n[0] == "u"}
    assert {("i", int(i)) for i in np.flatnonzero(items)} == {n for n in core if n[0] == "i"}


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("need", [(2, 5), (6, 1), (4, 3), (1, 8)])
def test_sides_that_need_different_numbers(seed: int, need: tuple[int, int]) -> None:
    pairs = random_pairs(seed)
    log = pl.DataFrame({"user": pairs[:, 0], "item": pairs[:, 1], "row": np.arange(len(pairs))})
    left = naive({(int(u), int(i)) for u, i in pairs}, *need)
    events = KCore(*need).apply(log)
    assert events.rows() == [row for row in log.rows() if row[:2] in left]


def test_a_chain_falls_from_its_end() -> None:
    """Each round takes one away: u0-i0-u1-i1-…; closed to a ring, all of it stays."""
    n = 40
    users = np.repeat(np.arange(n), 2)
    items = np.repeat(np.arange(n), 2)
    ring = {"user": users, "item": np.roll(items, -1)}
    assert KCore(2, 2).apply(pl.DataFrame(ring)).height == 2 * n
    assert KCore(2, 2).apply(pl.DataFrame(ring)[:-1]).is_empty()
