"""The min–max loop: the model learns under an adversary that weighs its negatives.

An epoch is a plan of passes over the training interactions: adversarial passes when they are due,
then one pass of the model. Every batch is a function of (seed, phase, epoch, step), so a run can
stop after any step and go on from a checkpoint as if nothing had happened.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from contrarec.backbones import Backbone
from contrarec.config import TrainingConfig
from contrarec.data.dataset import Dataset
from contrarec.errors import ConfigError
from contrarec.evaluation.ranking import Scorer, dot_scorer
from contrarec.kernels.scores import sampled_scores
from contrarec.losses import Loss, adversary_due
from contrarec.losses.base import left_out
from contrarec.losses.functional import kl_to_uniform
from contrarec.optimizers import is_lazy, make_adam
from contrarec.sampling import Batch, Phase, Sampler
from contrarec.tensorfile import pack, unpack
from contrarec.training.interrupt import Interrupt
from contrarec.training.metrics_log import MetricsLog
from contrarec.training.negatives import SharedNegatives
from contrarec.training.state import KLTrace, State, epoch_plan
from contrarec.training.team import Team

Metrics = dict[str, dict[str, float]]
Tables = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """What may be called along the way."""

    on_start: Callable[[Backbone, Loss, int], None] | None = None
    """(what is trained, its loss, epochs finished), once, before the first step"""
    on_step: Callable[[int, Phase, int, int], None] | None = None
    """(epochs finished, phase, steps finished, steps of the pass)"""
    on_epoch: Callable[[dict[str, Any]], None] | None = None
    """(the epoch's line of `metrics.jsonl`)"""
    on_eval: Callable[[int, Metrics, bool], None] | None = None
    """(epochs finished, metrics by set, whether the validation set saw its best)"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How training ended. The model holds the weights of `best_epoch`."""

    best_epoch: int
    """Epochs that had been finished when validation was best; all of them without a valid set."""
    epochs: int
    seconds: float
    stopped: str
    """`patience`, `epochs` or `interrupted`"""


def fit(
    backbone: Backbone,
    loss: Loss,
    data: Dataset,
    config: TrainingConfig,
    *,
    seed: int = 0,
    folder: Path | None = None,
    resume: bool = False,
    identity: dict[str, Any] | None = None,
    hooks: Hooks | None = None,
    team: Team | None = None,
) -> Outcome:
    """Train until the validation set stops improving, and restore the best weights.

    Args:
        backbone: what is trained, on its device.
        loss: its loss, on the same device.
        data: training interactions and the sets that are evaluated; only `valid` is looked at for
            stopping.
        config: optimisation and schedule.
        seed: base of the batches' random streams.
        folder: where `metrics.jsonl` and `state/` go; None keeps nothing.
        resume: go on from the checkpoint in `folder`; without one, start from the beginning.
        identity: what must be equal between a checkpoint and the run that resumes it.
        hooks: functions called along the way.
        team: the workers that train together, of which this is one; `data` are then its own
            users' and `backbone` and `loss` have rows for them alone.

    Raises:
        ConfigError: the loss became NaN or infinite, or the monitored metric is not computed.
        DataError: the checkpoint is damaged or belongs to another run; it is left untouched.
    """
    # setup
    published = config.fidelity == "published"
    hooks, team = hooks or Hooks(), team or Team()
    device = next(backbone.parameters()).device
    cosine = loss.similarity == "cosine"
    storage = torch.bfloat16 if config.storage == "bfloat16" else None
    sampled = config.negatives == "sampled"
    seen_only = backbone.ranks_unseen_items
    shared = (
        None if sampled else SharedNegatives(data.train, config, loss, device, seen_only=seen_only)
    )
    sampler = Sampler(
        data.train,
        batch_size=config.batch_size,
        n_neg=config.n_neg if sampled and loss.uses_negatives else 1,
        positives=config.positives,
        drop_last=published,
        seen_only=seen_only,
        seed=seed,
        device=device,
        block=team.block,
    )
    lazy = left_to_lazy_adam(backbone, loss, config)
    learned = (*backbone.parameters(), *loss.learned())
    optimizer = make_adam(learned, lr=config.lr, lazy=lazy)
    team.attend(backbone, loss, optimizer)
    state, best, kl = State(), dict[str, torch.Tensor](), KLTrace(data.n_users, device)
    checkpoint = None
    if folder:
        checkpoint = team.checkpoint(folder, backbone, loss, optimizer, identity or {})
    if checkpoint and resume and checkpoint.path.exists():
        state, best = checkpoint.load(kl)
    log = MetricsLog(folder / "metrics.jsonl", state.epoch) if folder and team.leads else None
    if hooks.on_start:
        hooks.on_start(backbone, loss, state.epoch)
    started = time.perf_counter() - state.seconds
    saved = time.perf_counter()

    def save() -> None:
        nonlocal saved
        state.seconds = time.perf_counter() - started
        if checkpoint:
            checkpoint.save(state, best, kl)
        saved = time.perf_counter()

    with Interrupt() as interrupt:

        def pause() -> tuple[bool, ...]:
            due = time.perf_counter() - saved > config.checkpoint_seconds
            return team.anyone(interrupt.requested or team.stopping(), due)

        interrupted, save_is_due = pause()
        while not state.stopped and not interrupted:
            plan = _plan(loss, state)
            if state.part == state.step == 0:
                with torch.no_grad():
                    loss.begin_epoch(state.epoch, backbone())
            last = state.epoch + 1 == config.epochs
            evaluating = last or (state.epoch + 1) % config.eval_every == 0

            # the passes of this epoch, from where the state says
            while state.part < len(plan) and not interrupted:
                phase = plan[state.part]
                stream = state.epoch if phase == "min" else state.adversary_passes + state.part
                before = state.losses.get(phase, 0.0) / team.size
                total = torch.tensor(before, dtype=torch.float64).to(device)
                # the max steps' model; that of tables alone costs nothing to ask for each time
                once = phase == "max" and not backbone.row_sparse
                with torch.no_grad():
                    constant = loss.propagate(backbone) if once else None
                for batch in sampler.batches(stream, phase, state.step):
                    team.begin_step(batch.share)
                    fetched = team.fetch(batch)
                    # a pass first: layer 0 may be computed in it
                    outputs = loss.propagate(backbone) if constant is None else constant
                    context: dict[str, Any] = {
                        "users": batch.users,
                        "pos_items": batch.items[:, 0],
                        "vectors": (backbone.user_table, backbone.item_table),
                    }
                    if shared:
                        context |= shared.context(batch)
                    else:
                        context["neg_items"] = batch.items[:, 1:].contiguous()
                    if phase == "max":
                        # max step: the model is a constant, the adversary moves
                        pos, neg = batch_scores(
                            outputs, fetched, cosine, storage=storage, shared=shared
                        )
                        step = loss.adversary_step(pos, neg, **context)
                        value, row_kl = step.loss, step.kl
                    else:
                        # min step: the adversary is a constant, the model moves
                        pos, neg = batch_scores(
                            outputs,
                            fetched,
                            cosine,
                            sparse_grad=lazy,
                            storage=storage,
                            shared=shared,
                        )
                        value, row_kl = loss(pos, neg, outputs=outputs, **context), None
                        optimizer.zero_grad()
                        (value * batch.share).backward()
                        loss.after_backward()
                        of_negatives = sampled and not published
                        strength = config.l2 * batch.share
                        add_batch_l2(backbone, fetched, strength, negatives=of_negatives)
                        optimizer.step()
                        if evaluating:
                            row_kl = _row_kl(loss, neg.detach(), context)
                    if batch.share:  # the mean of no rows is no number
                        total += value.detach() * batch.share
                    if row_kl is not None:
                        kl.add(batch.users, row_kl)
                    state.step += 1
                    if hooks.on_step:
                        hooks.on_step(state.epoch, phase, state.step, sampler.n_batches)
                    interrupted, save_is_due = pause()
                    if interrupted or save_is_due:
                        break
                total = team.total(total)
                state.losses[phase] = _finite(float(total), state.epoch + 1, config, loss)
                if state.step == sampler.n_batches:
                    state.part, state.step = state.part + 1, 0
                if interrupted or save_is_due:
                    save()
            if state.part < len(plan):
                break

            # the end of the epoch: evaluate, keep the best, log
            line = _epoch_line(state, plan, sampler.n_batches, kl.summary(team))
            if evaluating:
                line["metrics"] = evaluate_sets(model_scorer(backbone, loss), data, config.ks, team)
                improved = _update_best(state, line["metrics"], config)
                if improved:
                    best = _weights(backbone, loss)
                if hooks.on_eval:
                    hooks.on_eval(state.epoch, line["metrics"], improved)
            if state.bad_evaluations >= config.patience:
                state.stopped = "patience"
            elif last:
                state.stopped = "epochs"
            line["seconds"] = time.perf_counter() - started
            kl.reset()
            line |= team.account()
            if log:
                log.append(line)
            if hooks.on_epoch:
                hooks.on_epoch(line)
            interrupted, save_is_due = pause()
            if state.stopped or interrupted or save_is_due:
                save()

    if best:
        backbone.load_state_dict(unpack("backbone", best))
        loss.load_state_dict(unpack("loss", best))
    return Outcome(
        best_epoch=state.best_epoch if data.valid else state.epoch,
        epochs=state.epoch,
        seconds=state.seconds,
        stopped=state.stopped or "interrupted",
    )


def batch_scores(
    vectors: Tables,
    batch: Batch,
    cosine: bool,
    *,
    sparse_grad: bool = False,
    storage: torch.dtype | None = None,
    shared: SharedNegatives | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores of a batch: positives `[B]` and negatives `[B, N]`, drawn or shared."""
    scores = sampled_scores(
        *vectors,
        batch.users,
        batch.items,
        cosine=cosine,
        sparse_grad=sparse_grad,
        storage=storage,
    )  # [B, 1 + N]
    pos, neg = torch.split(scores, [1, scores.shape[1] - 1], dim=1)
    if shared:
        neg = shared.scores(vectors, batch, neg, cosine=cosine, sparse_grad=sparse_grad)
    return pos.squeeze(1), neg


def add_batch_l2(backbone: Backbone, batch: Batch, strength: float, *, negatives: bool) -> None:
    """Add the gradient of `strength / (2B) · Σ‖row‖²` over the layer-0 rows of a batch.

    The sum runs over users and positives, and over the sampled negatives if asked for.
    """
    items = batch.items if negatives else batch.items[:, 0]
    n_rows = max(len(batch.users), 1)  # a worker may have none of a step's rows
    backbone.add_l2(batch.users, items, strength / n_rows)


def left_to_lazy_adam(backbone: Backbone, loss: Loss, config: TrainingConfig) -> bool:
    """Whether the tables are left to lazy Adam, where a batch moves its own rows alone."""
    if not (backbone.row_sparse and loss.row_sparse):
        if config.optimizer == "lazy_adam":
            cause = f"the loss {type(loss).__name__}, whose gradients are dense"
            if not backbone.row_sparse:
                cause = "a backbone whose gradient reaches more than the rows of a batch"
            raise ConfigError(
                f"`optimizer` must be 'auto' or 'adam' with {cause}, got 'lazy_adam'."
            )
        return False
    return is_lazy(config.optimizer, backbone.user_table, backbone.item_table)


@torch.no_grad()
def model_scorer(backbone: Backbone, loss: Loss) -> Scorer:
    """Return a scorer of all items for any users, from the backbone's present vectors."""
    return dot_scorer(*loss.final_vectors(*backbone.own_vectors()))


def evaluate_sets(
    scorer: Scorer, data: Dataset, ks: tuple[int, ...], team: Team | None = None
) -> Metrics:
    """Return the metrics of the validation set and every test set, by name."""
    return (team or Team()).metrics(scorer, data.held_out, ks)


def _plan(loss: Loss, state: State) -> tuple[Phase, ...]:
    """Return the passes of the epoch that `state` is in."""
    if not loss.has_adversary:
        return ("min",)
    config = loss.config
    return epoch_plan(adversary_due(state.epoch, state.adversary_passes, config), config.adv_epochs)


def _row_kl(loss: Loss, neg: torch.Tensor, context: dict[str, Any]) -> torch.Tensor | None:
    """Return the KL of each row's weights to uniform `[B]`; None for a loss without weights."""
    log_p = loss.log_p(neg, **context)
    if log_p is None:
        return None
    return kl_to_uniform(log_p, left_out(neg, context.get("neg_log_weight")))


def _epoch_line(
    state: State, plan: tuple[Phase, ...], n_batches: int, kl: dict[str, float] | None
) -> dict[str, Any]:
    """Close the epoch in `state` and return its line of the log."""
    passes = len(plan) - 1
    line = {"epoch": state.epoch + 1, "loss": state.losses["min"] / n_batches}
    if passes:
        line["adversary_loss"] = state.losses["max"] / (n_batches * passes)
    state.epoch += 1
    state.adversary_passes += passes
    state.part, state.losses = 0, {}
    line["adversary_passes"] = state.adversary_passes
    return line | ({"kl": kl} if kl else {})


def _update_best(state: State, metrics: Metrics, config: TrainingConfig) -> bool:
    """Note in `state` what the validation set says; return whether it saw its best."""
    if "valid" not in metrics:
        return False
    if config.monitor not in metrics["valid"]:
        choices = ", ".join(metrics["valid"])
        raise ConfigError(f"`monitor` must be one of {choices}, got {config.monitor!r}.")
    value = metrics["valid"][config.monitor]
    if value > state.best:
        state.best, state.best_epoch, state.bad_evaluations = value, state.epoch, 0
        return True
    state.bad_evaluations += 1
    return False


def _weights(backbone: Backbone, loss: Loss) -> dict[str, torch.Tensor]:
    weights = pack("backbone", backbone.state_dict()) | pack("loss", loss.state_dict())
    return {name: tensor.clone() for name, tensor in weights.items()}


def _finite(total: float, epoch: int, config: TrainingConfig, loss: Loss) -> float:
    if math.isfinite(total):
        return total
    tau = getattr(loss.config, "tau", None)
    temperature = f" or too small a temperature (tau = {tau})" if tau is not None else ""
    raise ConfigError(
        f"the loss became {total} in epoch {epoch}. Likely cause: too large a learning rate "
        f"(lr = {config.lr}){temperature}. The last checkpoint is from before that."
    )
