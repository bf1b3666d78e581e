"""Taking a trained model over to a longer history: rows move with their ids, new ones are guessed.

A new item starts at the mean direction of the users who have it, a new user where fold-in puts its
history; both get the mean length of the trained rows. What a loss has learned or counted moves
along, too. What it merely worked out from the interactions, such as popularity, is worked out anew.
"""

import warnings
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F

from contrarec.backbones import Backbone
from contrarec.data.dataset import Dataset
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import DataError
from contrarec.foldin import fold_in_vectors
from contrarec.model import Model


class Places(NamedTuple):
    """Where the old users and items are in the longer history, and how many that has."""

    users: np.ndarray
    items: np.ndarray
    n_users: int
    n_items: int


def extended(old: Interactions, data: Dataset) -> Dataset:
    """Return a data set whose train has the old pairs, too, over the ascending ids of both.

    Raises:
        DataError: the new ids are texts where the old ones are whole numbers.
    """
    for kind, mine, theirs in (
        ("user", old.users, data.users),
        ("item", old.items, data.items),
    ):
        if len(theirs) and mine.ids.dtype == pl.Int64 and theirs.ids.dtype == pl.String:
            raise DataError(
                f"new log: {kind} ids must be whole numbers, as in the data of this run, got "
                f"{theirs.ids[0]!r}."
            )
    users = Vocabulary.union([part.users for part in (old, data) if len(part.users)])
    items = Vocabulary.union([part.items for part in (old, data) if len(part.items)])
    excluded = None
    if data.candidates is not None:
        excluded = data.items.take(np.setdiff1d(np.arange(data.n_items), data.candidates))
    return Dataset.from_parts(
        train=old.reindex(users, items).union(data.train.reindex(users, items)),
        valid=data.valid and data.valid.truth,
        tests={name: test.truth for name, test in data.tests.items()},
        not_candidates=excluded,
        name=data.name,
        path=data.path,
    )


@torch.no_grad()
def take_over(model: Model, trained: Model, untrained: Model) -> None:
    """Give a model of a longer history what one of a shorter history has learned.

    Args:
        model: of the longer history, freshly built; it is changed.
        trained: of the shorter history, whose ids are all among the longer one's.
        untrained: what `trained` was before training.
    """
    old, new = trained.history, model.history
    places = Places(
        new.users.index(old.users.ids), new.items.index(old.items.ids), new.n_users, new.n_items
    )
    _move_tables(model.backbone, trained.backbone, places)
    _move_loss(model, trained, untrained, places)
    known = (
        _mark(new.n_users, places.users[old.user_counts > 0]),
        _mark(new.n_items, places.items[old.item_counts > 0]),
    )
    guess_rows(
        model.backbone,
        new,
        known,
        cosine=model.cosine,
        tau=getattr(model.loss.config, "tau", None),
    )


@torch.no_grad()
def guess_rows(
    backbone: Backbone,
    history: Interactions,
    known: tuple[np.ndarray, np.ndarray],
    *,
    cosine: bool,
    tau: float | None,
) -> None:
    """Fill the rows of users and items that have interactions but were never trained.

    Args:
        backbone: its tables are written into.
        history: all interactions.
        known: whether each user, bool `[n_users]`, and each item, `[n_items]`, has been trained.
        cosine: whether scores are cosines.
        tau: temperature of the loss, if it has one.
    """
    users, items = backbone.user_table.data, backbone.item_table.data
    lengths = [
        table[torch.from_numpy(part).to(table.device)].norm(dim=1).mean()
        for table, part in zip((users, items), known, strict=True)
    ]
    pairs = history.to_scipy().astype(bool).astype(np.float32)
    fresh = np.flatnonzero(~known[1] & (history.item_counts > 0))
    directions = F.normalize(users).cpu().numpy() * known[0][:, None]
    sums = torch.from_numpy(pairs.T.tocsr()[fresh] @ directions).to(items.device)  # [f, dim]
    found = sums.norm(dim=1) > 0  # none of its users is known: its random row stays
    rows = torch.from_numpy(fresh).to(items.device)[found]
    items[rows] = F.normalize(sums[found]) * lengths[1]

    fresh = np.flatnonzero(~known[0] & (history.user_counts > 0))
    if not len(fresh):
        return
    part = pairs[fresh]
    folded = fold_in_vectors(
        items.cpu(),
        torch.from_numpy(part.indptr).long(),
        torch.from_numpy(part.indices).long(),
        cosine=cosine,
        tau=tau,
    ).to(users.device)
    users[torch.from_numpy(fresh).to(users.device)] = F.normalize(folded) * lengths[0]


def _mark(size: int, places: np.ndarray) -> np.ndarray:
    marked = np.zeros(size, dtype=bool)
    marked[places] = True
    return marked


def _move_tables(model: Backbone, trained: Backbone, places: Places) -> None:
    for name, old in trained.named_parameters():
        moved = _moved(model.get_parameter(name), old, places, name)
        if moved is None:
            raise DataError(f"`{name}` must have a row for each user or item.")
        model.get_parameter(name).data.copy_(moved)


def _move_loss(model: Model, trained: Model, untrained: Model, places: Places) -> None:
    """Move everything that training has changed; or nothing, where a part has no counterpart."""
    state, first = model.loss.state_dict(), untrained.loss.state_dict()
    moved = {}
    for name, old in trained.loss.state_dict().items():
        if old.shape == first[name].shape and torch.equal(old.cpu(), first[name].cpu()):
            continue  # worked out from the interactions, or not yet touched
        moved[name] = _moved(state[name], old, places, name)
    lost = [name for name, tensor in moved.items() if tensor is None]
    if lost:
        warnings.warn(
            f"what the loss {type(model.loss).__name__} had learned ({', '.join(lost)}) does not "
            "fit the longer history and starts anew.",
            UserWarning,
            stacklevel=4,
        )
        return
    model.loss.load_state_dict(state | moved)


def _moved(
    fresh: torch.Tensor, old: torch.Tensor, places: Places, name: str
) -> torch.Tensor | None:
    """Return `fresh` with the old rows where their users or items are now; None if none fits."""
    sides = [(places.users, places.n_users), (places.items, places.n_items)]
    if "item" in name:  # decides where there are as many users as items
        sides.reverse()
    if old.ndim and fresh.shape[1:] == old.shape[1:]:
        for index, size in sides:
            if (len(index), size) == (len(old), len(fresh)):
                grown = fresh.clone()
                grown[torch.from_numpy(index).to(fresh.device)] = old.to(fresh.device)
                return grown
    return old if old.shape == fresh.shape else None
