"""What the training loop asks of a loss, with answers that suit most.

A loss is called as `loss(pos, neg, **context)` and returns a scalar. The loop's context is

- `users [B]`, `pos_items [B]`, `neg_items [B, N]`: indices;
- `vectors`: the model's layer-0 tables, users `[n_users, dim]` and items `[n_items, dim]`; a loss
  uses them detached;
- `outputs`: the tables that the scores were computed from, of the same shapes, with their graph;
- `neg_log_weight [B, N]` or None: log-weights that the negatives have by where they come from;
  `-inf` leaves a negative out.

A loss takes what it needs and lets the rest pass: `users, neg_items = take(context, "users",
"neg_items")`.
"""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from contrarec.errors import ConfigError, unknown

CONTEXT = frozenset(("users", "pos_items", "neg_items", "vectors", "outputs", "neg_log_weight"))
"""What a loss may be told by keyword."""

Similarity = Literal["cosine", "dot"]
Rng = int | torch.Generator | None
Tables = tuple[torch.Tensor, torch.Tensor]
"""Users `[n_users, dim]` and items `[n_items, dim]`."""


class History(NamedTuple):
    """The training interactions as compressed sparse rows, items ascending in each row."""

    indptr: np.ndarray
    """`[n_users + 1]`"""
    indices: np.ndarray
    """`[interactions]`"""


@dataclass(frozen=True)
class AdversaryStep:
    """What one step of the adversary saw, before it moved."""

    loss: torch.Tensor
    """Mean loss of the batch, detached."""
    kl: torch.Tensor | None
    """`[B]` KL(p ‖ uniform) of each row, detached; None if the adversary weighs no negatives."""


class Encoder(Protocol):
    """What a loss sees of a backbone."""

    @property
    def user_table(self) -> torch.Tensor:
        """Layer-0 vectors of the users, `[n_users, dim]`."""

    @property
    def item_table(self) -> torch.Tensor:
        """Layer-0 vectors of the items, `[n_items, dim]`."""

    def __call__(self) -> Tables:
        """Return the vectors that scores are computed from."""


class Loss(nn.Module):
    """Base of the losses; one's own inherits from it, too.

    Args:
        config: hyper-parameters; the defaults if None.
        n_users: number of users.
        n_items: number of items.
        item_counts: `[n_items]` training interactions per item.
        history: the training interactions.
        dim: dimension of the backbone's tables.
        rng: seed or generator of whatever is drawn; None draws a seed.
    """

    config_class: ClassVar[type[Any]]
    similarity: ClassVar[Similarity] = "cosine"
    """Which scores it expects: cosines or plain dot products."""
    weighs_negatives: ClassVar[bool] = False
    """Whether `neg_log_weight` enters its formula, as in every softmax loss."""
    uses_negatives: ClassVar[bool] = True
    """False where the formula has no negatives: then one is drawn, and not looked at."""
    row_sparse: ClassVar[bool] = True
    """False where some gradient does not come through the scores: then lazy Adam is out."""

    def __init__(
        self,
        config: Any = None,
        *,
        n_users: int | None = None,  # noqa: ARG002 - what some losses need, every loss takes
        n_items: int | None = None,  # noqa: ARG002
        item_counts: Any = None,  # noqa: ARG002
        history: History | None = None,  # noqa: ARG002
        dim: int | None = None,  # noqa: ARG002
        rng: Rng = None,  # noqa: ARG002
    ) -> None:
        super().__init__()
        self.config = self.config_class() if config is None else config

    def forward(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
        """Return the loss of a batch, `[]`.

        Raises:
            TypeError: the context has a name that no loss knows, such as a misspelt one.
            ConfigError: something needed is missing, or shapes do not fit.
        """
        for name in context.keys() - CONTEXT:
            raise TypeError(unknown("argument", name, CONTEXT))
        return self.batch_loss(pos, neg, **context)

    def batch_loss(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
        """Return the mean of the rows' losses; one that is more than its rows overrides this."""
        return self.per_row(pos, neg, **context).mean()

    def per_row(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
        """Return the losses `[B]` of `pos [B]` and `neg [B, N]`."""
        raise NotImplementedError

    # what it learns or remembers

    def learned(self) -> Iterable[nn.Parameter]:
        """Return what the model's optimizer moves along with the model: nothing, for most."""
        return ()

    def begin_epoch(self, epoch: int, outputs: Tables) -> None:
        """Take note of an epoch that begins, counted from 0, and of the vectors before it."""

    def after_backward(self) -> None:
        """Move whatever it moves by itself; `grad` is that of this batch alone."""

    # how it sees the model

    def propagate(self, encoder: Encoder) -> Tables:
        """Return the tables that a step's scores are computed from; augmentations go here."""
        return encoder()

    def final_vectors(self, users: torch.Tensor, items: torch.Tensor) -> Tables:
        """Return the vectors whose dot products rank the items for each user.

        Args:
            users: `[n, dim]`, of any users.
            items: `[n_items, dim]`, of all items.
        """
        if self.similarity == "cosine":
            return F.normalize(users), F.normalize(items)
        return users, items

    # its adversary

    @property
    def has_adversary(self) -> bool:
        """Whether there is something to train beside the model, in passes of its own."""
        return False

    @property
    def adversary_optimizer(self) -> torch.optim.Optimizer:
        """The adversary's optimizer, whose state belongs into a checkpoint."""
        raise ConfigError(f"{type(self).__name__} has no adversary to train.")

    def adversary_step(
        self,
        pos: torch.Tensor,  # noqa: ARG002
        neg: torch.Tensor,  # noqa: ARG002
        **context: Any,  # noqa: ARG002
    ) -> AdversaryStep:
        """Make one step of the adversary, with the scores as constants."""
        raise ConfigError(f"{type(self).__name__} has no adversary to train.")

    def log_p(self, neg: torch.Tensor, **context: Any) -> torch.Tensor | None:  # noqa: ARG002
        """Return the log-weights of the negatives `[B, N]`, or None where they are uniform."""
        return None


def score_loss(
    function: Callable[..., torch.Tensor], config: type[Any], *, similarity: Similarity = "cosine"
) -> type[Loss]:
    """Make a loss of a formula: `function(pos, neg, **fields of the config)`.

    Args:
        function: as in `contrarec.losses.functional`; it may take `neg_log_weight`.
        config: a frozen dataclass whose fields are the function's keyword arguments.
        similarity: which scores it expects.

    >>> from contrarec.losses.configs import BPRConfig
    >>> from contrarec.losses.functional import bpr
    >>> loss = score_loss(bpr, BPRConfig, similarity="dot")()
    >>> loss(torch.tensor([0.0]), torch.tensor([[0.0]]))
    tensor(0.6931)
    """
    weighs = "neg_log_weight" in inspect.signature(function).parameters

    class ScoreLoss(Loss):
        config_class = config
        weighs_negatives = weighs

        def per_row(self, pos: torch.Tensor, neg: torch.Tensor, **context: Any) -> torch.Tensor:
            settings = dict(vars(self.config))
            if weighs:
                settings["neg_log_weight"] = context.get("neg_log_weight")
            return function(pos, neg, **settings)

    ScoreLoss.similarity = similarity
    ScoreLoss.__name__ = ScoreLoss.__qualname__ = config.__name__.removesuffix("Config")
    ScoreLoss.__doc__ = function.__doc__
    return ScoreLoss


def take(context: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    """Return what a loss needs of its context.

    Raises:
        ConfigError: something is missing.

    >>> take({"users": 1, "pos_items": 2}, "pos_items", "users")
    (2, 1)
    """
    for name in names:
        if context.get(name) is None:
            raise ConfigError(f"`{name}` must be given with this loss, got None.")
    return tuple(context[name] for name in names)


def generator_of(rng: Rng) -> torch.Generator:
    """Turn a seed or a generator into a generator; None draws a seed."""
    if isinstance(rng, torch.Generator):
        return rng
    generator = torch.Generator()
    if rng is None:
        generator.seed()
    else:
        generator.manual_seed(rng)
    return generator


def left_out(neg: torch.Tensor, neg_log_weight: torch.Tensor | None) -> torch.Tensor | None:
    """Return which negatives weigh nothing by where they come from, `[B, N]`; None if none can."""
    return None if neg_log_weight is None else (neg_log_weight == -torch.inf).expand_as(neg)


def log_number(neg: torch.Tensor, out: torch.Tensor | None) -> torch.Tensor | float:
    """Return the logarithm of how many negatives are left: `[B, 1]`, or one number for all rows."""
    if out is None:
        return math.log(neg.shape[1])
    return (~out).sum(1, keepdim=True).to(neg.dtype).log()


def add_log_weights(first: torch.Tensor | None, second: torch.Tensor | None) -> torch.Tensor | None:
    """Multiply weights that are given as logs; None stands for weights of 1."""
    if first is None or second is None:
        return second if first is None else first
    return first + second


def positive_rows(context: Mapping[str, Any]) -> Tables:
    """Return the vectors of a batch's positive pairs, each `[B, dim]`.

    Raises:
        ConfigError: `outputs`, `users` or `pos_items` is missing.
    """
    outputs, users, pos_items = take(context, "outputs", "users", "pos_items")
    return outputs[0][users], outputs[1][pos_items]
