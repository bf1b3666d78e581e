"""k-means by Lloyd's steps, all rows at once."""

import torch

_ROWS = 16384  # rows whose distances to all centroids are held at a time


def kmeans(
    x: torch.Tensor, k: int, *, steps: int, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Cluster rows: from `k` of them, `steps` times each centroid becomes its rows' mean.

    A centroid that is nearest to no row stays where it is.

    Args:
        x: `[n, dim]`.
        k: number of clusters, at most n.
        steps: number of Lloyd's steps.
        generator: on the device of `x`; draws the rows to start from.

    Returns:
        Centroids `[k, dim]`, and for each row the nearest of them, `[n]`.
    """
    start = torch.randperm(len(x), generator=generator, device=x.device)[:k]
    centroids = x[start]
    for _ in range(steps):
        cluster = nearest(x, centroids)
        counts = torch.bincount(cluster, minlength=k)[:, None]  # [k, 1]
        sums = torch.zeros_like(centroids).index_add_(0, cluster, x)
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
    return centroids, nearest(x, centroids)


def nearest(x: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """Return the nearest of the centroids `[k, dim]` for each row of `x [n, dim]`: `[n]`."""
    half = centroids.square().sum(1) / 2  # ‖x − c‖² / 2 less ‖x‖² / 2, which all share
    parts = [
        torch.addmm(half, part, centroids.T, alpha=-1).argmin(1) for part in torch.split(x, _ROWS)
    ]
    return torch.cat(parts)
