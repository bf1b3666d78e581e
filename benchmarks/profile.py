"""Where the time of an epoch goes: the loop's own parts, one after the other, each timed.

The backward pass is taken in the same three stages as the forward pass. That it is the loop's
epoch is checked by its loss.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

import contrarec as cr
from benchmarks.record import Row, ensure, summary
from benchmarks.worlds import histories
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.model import Model
from contrarec.optimizers import make_adam
from contrarec.sampling import Sampler
from contrarec.settings import Settings, resolve_settings
from contrarec.training.loop import Hooks, add_batch_l2, batch_scores, left_to_lazy_adam

PARTS = (
    "sampling",
    "propagation",
    "scores",
    "loss",
    "loss, backward",
    "scores, backward",
    "propagation, backward",
    "L2",
    "optimizer",
    "rest",
)


def rows(
    data: Path | None, *, short: bool, large: tuple[int, int, int] = (1_000_000, 200_000, 5_000_000)
) -> Iterator[Row]:
    """Yield a row for each part: an epoch of Yahoo! R3, and a few steps on large tables."""
    _check()
    repeats = 1 if short else 3
    if data is not None:
        yahoo = cr.Dataset.load(data / "yahoo-r3").train
        for backbone in ("mf", "lightgcn"):
            settings = resolve_settings(backbone=backbone, loss="advinfonce", preset="yahoo-r3")
            yield from _parts(f"{backbone} advinfonce, Yahoo! R3", settings, yahoo, None, repeats)
    train = world(*large)
    for backbone in ("mf", "lightgcn"):
        settings = resolve_settings(backbone=backbone, loss="infonce", preset="tencent")
        config = settings.training
        shape = (
            f"{backbone} infonce, {train.n_users:,} users × {train.n_items:,} items, "
            f"{train.nnz:,} interactions, steps of {config.batch_size} × {config.n_neg}"
        )
        n_steps = 10 if backbone == "mf" and not short else 2
        yield from _parts(shape, settings, train, n_steps, repeats)


def world(n_users: int, n_items: int, n_interactions: int) -> Interactions:
    """Make a training log of this size."""
    indptr, indices = histories(n_users, n_items, n_interactions)
    users, items = (Vocabulary.of(range(n)) for n in (n_users, n_items))
    return Interactions(indptr=indptr, indices=indices, users=users, items=items)


class Epoch:
    """A model and what it trains with, for as many first steps of an epoch as one likes."""

    def __init__(self, settings: Settings, train: Interactions) -> None:
        config = settings.training
        published = config.fidelity == "published"
        model = Model(settings, train, torch.device("cpu"))
        self.backbone, self.loss, self.cosine = model.backbone, model.loss, model.cosine
        self.l2, self.negatives = config.l2, not published
        self.lazy = left_to_lazy_adam(self.backbone, self.loss, config)
        self.optimizer = make_adam(self.backbone.parameters(), lr=config.lr, lazy=self.lazy)
        self.sampler = Sampler(
            train,
            batch_size=config.batch_size,
            n_neg=config.n_neg,
            positives=config.positives,
            drop_last=published,
            seed=settings.seed,
        )

    def run(self, n_steps: int | None = None) -> tuple[dict[str, float], float]:
        """Train and return the seconds of each part, and the mean loss."""
        parts = dict.fromkeys(PARTS, 0.0)
        last = time.perf_counter()

        def lap(part: str) -> None:
            nonlocal last
            now = time.perf_counter()
            parts[part] += now - last
            last = now

        backbone, optimizer, total, steps = self.backbone, self.optimizer, 0.0, 0
        for batch in itertools.islice(self.sampler.batches(0), n_steps):
            lap("sampling")
            context = {
                "users": batch.users,
                "neg_items": batch.items[:, 1:].contiguous(),
                "vectors": (backbone.user_table, backbone.item_table),
            }
            lap("rest")
            vectors = backbone()
            lap("propagation")
            leaves = tuple(table.detach().requires_grad_() for table in vectors)
            pos, neg = batch_scores(leaves, batch, self.cosine, sparse_grad=self.lazy)
            lap("scores")
            value = self.loss(pos, neg, **context)
            lap("loss")
            optimizer.zero_grad()
            lap("optimizer")
            of_scores = torch.autograd.grad(value, (pos, neg))
            lap("loss, backward")
            of_vectors = torch.autograd.grad((pos, neg), leaves, of_scores)
            lap("scores, backward")
            _backward(vectors, of_vectors)
            del of_vectors
            lap("propagation, backward")
            add_batch_l2(backbone, batch, self.l2, negatives=self.negatives)
            lap("L2")
            optimizer.step()
            lap("optimizer")
            total += float(value.detach())
            steps += 1
            lap("rest")
        return parts, total / steps


def _backward(vectors: Sequence[torch.Tensor], grads: Sequence[torch.Tensor]) -> None:
    """Bring gradients of the vectors to the tables; where these are the same, without a copy."""
    if all(table.is_leaf for table in vectors):
        for table, grad in zip(vectors, grads, strict=True):
            table.grad = grad
    else:
        torch.autograd.backward(vectors, grads)


def _parts(
    shape: str, settings: Settings, train: Interactions, n_steps: int | None, repeats: int
) -> Iterator[Row]:
    epoch = Epoch(settings, train)
    epoch.run(2)
    runs = [epoch.run(n_steps)[0] for _ in range(repeats)]
    for part in PARTS:
        about = {"what": f"profile: {part}", "shape": shape, "interactions": train.nnz}
        yield about | summary([run[part] for run in runs])


def _check() -> None:
    """Compare the loss of an epoch with that of training itself, on a small log."""
    data = cr.Dataset(name="small", train=world(200, 100, 2_000))
    for backbone, loss in itertools.product(("mf", "lightgcn"), ("infonce", "advinfonce")):
        strong = {"batch_size": 256, "lr": 0.1, "l2": 10.0, "epochs": 1}
        settings = resolve_settings(backbone=backbone, loss=loss, overrides=strong)
        lines: list[dict[str, float]] = []
        hooks = Hooks(on_epoch=lines.append)
        cr.Recommender.from_settings(settings, device="cpu").fit(data, hooks=hooks)
        _, mean_loss = Epoch(settings, data.train).run()
        ensure(
            abs(mean_loss - lines[0]["loss"]) <= 1e-5 * abs(mean_loss),
            f"loss {mean_loss} of the timed epoch, {lines[0]['loss']} of training",
        )
