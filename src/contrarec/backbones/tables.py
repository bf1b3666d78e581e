"""What every backbone has: layer-0 vectors of users and items, learned ones for most."""

from typing import ClassVar

import torch
from torch import nn

from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions
from contrarec.kernels.l2 import add_l2


class Backbone(nn.Module):
    """Base of the backbones.

    Called without arguments, a backbone returns the vectors that scores are computed from, users
    `[n_users, dim]` and items `[n_items, dim]`. Its layer-0 vectors have the same shapes. They are
    what learns (`TableBackbone`), or are computed in every pass from what learns: then
    `user_table` and `item_table` are those of the latest pass, as constants.

    Args:
        train: gives the number of users and items.
        config: gives `dim`.
        generator: source of the initial values; None leaves that to torch's own.
    """

    row_sparse: ClassVar[bool] = False
    """Whether the vectors of a batch depend on its own rows of the tables alone."""
    ranks_unseen_items: ClassVar[bool] = False
    """Whether items without interactions have vectors that mean something. Then none of them is
    drawn as a negative: it would never be a positive, and be pushed down for that."""

    user_table: torch.Tensor
    """Layer-0 vectors of the users, `[n_users, dim]`."""
    item_table: torch.Tensor
    """Layer-0 vectors of the items, `[n_items, dim]`."""

    def __init__(
        self,
        train: Interactions,  # noqa: ARG002 - what some backbones need, every backbone takes
        config: BackboneConfig,  # noqa: ARG002
        generator: torch.Generator | None = None,  # noqa: ARG002
    ) -> None:
        super().__init__()

    def add_l2(self, users: torch.Tensor, items: torch.Tensor, weight: float) -> None:
        """Add to the gradients that of `weight/2 · Σ‖row‖²` over the layer-0 rows of a batch.

        Args:
            users: `[B]`
            items: `[B]` or `[B, n]`; a row counts as often as it occurs.
            weight: the strength over B.
        """
        add_l2(self.user_table, users, weight)
        add_l2(self.item_table, items, weight)

    def own_vectors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vectors that items are ranked by: what this process has of them."""
        vectors: tuple[torch.Tensor, torch.Tensor] = self()
        return vectors

    def fold_in(self, history: Interactions) -> torch.Tensor | None:  # noqa: ARG002
        """Return vectors of users never seen, `[n, dim]`; None where those have to be searched.

        Args:
            history: of the users, over the model's items.
        """
        return None


class TableBackbone(Backbone):
    """A backbone that learns its layer-0 vectors.

    They start Xavier-normal, as in the AdvInfoNCE code.

    Args:
        train: gives the number of users and items.
        config: gives `dim`.
        generator: source of the initial values; None leaves that to torch's own.
    """

    def __init__(
        self,
        train: Interactions,
        config: BackboneConfig,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(train, config, generator)
        self.user_table = nn.Parameter(torch.empty(train.n_users, config.dim))
        self.item_table = nn.Parameter(torch.empty(train.n_items, config.dim))
        for table in (self.user_table, self.item_table):
            nn.init.xavier_normal_(table, generator=generator)
