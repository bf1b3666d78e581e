"""Matrix factorisation: one free vector per user and per item."""

import torch
from torch import nn

from contrarec.config import BackboneConfig
from contrarec.data.interactions import Interactions


class MF(nn.Module):
    """Matrix factorisation with Xavier-normal tables.

    Args:
        train: gives the number of users and items.
        config: gives `dim`.
        generator: source of the initial values.
    """

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

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tables themselves."""
        return self.user_table, self.item_table
