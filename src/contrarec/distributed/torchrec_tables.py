"""Item tables in shards of rows: TorchRec brings the rows of a batch, and takes gradients back.

A worker has the rows of one shard, their moments and their gradient. For each step it asks the
owners for the distinct items of its part of the batch; scores, losses and L2 see these rows alone,
by their place among them. The gradient of them goes back to the owners, who add up what the workers
send and move their rows by the optimizer of a table that nobody divides.
"""

from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from contrarec.distributed.exchange import Exchange, row_sparse
from contrarec.errors import BackendError, ConfigError

_INSTALL = (
    "pip install --no-deps torchrec==1.8.0 fbgemm-gpu-cpu==1.8.0 tensordict pyre-extensions "
    "torchmetrics==1.0.3 pyvers orjson typing-inspect mypy-extensions tqdm pyyaml"
)


def check_torchrec() -> None:
    """Raise unless TorchRec is installed, without the time that importing it takes.

    Raises:
        BackendError: it is not.
    """
    for name in ("torchrec", "fbgemm_gpu"):
        if not find_spec(name):
            raise BackendError(f"`tables = torchrec` needs {name}: {_INSTALL}")


def shard_rows(n_rows: int, n_workers: int, rank: int) -> tuple[int, int]:
    """Return where the rows of a worker's shard start and end, as TorchRec divides them.

    Raises:
        ConfigError: so few rows leave a worker without any.

    >>> [shard_rows(10, 4, rank) for rank in range(4)]
    [(0, 3), (3, 6), (6, 9), (9, 10)]
    """
    width = -(-n_rows // n_workers)
    if width * (n_workers - 1) >= n_rows:
        raise ConfigError(
            f"`tables` must be 'replicated' where {n_rows} items leave one of {n_workers} workers "
            "without any, got 'torchrec'."
        )
    return rank * width, min((rank + 1) * width, n_rows)


class ShardedTable:
    """A table `[n_rows, dim]` whose rows the workers of a group share out; all call it together.

    Args:
        n_rows: of the whole table.
        dim: length of a row.
        exchange: the workers.

    Attributes:
        weight: the rows of this worker's shard, that an optimizer moves.
        first: index of the first of them.
        rows: `[distinct items, dim]`, what `fetch` brought, in the order of the items; a leaf, so
            that its gradient can be looked at, and added to, before `send_back`.

    Raises:
        BackendError: TorchRec cannot be imported.
        ConfigError: a worker would have no rows.
    """

    def __init__(self, n_rows: int, dim: int, exchange: Exchange) -> None:
        self.first, last = shard_rows(n_rows, exchange.size, exchange.rank)
        self._exchange = exchange
        self._lookup, self._kernel = _shard(n_rows, dim, exchange)
        # the memory of the kernel's weights, in the shape that optimizers and checkpoints know
        self.weight = nn.Parameter(self._kernel.weights.detach().view(last - self.first, dim))
        self.rows = torch.empty(0, dim, requires_grad=True)
        self._fetched = self._asked = torch.empty(0)
        self._kernel.register_forward_pre_hook(self._before_lookup, with_kwargs=True)

    def fetch(self, items: torch.Tensor) -> torch.Tensor:
        """Bring the rows of some items to `rows`.

        Args:
            items: indices, of any shape; workers may have none.

        Returns:
            Their places in `rows`, of the same shape.
        """
        from torchrec import KeyedJaggedTensor

        places: torch.Tensor
        distinct, places = torch.unique(items, return_inverse=True)
        # a single bag, so that bags are equally many on all workers
        asked = KeyedJaggedTensor(["items"], distinct, lengths=torch.tensor([len(distinct)]))
        with self._exchange.timed(distinct.nbytes + 4 * self.weight.shape[1] * len(distinct)):
            self._fetched = self._lookup(asked)["items"].values()
        self.rows = self._fetched.detach().requires_grad_()
        return places

    def send_back(self, *, lazy: bool) -> None:
        """Add up the workers' gradients of `rows` in `weight.grad` of the owners.

        Args:
            lazy: make it row-sparse; all rows that a worker has asked for are in it.
        """
        grad = torch.zeros_like(self.rows) if self.rows.grad is None else self.rows.grad
        self._kernel.weights.grad = None
        with self._exchange.timed(4 * self.weight.shape[1] * len(self._asked)):
            torch.autograd.backward(self._fetched, grad.to_dense())
        total = self._kernel.weights.grad.view_as(self.weight)
        if lazy:
            touched = torch.unique(self._asked)
            total = row_sparse(touched, total[touched], len(total))
        self.weight.grad, self._kernel.weights.grad = total, None

    def _before_lookup(self, _: Any, args: Any, asked: dict[str, torch.Tensor]) -> Any:
        """Note which own rows are asked for, and have each of them looked up by itself.

        On a CPU this kernel adds up the rows of a bag though it is told not to: so a row is a bag.
        """
        self._asked = asked["indices"]
        offsets = torch.arange(len(self._asked) + 1, dtype=self._asked.dtype)
        return args, asked | {"offsets": offsets}


def _shard(n_rows: int, dim: int, exchange: Exchange) -> tuple[Any, Any]:
    """Return TorchRec's lookup of a table in shards of rows, and the kernel that has the shard.

    Raises:
        BackendError: TorchRec cannot be imported.
    """
    check_torchrec()
    try:
        from torchrec import EmbeddingCollection, EmbeddingConfig
        from torchrec.distributed.comm_ops import set_gradient_division
        from torchrec.distributed.embedding import EmbeddingCollectionSharder
        from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
        from torchrec.distributed.types import ShardingEnv
    except (ImportError, OSError) as error:
        raise BackendError(f"TorchRec cannot be imported ({error}): {_INSTALL}") from None

    set_gradient_division(False)  # of the whole process: the loop adds up, as shares are weighed
    config = EmbeddingConfig(
        name="table", num_embeddings=n_rows, embedding_dim=dim, feature_names=["items"]
    )
    whole = EmbeddingCollection(tables=[config], device=torch.device("meta"))  # takes no memory
    sharder: Any = EmbeddingCollectionSharder()
    plan = construct_module_sharding_plan(
        whole, {"table": row_wise(compute_kernel="dense")}, sharder=sharder,
        local_size=exchange.size, world_size=exchange.size, device_type="cpu",
    )  # fmt: skip
    env = ShardingEnv.from_process_group(exchange.group)
    lookup = sharder.shard(whole, plan, env, device=torch.device("cpu"))
    (kernel,) = (
        module
        for inner in lookup._lookups
        for module in inner.modules()
        if hasattr(module, "weights")
    )
    return lookup, kernel
