"""What cannot be divided among workers, said before any of them starts."""

from contrarec.data.dataset import Dataset
from contrarec.distributed.cluster import ItemTables
from contrarec.errors import ConfigError, DataError
from contrarec.settings import Settings

BACKBONES = ("mf", "lightgcn")

SHARDED_BACKBONES = ("mf",)
"""Those whose items may be in shards: a layer of a graph needs all of them."""

ROW_LOSSES = (
    "bpr", "infonce", "infonce-kneg", "infonce-popularity", "advinfonce", "advinfonce-closed",
    "advinfonce-budget", "sl", "psl-tanh", "psl-atan", "psl-relu", "hcl", "ccl", "mmcl", "simce",
)  # fmt: skip
"""Losses that are a mean over rows, each of which needs its own scores, its user and items alone.

The others look at a whole batch, at all users, or learn something that no user or item owns.
"""


def check_divisible(settings: Settings, n_workers: int, tables: ItemTables = "replicated") -> None:
    """Raise unless these settings can be trained by several workers.

    Args:
        settings: of the run.
        n_workers: how many.
        tables: `replicated` or `torchrec`.

    Raises:
        ConfigError: they cannot; the message says what can.
    """
    if n_workers < 1:
        raise ConfigError(f"`workers` must be at least 1, got {n_workers}.")
    if tables == "torchrec" and settings.backbone.name not in SHARDED_BACKBONES:
        raise ConfigError(
            f"`backbone` must be {' or '.join(SHARDED_BACKBONES)} with `tables` = 'torchrec', got "
            f"{settings.backbone.name!r}."
        )
    for name, value, known in (
        ("backbone", settings.backbone.name, BACKBONES),
        ("loss", settings.loss_name, ROW_LOSSES),
        ("negatives", settings.training.negatives, ("sampled",)),
    ):
        if value not in known:
            raise ConfigError(
                f"`{name}` must be one of {', '.join(known)} with `workers`, got {value!r}."
            )
    for name, choices in (("hardness", ("embedding", "closed_form")), ("weights", ("uniform",))):
        value = getattr(settings.loss, name, choices[0])
        popular = settings.loss_name == "infonce-popularity" and value == "popularity"
        if value not in choices and not popular:
            raise ConfigError(
                f"`{name}` must be {' or '.join(map(repr, choices))} with `workers`, got {value!r}."
            )


def check_histories(data: Dataset) -> None:
    """Raise if a user leaves no item to be drawn as a negative: one worker alone would notice.

    Raises:
        DataError: a user has every item, or there is nothing to learn from.
    """
    train = data.train
    fullest = int(train.user_counts.argmax()) if train.nnz else 0
    user = train.users.ids[fullest] if train.nnz else ""
    check_fullest(user, int(train.user_counts[fullest]) if train.nnz else 0, train.n_items)


def check_fullest(user: str | int, n: int, n_items: int) -> None:
    """Raise if the user with the most interactions leaves no item to be drawn.

    Args:
        user: id.
        n: interactions in train.
        n_items: of all parts.

    Raises:
        DataError: the user has every item, or there is nothing to learn from.
    """
    if n == 0:
        raise DataError("train: no interactions to learn from.")
    if n >= n_items:
        raise DataError(
            f"train: user {user!r} has interacted with all {n_items} items, so no negative can be "
            "drawn; remove that user from train."
        )
