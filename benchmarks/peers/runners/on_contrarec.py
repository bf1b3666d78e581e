"""Runner of contrarec itself: a backbone and a loss, under the data set's preset if it has one."""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from turns import Job, Turns

import contrarec as cr
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.model import Model
from contrarec.settings import resolve_settings
from contrarec.training.loop import Hooks, fit

FOREVER = 100_000
WARM_UP_EPOCHS = 3  # reaches the adversary's first turn in the presets


def main() -> None:
    """Train until the driver has had enough."""
    turns = Turns()
    job = turns.job
    cr.set_threads(job.threads)
    # no machine code is compiled, or loaded, while the clock runs
    _train(job, _checkerboard(), WARM_UP_EPOCHS)
    log = Interactions(
        indptr=job.indptr.astype(np.int64),
        indices=job.indices.astype(np.int32),
        users=Vocabulary.of(range(job.n_users)),
        items=Vocabulary.of(range(job.n_items)),
    )
    _train(job, log, FOREVER, turns)


def _train(job: Job, log: Interactions, epochs: int, turns: Turns | None = None) -> None:
    backbone, loss = job.model.split()
    schedule = {"epochs": epochs, "eval_every": FOREVER, "dim": job.dim}  # the driver evaluates
    settings = resolve_settings(
        backbone=backbone,
        loss=loss,
        preset=job.preset,
        overrides=job.options | schedule,
        seed=job.seed,
    )
    model = Model(settings, log, torch.device("cpu"))

    @torch.no_grad()
    def vectors() -> tuple[np.ndarray, np.ndarray]:
        users, items = model.backbone()
        if model.cosine:
            users, items = F.normalize(users), F.normalize(items)
        return users.numpy(), items.numpy()

    def scores(user: int) -> np.ndarray:
        return model.scorer()(np.array([user]))[0].numpy()

    def after_epoch(_: dict[str, Any]) -> None:
        if turns:
            turns.trained(vectors, scores)

    if turns:
        turns.begin(version=cr.__version__, negatives=settings.training.n_neg)
    data = cr.Dataset(name="train", train=log)
    hooks = Hooks(on_epoch=after_epoch)
    fit(model.backbone, model.loss, data, settings.training, seed=job.seed, hooks=hooks)


def _checkerboard() -> Interactions:
    users, items = np.nonzero(np.indices((64, 64)).sum(0) % 2)
    ids = Vocabulary.of(range(64))
    return Interactions.from_pairs(users, items, users=ids, items=ids)


if __name__ == "__main__":
    main()
