"""Any loss of contrarec as a RecBole model: its data, trainer and evaluation, our loss.

RecBole finds models by class in `get_trainer` and by `input_type`; a script passes the class on:

    config = Config(model=ContrarecMF, dataset="ml-100k", config_dict={"contrarec_loss": "infonce"})

`examples/recbole_model.py` is a whole one. Needs the package `recbole`.
"""

from collections.abc import Mapping
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from torch import nn

from contrarec.kernels.scores import sampled_scores
from contrarec.losses import History, resolve_loss


class ContrarecMF(GeneralRecommender):
    """Matrix factorisation under a loss of contrarec.

    Of RecBole's config it takes `embedding_size`; `contrarec_loss`, a name of
    `contrarec.losses.LOSSES` (default `infonce`); `contrarec_settings`, a mapping of the loss's
    settings; and `adversary_every`: a step of the adversary, where the loss has one, comes after
    so many steps of the model (default 20). `train_neg_sample_args.sample_num` is the number of
    negatives.

    Deviations:
        RecBole draws the negatives. Its trainer makes one kind of step, so that the adversary's
        come between the model's, with the scores of that batch, instead of in passes of their own.
        Index 0, RecBole's padding, is a user and an item without interactions.
    """

    input_type = InputType.PAIRWISE

    def __init__(self, config: Mapping[str, Any], dataset: Any) -> None:
        super().__init__(config, dataset)
        dim = config["embedding_size"]
        self.user_table = nn.Embedding(self.n_users, dim)
        self.item_table = nn.Embedding(self.n_items, dim)
        for table in (self.user_table, self.item_table):
            nn.init.xavier_uniform_(table.weight)
        log = dataset.inter_matrix(form="csr")
        log.sort_indices()
        spec = resolve_loss(_given(config, "contrarec_loss", "infonce"))
        self.loss = spec.loss(
            spec.configure(**_given(config, "contrarec_settings", {})),
            n_users=self.n_users,
            n_items=self.n_items,
            item_counts=torch.from_numpy(log.getnnz(axis=0)),
            history=History(log.indptr, log.indices),
            dim=dim,
            rng=config["seed"],
        )
        self.learned = nn.ParameterList(self.loss.learned())
        self._n_neg = config["train_neg_sample_args"]["sample_num"]
        self._every = _given(config, "adversary_every", 20)
        self._steps = 0

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Return the loss of a batch, and let the adversary move when it is its turn."""
        # RecBole repeats users and positives, block by block, once for every negative
        negatives = interaction[self.NEG_ITEM_ID].reshape(self._n_neg, -1).T.contiguous()  # [B, N]
        users = interaction[self.USER_ID][: len(negatives)]
        positives = interaction[self.ITEM_ID][: len(negatives)]
        tables = (self.user_table.weight, self.item_table.weight)
        items = torch.cat([positives[:, None], negatives], dim=1)
        scores = sampled_scores(*tables, users, items, cosine=self.loss.similarity == "cosine")
        pos, neg = scores[:, 0], scores[:, 1:]
        context = {"users": users, "pos_items": positives, "neg_items": negatives}
        context["vectors"] = tables
        value: torch.Tensor = self.loss(pos, neg, outputs=tables, **context)
        self._steps += 1
        if self.loss.has_adversary and self._steps % self._every == 0:
            self.loss.adversary_step(pos.detach(), neg.detach(), **context)
        return value

    def predict(self, interaction: Any) -> torch.Tensor:
        """Return the scores of pairs."""
        users, items = self._vectors(interaction[self.USER_ID])
        return (users * items[interaction[self.ITEM_ID]]).sum(1)

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return the scores of all items, users after users in one row."""
        users, items = self._vectors(interaction[self.USER_ID])
        return (users @ items.T).reshape(-1)

    def _vectors(self, users: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.loss.final_vectors(self.user_table(users), self.item_table.weight)


def _given(config: Mapping[str, Any], key: str, default: Any) -> Any:
    value = config[key]  # None where RecBole was not told
    return default if value is None else value
