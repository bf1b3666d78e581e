"""Matrix factorisation: one free vector per user and per item."""

import torch

from contrarec.backbones.tables import TableBackbone


class MF(TableBackbone):
    """Matrix factorisation: the tables are the vectors."""

    row_sparse = True

    def forward(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the tables themselves."""
        return self.user_table, self.item_table
