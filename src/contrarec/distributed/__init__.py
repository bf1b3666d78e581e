"""Training by several workers: users are divided among them; items are copied, or in shards.

`fit_block` trains one worker's block of users within a process group of `torch.distributed`; it
knows nothing of who started the group. `contrarec.distributed.launch` has Ray start it.
"""

from contrarec.distributed.refusals import ROW_LOSSES, check_divisible
from contrarec.distributed.worker import BlockResult, fit_block, join_weights

__all__ = ["ROW_LOSSES", "BlockResult", "check_divisible", "fit_block", "join_weights"]
