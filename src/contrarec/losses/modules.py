"""Losses as modules: hyper-parameters, and what a loss has to remember or to learn.

Each takes a frozen config and, by keyword, what it may need to know of the data; each is called as
`loss(pos, neg, users=…, neg_items=…, vectors=…)` and returns a scalar. A loss with an adversary
owns its parameters and its optimizer: the model step treats the adversary as a constant, the
adversary step treats the scores as constants.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import nn

from contrarec.errors import ConfigError
from contrarec.losses import functional
from contrarec.losses.adversary import (
    EmbeddingHardness,
    MLPHardness,
    PopularityHardness,
    RandomHardness,
    Vectors,
)
from contrarec.losses.configs import AdvInfoNCEConfig, BPRConfig, InfoNCEConfig
from contrarec.optimizers import make_adam

Similarity = Literal["cosine", "dot"]
Rng = int | torch.Generator | None

_NO_ADVERSARY = "`hardness` 'closed_form' has no adversary to train."


@dataclass(frozen=True)
class AdversaryStep:
    """What one step of the adversary saw, before it moved."""

    loss: torch.Tensor
    """Mean loss of the batch, detached."""
    kl: torch.Tensor
    """`[B]` KL(p ‖ uniform) of each row, detached."""


class Loss(Protocol):
    """What the training loop needs of a loss; a user's own `nn.Module` has to offer the same.

    It is constructed as `Loss(config, *, n_users, n_items, item_counts=None, dim=None, rng=None)`.
    The last three members are used only where `has_adversary` holds or weights are reported.
    """

    config_class: ClassVar[type[Any]]
    similarity: ClassVar[Similarity]
    """Which scores it expects: cosines or plain dot products."""
    config: Any

    @property
    def has_adversary(self) -> bool:
        """Whether there is something to train beside the model."""

    def __call__(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        users: torch.Tensor | None = None,
        neg_items: torch.Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> torch.Tensor:
        """Mean loss of a batch: `pos [B]`, `neg [B, N]`, `users [B]`, `neg_items [B, N]`."""

    def state_dict(self) -> dict[str, Any]:
        """Everything it learned or drew."""

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Put that back."""

    def log_p(
        self,
        neg: torch.Tensor,
        users: torch.Tensor | None = None,
        neg_items: torch.Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> torch.Tensor | None:
        """Log-weights of the negatives `[B, N]`, or None where they are uniform."""

    def adversary_step(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        users: torch.Tensor,
        neg_items: torch.Tensor,
        vectors: Vectors | None = None,
    ) -> AdversaryStep:
        """One step of the adversary, with the scores as constants."""

    @property
    def adversary_optimizer(self) -> torch.optim.Optimizer:
        """The adversary's optimizer, whose state belongs to a checkpoint."""


class BPR(nn.Module):
    """Bayesian personalised ranking: `functional.bpr` on dot products.

    The keyword arguments are those of every loss; this one needs none of them.

    >>> BPR()(torch.tensor([0.0]), torch.tensor([[0.0]]))
    tensor(0.6931)
    """

    config_class: ClassVar[type[BPRConfig]] = BPRConfig
    similarity: ClassVar[Similarity] = "dot"
    has_adversary: ClassVar[bool] = False

    def __init__(
        self,
        config: BPRConfig | None = None,
        *,
        n_users: int | None = None,  # noqa: ARG002
        n_items: int | None = None,  # noqa: ARG002
        item_counts: Any = None,  # noqa: ARG002
        dim: int | None = None,  # noqa: ARG002
        rng: Rng = None,  # noqa: ARG002
    ) -> None:
        super().__init__()
        self.config = config or BPRConfig()

    def per_row(self, pos: torch.Tensor, neg: torch.Tensor) -> torch.Tensor:
        """Return the losses `[B]`."""
        return functional.bpr(pos, neg)

    def forward(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        users: torch.Tensor | None = None,  # noqa: ARG002
        neg_items: torch.Tensor | None = None,  # noqa: ARG002
        vectors: Vectors | None = None,  # noqa: ARG002
    ) -> torch.Tensor:
        """Return the mean loss of a batch."""
        return self.per_row(pos, neg).mean()


class InfoNCE(nn.Module):
    """InfoNCE, alone or with fixed weights of the negatives: the control rows of AdvInfoNCE.

    Args:
        config: hyper-parameters; the defaults if None.
        n_users: not needed; every loss takes the same arguments.
        n_items: what `item_counts` is checked against.
        item_counts: `[n_items]` training interactions per item, for popularity weights.
        dim: not needed.
        rng: seed or generator of random weights; None draws a seed.

    Raises:
        ConfigError: popularity weights without `item_counts`, or these of another length.

    >>> loss = InfoNCE(InfoNCEConfig(tau=0.1))
    >>> loss(torch.tensor([1.0]), torch.tensor([[1.0]]))
    tensor(0.6931)
    """

    config_class: ClassVar[type[InfoNCEConfig]] = InfoNCEConfig
    similarity: ClassVar[Similarity] = "cosine"
    has_adversary: ClassVar[bool] = False

    def __init__(
        self,
        config: InfoNCEConfig | None = None,
        *,
        n_users: int | None = None,  # noqa: ARG002
        n_items: int | None = None,
        item_counts: Any = None,
        dim: int | None = None,  # noqa: ARG002
        rng: Rng = None,
    ) -> None:
        super().__init__()
        self.config = config = config or InfoNCEConfig()
        self.hardness: nn.Module | None = None
        if config.weights == "random":
            self.hardness = RandomHardness(config.scale, eta=config.eta, generator=_generator(rng))
        elif config.weights == "popularity":
            if item_counts is None:
                raise ConfigError("`item_counts` must be given with popularity weights, got None.")
            counts = torch.as_tensor(item_counts)
            if n_items is not None and counts.shape != (n_items,):
                raise ConfigError(
                    f"`item_counts` must be [n_items] = [{n_items}], got {tuple(counts.shape)}."
                )
            self.hardness = PopularityHardness(counts, config.alpha, eta=config.eta)

    def log_p(
        self,
        neg: torch.Tensor,  # noqa: ARG002 - as in AdvInfoNCE
        users: torch.Tensor | None = None,
        neg_items: torch.Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> torch.Tensor | None:
        """Return `log p [B, N]`, or None where p is uniform."""
        if self.hardness is None:
            return None
        return _weigh(self.hardness, users, neg_items, vectors)

    def neg_log_weight(
        self,
        neg: torch.Tensor,
        users: torch.Tensor | None = None,
        neg_items: torch.Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> torch.Tensor | None:
        """Return `log(k_neg·N·p)`, or None where every negative weighs 1."""
        log_p = self.log_p(neg, users, neg_items, vectors)
        if log_p is not None:
            return log_p + math.log(self.config.k_neg * neg.shape[1])
        return None if self.config.k_neg == 1 else neg.new_tensor(math.log(self.config.k_neg))

    def per_row(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        users: torch.Tensor | None = None,
        neg_items: torch.Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> torch.Tensor:
        """Return the losses `[B]`."""
        weight = self.neg_log_weight(neg, users, neg_items, vectors)
        return functional.infonce(
            pos,
            neg,
            tau=self.config.tau,
            neg_log_weight=weight,
            include_positive=self.config.include_positive,
        )

    def forward(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        users: torch.Tensor | None = None,
        neg_items: torch.Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> torch.Tensor:
        """Return the mean loss of a batch; only weights other than uniform need the indices."""
        return self.per_row(pos, neg, users, neg_items, vectors).mean()


class AdvInfoNCE(nn.Module):
    """AdvInfoNCE: InfoNCE whose negatives are weighted by an adversary.

    Calling it is the min step: p is a constant, gradients reach the scores alone. `adversary_step`
    is the max step: the scores are constants and one step of the adversary's own Adam is made.

    Args:
        config: hyper-parameters; the defaults if None.
        n_users: rows of the adversary's user table.
        n_items: rows of its item table.
        item_counts: not needed; every loss takes the same arguments.
        dim: dimension of the backbone's tables, for MLP hardness; `config.adv_dim` if None.
        rng: seed or generator that draws the adversary's parameters; None draws a seed.

    Source:
        Zhang et al., "Empowering Collaborative Filtering with Principled Adversarial Contrastive
        Loss", NeurIPS 2023 (arXiv 2310.18700).

    Deviations:
        Log-sum-exp instead of raw exponentials; `k_neg` is 1 unless told; `adv_l2` acts on the
        adversary (the authors' code computes that term and drops it); `eta` is enforced if given.

    Relations:
        Uniform p and k_neg = 1 is InfoNCE; a call leaves the adversary bit-equal, an adversary
        step leaves the model bit-equal and moves the loss of its batch in `direction`.

    >>> loss = AdvInfoNCE(AdvInfoNCEConfig(tau=0.1), n_users=3, n_items=5, rng=0)
    >>> pos, neg = torch.tensor([0.9]), torch.tensor([[0.1, 0.2]])
    >>> batch = {"users": torch.tensor([2]), "neg_items": torch.tensor([[0, 4]])}
    >>> before = loss(pos, neg, **batch)
    >>> step = loss.adversary_step(pos, neg, **batch)
    >>> bool(loss(pos, neg, **batch) > before), bool(step.loss == before)
    (True, True)
    """

    config_class: ClassVar[type[AdvInfoNCEConfig]] = AdvInfoNCEConfig
    similarity: ClassVar[Similarity] = "cosine"

    def __init__(
        self,
        config: AdvInfoNCEConfig | None = None,
        *,
        n_users: int,
        n_items: int,
        item_counts: Any = None,  # noqa: ARG002
        dim: int | None = None,
        rng: Rng = None,
    ) -> None:
        super().__init__()
        self.config = config = config or AdvInfoNCEConfig()
        self.hardness: EmbeddingHardness | MLPHardness | None = None
        generator = _generator(rng)
        if config.hardness == "embedding":
            self.hardness = EmbeddingHardness(
                n_users,
                n_items,
                config.adv_dim,
                eta=config.eta,
                optimizer=config.adv_optimizer,
                generator=generator,
            )
        elif config.hardness == "mlp":
            self.hardness = MLPHardness(
                dim or config.adv_dim, config.mlp_dim, eta=config.eta, generator=generator
            )
        self._optimizer: torch.optim.Optimizer | None = None

    @property
    def has_adversary(self) -> bool:
        """Whether there is something to learn: not with the closed form."""
        return self.hardness is not None

    @property
    def adversary_optimizer(self) -> torch.optim.Optimizer:
        """The adversary's Adam; its state belongs into a checkpoint beside `state_dict()`.

        Raises:
            ConfigError: the closed form has none.
        """
        if self.hardness is None:
            raise ConfigError(_NO_ADVERSARY)
        if self._optimizer is None:  # made when training asks: torch takes a second to load Adam
            self._optimizer = make_adam(
                self.hardness.parameters(),
                lr=self.config.adv_lr,
                lazy=isinstance(self.hardness, EmbeddingHardness) and self.hardness.lazy,
                maximize=self.config.direction == "max",
            )
        return self._optimizer

    def log_p(
        self,
        neg: torch.Tensor,
        users: torch.Tensor | None = None,
        neg_items: torch.Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> torch.Tensor:
        """Return the adversary's `log p [B, N]` as a constant; only the closed form reads `neg`."""
        with torch.no_grad():
            if self.hardness is not None:
                return _weigh(self.hardness, users, neg_items, vectors)
            config = self.config
            return functional.closed_form_log_p(neg, tau=config.tau, lam=config.lam, eta=config.eta)

    def neg_log_weight(
        self,
        neg: torch.Tensor,
        users: torch.Tensor | None = None,
        neg_items: torch.Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> torch.Tensor:
        """Return `log(k_neg·N·p) [B, N]` as a constant."""
        log_p = self.log_p(neg, users, neg_items, vectors)
        return log_p + math.log(self.config.k_neg * neg.shape[1])

    def per_row(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        users: torch.Tensor | None = None,
        neg_items: torch.Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> torch.Tensor:
        """Return the losses `[B]`, with p as a constant."""
        weight = self.neg_log_weight(neg, users, neg_items, vectors)
        return functional.infonce(pos, neg, tau=self.config.tau, neg_log_weight=weight)

    def forward(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        users: torch.Tensor | None = None,
        neg_items: torch.Tensor | None = None,
        vectors: Vectors | None = None,
    ) -> torch.Tensor:
        """Return the mean loss of a batch, with p as a constant: the min step.

        Args:
            pos: `[B]` cosines of the positives.
            neg: `[B, N]` cosines of the sampled negatives.
            users: `[B]` user indices; needed unless the hardness is closed-form.
            neg_items: `[B, N]` item indices; needed unless the hardness is closed-form.
            vectors: the model's ego tables, for MLP hardness; used detached.

        Raises:
            ConfigError: something needed is missing, or shapes do not fit.
        """
        return self.per_row(pos, neg, users, neg_items, vectors).mean()

    def adversary_step(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        users: torch.Tensor,
        neg_items: torch.Tensor,
        vectors: Vectors | None = None,
    ) -> AdversaryStep:
        """Make one step of the adversary on a batch, with the scores as constants: the max step.

        Takes the arguments of a call. Works under `torch.no_grad()` too, so that the scores need
        no graph.

        Raises:
            ConfigError: the closed form has no adversary, or shapes do not fit.
        """
        config, hardness = self.config, self.hardness
        if hardness is None:
            raise ConfigError(_NO_ADVERSARY)
        optimizer = self.adversary_optimizer
        with torch.enable_grad():
            log_p = _weigh(hardness, users, neg_items, vectors)
            loss = functional.infonce(
                pos.detach(),
                neg.detach(),
                tau=config.tau,
                neg_log_weight=log_p + math.log(config.k_neg * neg.shape[1]),
            ).mean()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
        if config.adv_l2:  # L2 pulls inwards, whichever way the optimizer goes
            sign = -1.0 if config.direction == "max" else 1.0
            hardness.add_l2(users, neg_items, sign * config.adv_l2 / len(users))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return AdversaryStep(loss.detach(), functional.kl_to_uniform(log_p.detach()))


def _weigh(
    hardness: nn.Module,
    users: torch.Tensor | None,
    neg_items: torch.Tensor | None,
    vectors: Vectors | None,
) -> torch.Tensor:
    if users is None or neg_items is None:
        raise ConfigError("`users` and `neg_items` must be given with weighted negatives.")
    log_p: torch.Tensor = hardness(users, neg_items, vectors)
    return log_p


def _generator(rng: Rng) -> torch.Generator:
    if isinstance(rng, torch.Generator):
        return rng
    generator = torch.Generator()
    if rng is None:
        generator.seed()
    else:
        generator.manual_seed(rng)
    return generator
