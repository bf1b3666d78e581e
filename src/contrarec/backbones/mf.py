"""Matrix factorisation: one free vector per user and per item."""

import torch

from contrarec.backbones.tables import Backbone


class MF(Backbone):
    """Matrix factorisation: the tables are the vectors."""

    def forward(
        self,
        users: torch.Tensor | None = None,  # noqa: ARG002
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tables themselves, whichever users are named."""
        return self.user_table, self.item_table
