"""A hash of 32-bit integers in plain torch: random numbers without a generator, on any device."""

import torch

MASK = 2**32 - 1
"""The largest of the 32-bit integers."""


def mix(x: torch.Tensor) -> torch.Tensor:
    """Scramble integers of any shape in `[0, MASK]`, int64, one to one.

    >>> mix(torch.tensor([1, 2]))
    tensor([2261973619,  229111015])
    """
    # The multipliers of the hash-prospector search. Both are below 2^31, so that no product leaves
    # int64.
    x = (x ^ (x >> 16)) * 0x21F0AAAD & MASK
    x = (x ^ (x >> 15)) * 0x735A2D97 & MASK
    return x ^ (x >> 15)
