"""What every backbone has: one table of layer-0 vectors for users and one for items."""

from typing import ClassVar

import torch
from torch import nn

from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions


class Backbone(nn.Module):
    """Base of the backbones: `user_table [n_users, dim]` and `item_table [n_items, dim]`.

    Called without arguments, a backbone returns the vectors that scores are computed from, with
    the same shapes. The tables start Xavier-normal, as in the AdvInfoNCE code.

    Args:
        train: gives the number of users and items.
        config: gives `dim`.
        generator: source of the initial values; None leaves that to torch's own.
    """

    row_sparse: ClassVar[bool] = False
    """Whether the vectors of a batch depend on its own rows of the tables alone."""

    def __init__(
        self,
        train: Interactions,
        config: BackboneConfig,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.user_table = nn.Parameter(torch.empty(train.n_users, config.dim))
        self.item_table = nn.Parameter(torch.empty(train.n_items, config.dim))
        for table in (self.user_table, self.item_table):
            nn.init.xavier_normal_(table, generator=generator)
