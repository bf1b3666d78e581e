"""Measure the GPU: kernels against plain torch, whole epochs, the share of the memory's bandwidth.

Each thing is checked before it is timed. Times are those of the device, between two of its events;
bandwidths count what a kernel has to move if no cache helped, over what a copy of 1 GiB moves on
the same card. Without a GPU one line says that nothing was measured.

    python benchmarks/gpu.py
"""

import statistics
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from contrarec import Recommender
from contrarec.data.dataset import Dataset
from contrarec.data.synthetic import SyntheticConfig, synthesize
from contrarec.kernels.budget import budget_multiplier
from contrarec.kernels.draws import draw_batch
from contrarec.kernels.propagate import BipartiteGraph, bipartite_graph, propagate
from contrarec.kernels.scores import sampled_scores

Row = dict[str, object]

REPEATS = 20
SIZES = [  # users, items, rows, negatives a row
    (14_382, 1_000, 1024, 64),
    (95_623, 42_000, 2048, 128),
    (95_623, 1_000_000, 2048, 128),
]


def seconds_on_device(function: Callable[[], object]) -> float:
    """Seconds that the device takes for one call."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    function()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def measure(ours: Callable[[], object], theirs: Callable[[], object] | None = None) -> Row:
    """Time one function, or two alternately: medians, and the median of the paired ratios."""
    both = [function for function in (ours, theirs) if function]
    for function in both * 3:  # compile, fill the allocator
        function()
    times = [[seconds_on_device(function) for function in both] for _ in range(REPEATS)]
    first = [pair[0] for pair in times]
    row: Row = {"seconds": statistics.median(first), "spread": max(first) - min(first)}
    if theirs:
        row["other_seconds"] = statistics.median(pair[1] for pair in times)
        row["ratio"] = statistics.median(pair[1] / pair[0] for pair in times)
    return row


def bandwidth(row: Row, n_bytes: int, of_card: float) -> Row:
    """Add which share of the card's bandwidth moves `n_bytes` in the time of `row`."""
    return row | {"bandwidth_share": n_bytes / float(str(row["seconds"])) / of_card}


def without_waiting(function: Callable[[], object]) -> None:
    """Call a function; raise if it makes the host wait for the device."""
    function()  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        function()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def card_bandwidth() -> float:
    """Bytes a second that a copy on the device reads and writes."""
    source = torch.empty(2**28, device="cuda")
    target = torch.empty_like(source)
    return 2 * 2**30 / float(str(measure(lambda: target.copy_(source))["seconds"]))


def scores(of_card: float) -> Iterator[Row]:
    """`sampled_scores`, forward and backward, against bmm over gathered embeddings."""
    for n_users, n_items, batch, n_neg in SIZES:
        g = torch.Generator().manual_seed(0)
        users = torch.randint(0, n_users, (batch,), generator=g).cuda()
        items = torch.randint(0, n_items, (batch, n_neg), generator=g).cuda()
        tables = [torch.randn(n, 64, generator=g).cuda() for n in (n_users, n_items)]
        weights = torch.randn(batch, n_neg, generator=g).cuda()
        for dtype in (torch.float32, torch.bfloat16):
            U, V = (table.to(dtype).requires_grad_() for table in tables)
            grad = weights.to(dtype)

            def ours(U=U, V=V, users=users, items=items, grad=grad):
                out = sampled_scores(U, V, users, items, cosine=True, backend="triton")
                return out, *torch.autograd.grad(out, (U, V), grad)

            def bmm(U=U, V=V, users=users, items=items, grad=grad):
                unit_u, unit_v = F.normalize(U[users]), F.normalize(V[items], dim=2)
                out = torch.bmm(unit_v, unit_u[:, :, None])[:, :, 0]
                return out, *torch.autograd.grad(out, (U, V), grad)

            tolerance = 1e-4 if dtype == torch.float32 else 5e-2
            for a, b in zip(ours(), bmm(), strict=True):
                torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
            if any(not torch.equal(a, b) for a, b in zip(ours(), ours(), strict=True)):
                raise RuntimeError("sampled_scores differs between two runs")
            without_waiting(ours)
            vector = 64 * U.element_size()
            # rows gathered forwards, for either gradient, and both gradients written
            n_bytes = vector * (3 * batch * n_neg + n_users + n_items)
            yield {
                "what": "sampled_scores (cosine) on a GPU",
                "shape": f"{batch} × {n_neg} of {n_items} items, dim 64, {dtype}".replace(
                    "torch.", ""
                ),
            } | bandwidth(measure(ours, bmm), n_bytes, of_card)


def random_log(n_users: int, n_items: int, nnz: int) -> tuple[np.ndarray, np.ndarray]:
    """Build a CSR of about `nnz` random pairs."""
    rng = np.random.default_rng(0)
    keys = np.unique(rng.integers(0, n_users, nnz) * n_items + rng.integers(0, n_items, nnz))
    counts = np.bincount(keys // n_items, minlength=n_users)
    return np.concatenate([[0], counts.cumsum()]), (keys % n_items).astype(np.int32)


def propagation(n_users: int, n_items: int, nnz: int, of_card: float) -> Iterator[Row]:
    """Two layers of LightGCN against torch's sparse product, without gradients."""
    indptr, indices = random_log(n_users, n_items, nnz)
    graph = bipartite_graph(indptr, indices, n_items).to(torch.device("cuda"))
    U, V = torch.randn(n_users, 64, device="cuda"), torch.randn(n_items, 64, device="cuda")
    to_users, to_items = _sparse(graph, (n_users, n_items))

    def ours():
        return propagate(graph, U, V, 2, backend="triton")

    def torchs():
        users, items = to_users @ V, to_items @ U
        return (U + users + to_users @ items) / 3, (V + items + to_items @ users) / 3

    for a, b in zip(ours(), torchs(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    without_waiting(ours)
    # each layer gathers a row per interaction both ways, reads the base and writes the result
    n_bytes = 2 * 2 * 4 * 64 * (len(indices) + n_users + n_items)
    yield {
        "what": "LightGCN, 2 layers, on a GPU",
        "shape": f"{n_users} × {n_items}, {len(indices)} interactions, dim 64",
    } | bandwidth(measure(ours, torchs), n_bytes, of_card)


def _sparse(graph: BipartiteGraph, shape: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    halves = ((graph[:3], shape), (graph[3:], shape[::-1]))
    to_users, to_items = (
        torch.sparse_csr_tensor(indptr, indices.long(), weights, size, check_invariants=True)
        for (indptr, indices, weights), size in halves
    )
    return to_users, to_items


def sampler(n_users: int, n_items: int, nnz: int) -> Iterator[Row]:
    """A batch drawn on the device, against one drawn on the CPU and copied."""
    from contrarec.kernels.gpu import draws

    indptr, indices = random_log(n_users, n_items, nnz)
    log = (indptr, indices, np.flatnonzero(np.diff(indptr)))
    on_device = [torch.from_numpy(part).cuda() for part in log]
    options = {"n_items": n_items, "n_neg": 128, "by_user": False, "key": 2**63 + 1}

    def ours():
        return draws.draw_batch(*on_device, range(2048), **options)

    def copied():
        drawn = draw_batch(*log, range(2048), **options)
        return [torch.from_numpy(part).cuda() for part in drawn]

    for a, b in zip(ours(), copied(), strict=True):
        if not torch.equal(a, b):
            raise RuntimeError("the sampler draws other batches on the GPU than on the CPU")
    without_waiting(ours)
    yield {
        "what": "batch drawn on a GPU",
        "shape": f"2048 × 128 of {n_items} items, {len(indices)} interactions",
    } | measure(ours, copied)


def budget() -> Iterator[Row]:
    """The solver of the KL budget against its reference."""
    g = torch.randn(2048, 128, device="cuda")

    def ours():
        return budget_multiplier(g, 0.05, backend="triton")

    def reference():
        return budget_multiplier(g, 0.05, backend="reference")

    torch.testing.assert_close(ours(), reference(), rtol=1e-6, atol=0)
    without_waiting(ours)
    yield {"what": "KL budget on a GPU", "shape": "2048 × 128"} | measure(ours, reference)


def epochs() -> Iterator[Row]:
    """Whole epochs on generated data of the size of Yahoo! R3, with its published settings."""
    from contrarec.training.loop import Hooks

    for backbone in ("mf", "lightgcn"):
        world = synthesize(SyntheticConfig(n_users=14_382, n_items=1_000, n_preferred=30), seed=0)
        data: Dataset = world.dataset
        seconds: list[float] = []
        hooks = Hooks(on_epoch=lambda line, seconds=seconds: seconds.append(line["seconds"]))
        Recommender(
            backbone, "advinfonce", preset="yahoo-r3", device="cuda", epochs=12, eval_every=100
        ).fit(data, hooks=hooks)
        plain = sorted(np.diff(seconds[:-1]).tolist())[
            :-2
        ]  # the last evaluates, two have adversaries
        yield {
            "what": "epoch on a GPU",
            "shape": f"{backbone} advinfonce, {data.train.nnz} interactions",
            "seconds": statistics.median(plain),
            "spread": max(plain) - min(plain),
        }


def rows() -> Iterator[Row]:
    """Yield what was measured, with the card's name; nothing without a GPU."""
    if not torch.cuda.is_available():
        return
    card = torch.cuda.get_device_name()
    of_card = card_bandwidth()
    yield {"card": card, "what": "copy on a GPU", "shape": "1 GiB", "bytes_per_second": of_card}
    for part in (
        scores(of_card),
        propagation(14_382, 1_000, 129_179, of_card),
        propagation(95_623, 42_000, 10_000_000, of_card),
        sampler(95_623, 42_000, 10_000_000),
        budget(),
        epochs(),
    ):
        for row in part:
            yield {"card": card} | row


def main() -> None:
    """Print the rows, or that there are none."""
    if not torch.cuda.is_available():
        print("GPU: not measured, torch finds no CUDA device on this machine.")
    for row in rows():
        print(", ".join(f"{name} {value}" for name, value in row.items()))


if __name__ == "__main__":
    main()
