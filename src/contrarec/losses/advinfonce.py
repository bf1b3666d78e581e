"""AdvInfoNCE: the min-max game between a model and an adversary that weighs its negatives."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from contrarec.config import (
    OptimizerName,
    require,
    require_not_negative,
    require_positive,
    settle,
)
from contrarec.errors import ConfigError
from contrarec.losses import functional
from contrarec.losses.adversary import EmbeddingHardness, MLPHardness, weigh
from contrarec.losses.base import (
    AdversaryStep,
    Loss,
    add_log_weights,
    generator_of,
    left_out,
    log_number,
)
from contrarec.optimizers import make_adam

_NO_ADVERSARY = "`hardness` 'closed_form' has no adversary to train."


@dataclass(frozen=True, kw_only=True)
class AdvInfoNCEConfig:
    """AdvInfoNCE: the loss, its adversary, and when the adversary moves."""

    tau: float = 0.1
    """Temperature, the divisor of the scores; published .09 to 2."""
    k_neg: float = 1.0
    """Factor of the negatives' sum: 1 is the formula, 64 the published code."""
    hardness: Literal["embedding", "mlp", "closed_form"] = "embedding"
    """Who sets p: tables of its own, MLPs on the model's tables, or the maximiser itself."""
    adv_dim: int = 64
    """Dimension of the adversary's tables."""
    mlp_dim: int = 4
    """Output dimension of the MLPs."""
    direction: Literal["max", "min"] = "max"
    """Which way the adversary moves the loss; the authors' code descended before 2023-05-17."""
    adv_lr: float = 1e-4
    """Adam's step size for the adversary; published 5e-5 to 1e-2."""
    adv_optimizer: OptimizerName = "auto"
    """`adam`, `lazy_adam` (only the rows that a batch touched move), or `auto`: lazy from
    200,000 rows on. MLPs have no rows."""
    adv_epochs: int = 1
    """Passes over the data each time the adversary is due."""
    adv_interval: int = 5
    """Epochs from one turn of the adversary to the next."""
    adv_passes: int = 12
    """T_adv: no adversarial pass begins after this many; not in force with `eta`."""
    warm_up_epochs: int = 0
    """The adversary rests up to and including this epoch (epochs count from 0)."""
    adv_l2: float = 1e-5
    """L2 of the adversary; in the published code it has no effect."""
    eta: float | None = None
    """KL budget per row in nats, enforced; None leaves the KL to `adv_passes` and `adv_lr`."""
    lam: float = 1.0
    """Penalty of the closed form; not in force with `eta`."""

    def __post_init__(self) -> None:
        settle(self)
        require_positive(self, "tau", "k_neg", "eta", "lam")
        require_positive(self, "adv_dim", "mlp_dim", "adv_lr", "adv_epochs", "adv_interval")
        require_not_negative(self, "adv_passes", "warm_up_epochs", "adv_l2")
        maximises = self.hardness != "closed_form" or self.direction == "max"
        require(maximises, "direction", "be 'max' with the closed form", self.direction)


def adversary_due(epoch: int, passes_done: int, config: AdvInfoNCEConfig) -> bool:
    """Whether adversarial passes (`adv_epochs` of them) precede the model's pass of this epoch.

    Args:
        epoch: the epoch about to begin, counted from 0.
        passes_done: adversarial passes made so far.
        config: with `eta`, the budget takes the place of a limit of passes.

    Source:
        The schedule of the authors' code, including the `+ 3`.

    >>> config = AdvInfoNCEConfig(adv_interval=5, adv_passes=2)
    >>> [epoch for epoch in range(20) if adversary_due(epoch, 0, config)]
    [2, 7, 12, 17]
    >>> adversary_due(17, 2, config)
    False
    """
    left = config.eta is not None or passes_done < config.adv_passes
    return left and epoch > config.warm_up_epochs and (epoch + 3) % config.adv_interval == 0


class AdvInfoNCE(Loss):
    """AdvInfoNCE: InfoNCE whose negatives are weighted by an adversary.

    Calling it is the min step: p is a constant, gradients reach the scores alone. `adversary_step`
    is the max step: the scores are constants and one step of the adversary's own Adam is made.

    Args:
        config: hyper-parameters; the defaults if None.
        n_users: rows of the adversary's user table.
        n_items: rows of its item table.
        dim: dimension of the backbone's tables, for MLP hardness; `config.adv_dim` if None.
        rng: seed or generator that draws the adversary's parameters; None draws a seed.

    Source:
        Zhang et al., "Empowering Collaborative Filtering with Principled Adversarial Contrastive
        Loss", NeurIPS 2023 (arXiv 2310.18700).

    Deviations:
        Log-sum-exp instead of raw exponentials; `k_neg` is 1 unless told; `adv_l2` acts on the
        adversary (the authors' code computes that term and drops it); `eta` is enforced if given.
        Negatives that `neg_log_weight` leaves out, which the paper's sampling never draws, are not
        the adversary's to weigh: p, its KL to uniform and N are of the others. Other weights
        multiply `k_neg·N·p`.

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
    weighs_negatives = True

    def __init__(
        self,
        config: AdvInfoNCEConfig | None = None,
        *,
        n_users: int,
        n_items: int,
        dim: int | None = None,
        **about: Any,
    ) -> None:
        super().__init__(config, n_users=n_users, n_items=n_items, dim=dim, **about)
        config = self.config
        self.hardness: EmbeddingHardness | MLPHardness | None = None
        generator = generator_of(about.get("rng"))
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
        self, neg: torch.Tensor, *, neg_log_weight: torch.Tensor | None = None, **context: Any
    ) -> torch.Tensor:
        """Return the adversary's `log p [B, N]` as a constant; only the closed form reads `neg`."""
        out, config = left_out(neg, neg_log_weight), self.config
        with torch.no_grad():
            if self.hardness is not None:
                return weigh(self.hardness, out=out, **context)
            neg = neg if out is None else neg.masked_fill(out, -torch.inf)
            return functional.closed_form_log_p(neg, tau=config.tau, lam=config.lam, eta=config.eta)

    def _neg_log_weight(
        self, log_p: torch.Tensor, neg: torch.Tensor, given: torch.Tensor | None
    ) -> torch.Tensor | None:
        """Return `log(k_neg·N·p) [B, N]` plus the weights given; N counts what is left in."""
        factor = math.log(self.config.k_neg) + log_number(neg, left_out(neg, given))
        return add_log_weights(log_p + factor, given)

    def per_row(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        neg_log_weight: torch.Tensor | None = None,
        **context: Any,
    ) -> torch.Tensor:
        """Return the losses `[B]`, with p as a constant: the min step.

        Args:
            pos: `[B]` cosines of the positives.
            neg: `[B, N]` cosines of the sampled negatives.
            neg_log_weight: what they weigh by where they come from; `-inf` leaves one out.
            context: `users` and `neg_items`, unless the hardness is closed-form; `vectors`, the
                model's ego tables, for MLP hardness.

        Raises:
            ConfigError: something needed is missing, or shapes do not fit.
        """
        log_p = self.log_p(neg, neg_log_weight=neg_log_weight, **context)
        weight = self._neg_log_weight(log_p, neg, neg_log_weight)
        return functional.infonce(pos, neg, tau=self.config.tau, neg_log_weight=weight)

    def adversary_step(
        self,
        pos: torch.Tensor,
        neg: torch.Tensor,
        *,
        neg_log_weight: torch.Tensor | None = None,
        **context: Any,
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
        optimizer, out = self.adversary_optimizer, left_out(neg, neg_log_weight)
        with torch.enable_grad():
            log_p = weigh(hardness, out=out, **context)
            loss = functional.infonce(
                pos.detach(),
                neg.detach(),
                tau=config.tau,
                neg_log_weight=self._neg_log_weight(log_p, neg, neg_log_weight),
            ).mean()
            optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
        if config.adv_l2:  # L2 pulls inwards, whichever way the optimizer goes
            sign = -1.0 if config.direction == "max" else 1.0
            weight = sign * config.adv_l2 / max(len(pos), 1)  # a worker's share may be empty
            hardness.add_l2(context["users"], context["neg_items"], weight)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return AdversaryStep(loss.detach(), functional.kl_to_uniform(log_p.detach(), out))
