"""An approximate index of the items, by FAISS, and how much it misses."""

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrarec.errors import ConfigError, unknown
from contrarec.rankings import VectorRanking
from contrarec.serving.export import Exported, exporting, load_package, write_ids

KINDS = ("flat", "hnsw", "ivfpq")
INDEX, RECALL_K, RECALL_USERS = "items.faiss", 20, 1000
_FLAT_ITEMS, _HNSW_ITEMS = 20_000, 1_000_000
_LINKS, _BUILD_WIDTH, _SEARCH_WIDTH = 32, 200, 128  # of HNSW
_CODES = 256  # of a part of a vector in IVF-PQ, one byte
_POINTS = 39  # that FAISS asks for in each cell


def to_faiss(exported: Exported, folder: Path, kind: str = "auto") -> dict[str, Any]:
    """Write an index of the items by inner product, and its recall against exact search.

    The folder has `items.faiss`, whose entries are numbered like the rows of `item_ids.parquet`;
    `users.parquet`, the vectors to search with; and `export.json`, with the recall. The index of
    graph or cells is not the same bit for bit when it is built again on several threads.

    Args:
        exported: ids and vectors.
        folder: must not hold anything yet.
        kind: `flat` is exact; `hnsw` a graph; `ivfpq` cells of compressed vectors. `auto` takes
            them in this order, from 20,000 and from 1,000,000 items on.

    Raises:
        ConfigError: the kind is unknown, or there are too few items for it.
        BackendError: FAISS is not installed.
        DataError: the folder is not empty, or cannot be written.
    """
    faiss = load_package("faiss", "ann", "an index")
    chosen = choose_kind(len(exported.items)) if kind == "auto" else kind
    if chosen not in KINDS:
        raise ConfigError(unknown("kind of index", chosen, ("auto", *KINDS)))
    with exporting(exported, folder, "faiss") as (temporary, about):
        index = build(faiss, np.ascontiguousarray(exported.items), chosen)
        faiss.write_index(index, str(temporary / INDEX))
        write_ids(exported, temporary, "item")
        exported.table("user").write_parquet(temporary / "users.parquet")
        about |= {"kind": chosen, "recall": measure_recall(index, exported)}
    return about


def choose_kind(n_items: int) -> str:
    """Choose the kind of index for so many items.

    >>> choose_kind(5_000), choose_kind(50_000), choose_kind(5_000_000)
    ('flat', 'hnsw', 'ivfpq')
    """
    if n_items < _FLAT_ITEMS:
        return "flat"
    return "hnsw" if n_items < _HNSW_ITEMS else "ivfpq"


def build(faiss: Any, vectors: NDArray[np.float32], kind: str) -> Any:
    """Build an index of vectors `[n_items, dim]` by inner product."""
    n_items, dim = vectors.shape
    if kind == "flat":
        index = faiss.IndexFlatIP(dim)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dim, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = _BUILD_WIDTH
        index.hnsw.efSearch = _SEARCH_WIDTH
    else:
        if n_items < _CODES:
            raise ConfigError(f"`kind` must be 'flat' or 'hnsw' below {_CODES} items, got 'ivfpq'.")
        cells = max(1, min(int(4 * math.sqrt(n_items)), n_items // _POINTS))
        parts = next(size for size in range(max(1, dim // 2), 0, -1) if dim % size == 0)
        text = f"IVF{cells},PQ{parts}"
        index = faiss.index_factory(dim, text, faiss.METRIC_INNER_PRODUCT)
        for training in (index.cp, index.pq.cp):
            training.min_points_per_centroid = 1  # a small catalogue is the user's own choice
        index.nprobe = max(1, cells // 16)
        index.train(vectors)
    index.add(vectors)
    return index


def measure_recall(index: Any, exported: Exported) -> dict[str, Any]:
    """Compare an index with exact search, for users with a history drawn at a fixed seed.

    Returns:
        `k`; `users`, how many were drawn; and `recall`, the share of the k best items that the
        index finds, histories not left out.
    """
    trained = np.flatnonzero(exported.history.user_counts)
    size = min(RECALL_USERS, len(trained))
    users = np.sort(np.random.default_rng(0).choice(trained, size, replace=False))
    k = min(RECALL_K, len(exported.items))
    ranking = VectorRanking(exported.users, exported.items)
    exact, _ = ranking.top(users, k, mask=None, candidates=None)
    _, found = index.search(np.ascontiguousarray(exported.users[users]), k)
    hits = (found[:, :, None] == exact[:, None, :]).any(2)  # [n, k]
    return {"k": k, "users": size, "recall": float(hits.mean())}
