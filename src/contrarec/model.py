"""A model: settings, the history it is built on, a backbone and its loss."""

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from contrarec.backbones import Backbone, build_backbone
from contrarec.data.dataset import TestSet
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import BackendError, ConfigError, DataError
from contrarec.evaluation.ranking import Scorer, dot_scorer
from contrarec.foldin import fold_in_vectors
from contrarec.losses import History, Loss, resolve_loss
from contrarec.settings import Settings
from contrarec.tensorfile import pack, unpack
from contrarec.training.loop import model_scorer


class Model:
    """Backbone and loss for one data set, with initial weights drawn from the seed.

    Args:
        settings: what to build.
        history: training interactions; their vocabularies are the model's.
        device: where the weights live.
        features: `[n_items, width]`, given vectors of the items; None where the backbone takes none
            or weights are going to be restored.
    """

    def __init__(
        self,
        settings: Settings,
        history: Interactions,
        device: torch.device,
        features: np.ndarray | None = None,
    ) -> None:
        self.history = history
        generator = torch.Generator().manual_seed(settings.seed)
        backbone = build_backbone(settings.backbone, history, generator, features)
        loss = resolve_loss(settings.loss_name).loss(
            settings.loss,
            n_users=history.n_users,
            n_items=history.n_items,
            item_counts=history.item_counts,
            history=History(history.indptr, history.indices),
            dim=settings.backbone.dim,
            rng=generator,
        )
        self.backbone, self.loss = backbone.to(device), loss.to(device)
        self.cosine = loss.similarity == "cosine"

    def weights(self) -> dict[str, torch.Tensor]:
        """Return everything that `restore` needs."""
        return pack("backbone", self.backbone.state_dict()) | pack("loss", self.loss.state_dict())

    def restore(self, weights: dict[str, torch.Tensor], where: str) -> None:
        """Put weights back.

        Raises:
            DataError: they are another model's; `where` starts the message.
        """
        try:
            self.backbone.load_state_dict(unpack("backbone", weights))
            self.loss.load_state_dict(unpack("loss", weights))
        except RuntimeError as error:
            raise DataError(f"{where}: the weights do not fit its settings ({error}).") from error

    def scorer(self) -> Scorer:
        """Return the scorer of all items for the model's users."""
        return model_scorer(self.backbone, self.loss)

    @torch.no_grad()
    def unit_item_vectors(self) -> torch.Tensor:
        """Return the item vectors at length 1, `[n_items, dim]`."""
        return F.normalize(self.backbone()[1])

    @torch.no_grad()
    def vectors(self) -> dict[str, np.ndarray]:
        """Return what ranks without a model: `users`, `items` and, for neighbours, `units`.

        `users` and `items` are those whose dot products are the scores; `units` are the items'
        vectors at length 1, left out where they are `items` at length 1 anyhow.
        """
        users, items = self.backbone()
        final = dict(zip(("users", "items"), self.loss.final_vectors(users, items), strict=True))
        if type(self.loss).final_vectors is not Loss.final_vectors:
            final["units"] = F.normalize(items)
        return {name: table.float().cpu().numpy() for name, table in final.items()}

    def similar(self) -> Scorer:
        """Return the scorer of all items for an item, by the cosine of their vectors."""
        vectors = self.unit_item_vectors()
        return dot_scorer(vectors, vectors)

    def fold_in_scorer(self, history: Interactions) -> Scorer:
        """Return the scorer of all items for users never seen, by their histories."""
        return self.folding()(history)

    @torch.no_grad()
    def folding(self) -> Callable[[Interactions], Scorer]:
        """Return `fold_in_scorer` for many calls: the items' vectors are computed only once."""
        vectors = self.backbone()[1]
        on_cpu = vectors.cpu()
        loss, cosine = self.loss, self.cosine  # not the users' vectors, which are not needed
        own = None  # only a backbone that folds in by itself has to stay in memory
        if type(self.backbone).fold_in is not Backbone.fold_in:
            own = self.backbone.fold_in

        @torch.no_grad()
        def fold_in(history: Interactions) -> Scorer:
            users = own(history) if own else None
            if users is None:
                users = fold_in_vectors(
                    on_cpu,
                    torch.from_numpy(history.indptr),
                    torch.from_numpy(history.indices).long(),
                    cosine=cosine,
                    tau=getattr(loss.config, "tau", None),
                )
            return dot_scorer(*loss.final_vectors(users.to(vectors.device), vectors))

        return fold_in


def align(test: TestSet, users: Vocabulary, items: Vocabulary) -> TestSet:
    """Express a test set in a model's vocabularies.

    Users that the model does not know are dropped, with a warning; unknown items get indices
    behind the model's own, so that they stay in the truth and can never be ranked.
    """
    if test.truth.users == users and test.truth.items == items:
        return test
    unknown = int((users.index(test.truth.users.ids)[test.truth.user_counts > 0] < 0).sum())
    if unknown:
        warnings.warn(
            f"{test.name}: {unknown} users are not known to the model and are left out.",
            UserWarning,
            stacklevel=3,
        )
    all_users = users.extend(test.truth.users.ids)
    all_items = items.extend(test.truth.items.ids)

    def known_users(part: Interactions) -> Interactions:
        wide = part.reindex(all_users, all_items)
        indptr = wide.indptr[: len(users) + 1]
        indices = wide.indices[: indptr[-1]]
        return Interactions(indptr=indptr, indices=indices, users=users, items=all_items)

    candidates = test.candidates
    if candidates is not None:
        candidates = np.sort(all_items.index(test.truth.items.take(candidates))).astype(np.int32)
    return replace(
        test,
        truth=known_users(test.truth),
        mask=known_users(test.mask) if test.mask else None,
        candidates=candidates,
    )


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu` or `cuda` into a device.

    Raises:
        ConfigError: another name.
        BackendError: `cuda` was asked for and there is no such device.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"`device` must be auto, cpu or cuda, got {name!r}.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise BackendError("device 'cuda' was asked for and torch finds none.")
    return torch.device(name)
