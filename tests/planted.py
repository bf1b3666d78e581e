"""A small model whose adversary, vectors and history are written down, not trained."""

import numpy as np
import torch

from contrarec.audit.pairs import View
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.model import Model
from contrarec.settings import resolve_settings


def interactions(pairs: list[tuple[int, int]], n_users: int, n_items: int) -> Interactions:
    """Pairs of indices; user 0 has the id `u0`, item 0 the id `i0`."""
    rows = np.array(pairs, np.int64).reshape(-1, 2)
    return Interactions.from_pairs(
        rows[:, 0],
        rows[:, 1],
        users=Vocabulary.of([f"u{n}" for n in range(n_users)]),
        items=Vocabulary.of([f"i{n}" for n in range(n_items)]),
    )


def planted(
    history: Interactions,
    logits: np.ndarray | None = None,
    vectors: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    loss: str = "advinfonce",
    **overrides: object,
) -> View:
    """An MF model with these vectors, whose adversary has these logits `g [n_users, n_items]`.

    Any table of logits is a product: of itself and the identity.
    """
    dim = 4 if vectors is None else vectors[0].shape[1]
    own = {"adv_dim": history.n_items} if logits is not None else {}
    settings = resolve_settings(
        backbone="mf", loss=loss, overrides={"backbone.dim": dim, **own, **overrides}
    )
    model = Model(settings, history, torch.device("cpu"))
    with torch.no_grad():
        if logits is not None:
            model.loss.hardness.users.copy_(torch.from_numpy(logits))
            model.loss.hardness.items.copy_(torch.eye(history.n_items))
        if vectors is not None:
            model.backbone.user_table.copy_(torch.from_numpy(vectors[0]))
            model.backbone.item_table.copy_(torch.from_numpy(vectors[1]))
    return View(model.backbone, model.loss)
