"""contrarec under PyTorch Lightning: its trainer, callbacks and loggers, our batches and steps.

    import lightning as L
    from contrarec.integrations.lightning import RecommenderModule

    module = RecommenderModule(data, settings)
    L.Trainer(max_epochs=50, check_val_every_n_epoch=5).fit(module)

Needs the package `lightning`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from lightning import LightningModule
from torch.utils.data import DataLoader, IterableDataset

from contrarec.data.dataset import Dataset
from contrarec.errors import ConfigError
from contrarec.losses import adversary_due
from contrarec.losses.base import Tables
from contrarec.model import Model
from contrarec.recommender import given_features
from contrarec.sampling import Batch, Phase, Sampler
from contrarec.settings import Settings
from contrarec.training.loop import add_batch_l2, batch_scores, evaluate_sets, model_scorer
from contrarec.training.state import epoch_plan


class RecommenderModule(LightningModule):
    """A backbone under a loss, with the adversary's passes where the loss has one.

    It brings its own batches, those of `Recommender.fit` with the same seed; epochs, evaluation,
    early stopping and checkpoints are the trainer's. Metrics are logged as `valid/recall@20`, those
    of `trainer.test` as `<test set>/recall@20`.

    Args:
        data: what is learned from, validated and tested on.
        settings: from `contrarec.settings.resolve_settings`. Of `training` the schedule is not
            looked at (`epochs`, `eval_every`, `patience`): it is the trainer's.

    Raises:
        ConfigError: `negatives` or `storage` are not the default, which are the loop's alone.
    """

    def __init__(self, data: Dataset, settings: Settings) -> None:
        super().__init__()
        config = settings.training
        if config.negatives != "sampled" or config.storage != "float32":
            raise ConfigError(
                "`negatives` must be 'sampled' and `storage` 'float32' under Lightning, got "
                f"{config.negatives!r} and {config.storage!r}."
            )
        self.automatic_optimization = False  # two optimizers that never step together
        features, vectors = given_features(settings.backbone, data), None
        if features is not None:
            data = data.with_items(features.ids)
            vectors = features.of(data.items)
        self.data, self.settings = data, settings
        self.model = Model(settings, data.train, torch.device("cpu"), vectors)
        self.backbone, self.loss = self.model.backbone, self.model.loss
        self.adversary_passes = 0
        self._constant: Tables | None = None
        self._cosine = self.loss.similarity == "cosine"
        self._published = config.fidelity == "published"

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam over the model and what its loss learns; the adversary has its own."""
        learned = (*self.backbone.parameters(), *self.loss.learned())
        return torch.optim.Adam(learned, lr=self.settings.training.lr, fused=True)

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the batches, each epoch's own."""
        return DataLoader(_EpochBatches(self), batch_size=None)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return one item: a validation is of all users at once."""
        return DataLoader([0], batch_size=None)  # type: ignore[arg-type]

    test_dataloader = val_dataloader

    def on_train_epoch_start(self) -> None:
        """Let the loss see the vectors that the epoch begins with."""
        with torch.no_grad():
            self.loss.begin_epoch(self.current_epoch, self.backbone())

    def training_step(self, step: tuple[Phase, Batch]) -> None:
        """Make a step of the adversary or of the model."""
        phase, batch = step
        context: dict[str, Any] = {
            "users": batch.users,
            "pos_items": batch.items[:, 0],
            "neg_items": batch.items[:, 1:].contiguous(),
        }
        if phase == "max":
            # max step: the model is a constant, the adversary moves
            with torch.no_grad():
                self._constant = self._constant or self.loss.propagate(self.backbone)
                pos, neg = batch_scores(self._constant, batch, self._cosine)
            context["vectors"] = (self.backbone.user_table, self.backbone.item_table)
            found = self.loss.adversary_step(pos, neg, **context)
            self.log("adversary_loss", found.loss, on_step=False, on_epoch=True)
            return
        # min step: the adversary is a constant, the model moves
        self._constant = None
        optimizer = self.optimizers()
        outputs = self.loss.propagate(self.backbone)
        context["vectors"] = (self.backbone.user_table, self.backbone.item_table)
        pos, neg = batch_scores(outputs, batch, self._cosine)
        value = self.loss(pos, neg, outputs=outputs, **context)
        optimizer.zero_grad()
        self.manual_backward(value)
        self.loss.after_backward()
        l2 = self.settings.training.l2
        add_batch_l2(self.backbone, batch, l2, negatives=not self._published)
        optimizer.step()
        self.log("loss", value.detach(), on_step=False, on_epoch=True)

    def validation_step(self, _: Any) -> None:
        """Log the metrics of the validation set."""
        self._log_metrics({"valid"})

    def test_step(self, _: Any) -> None:  # noqa: PT019 - no test of ours
        """Log the metrics of the test sets."""
        self._log_metrics(set(self.data.tests))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what the adversary remembers."""
        checkpoint["adversary_passes"] = self.adversary_passes
        if self.loss.has_adversary:
            checkpoint["adversary_optimizer"] = self.loss.adversary_optimizer.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what the adversary remembers."""
        self.adversary_passes = checkpoint["adversary_passes"]
        if self.loss.has_adversary:
            self.loss.adversary_optimizer.load_state_dict(checkpoint["adversary_optimizer"])

    def _log_metrics(self, names: set[str]) -> None:
        scorer, ks = model_scorer(self.backbone, self.loss), self.settings.training.ks
        for name, metrics in evaluate_sets(scorer, self.data, ks).items():
            if name in names:
                values = {f"{name}/{metric}": value for metric, value in metrics.items()}
                self.log_dict(values, batch_size=1)


class _EpochBatches(IterableDataset[tuple[Phase, Batch]]):
    """The batches of an epoch: adversarial passes when they are due, then the model's."""

    def __init__(self, module: RecommenderModule) -> None:
        config, loss = module.settings.training, module.loss
        self._module = module
        self._sampler = Sampler(
            module.data.train,
            batch_size=config.batch_size,
            n_neg=config.n_neg if loss.uses_negatives else 1,
            positives=config.positives,
            drop_last=config.fidelity == "published",
            seen_only=module.backbone.ranks_unseen_items,
            seed=module.settings.seed,
        )

    def __iter__(self) -> Iterator[tuple[Phase, Batch]]:
        module, loss = self._module, self._module.loss
        epoch, passes = module.current_epoch, module.adversary_passes
        due = loss.has_adversary and adversary_due(epoch, passes, loss.config)
        plan = epoch_plan(due, loss.config.adv_epochs) if loss.has_adversary else ("min",)
        for part, phase in enumerate(plan):
            stream = epoch if phase == "min" else passes + part
            for batch in self._sampler.batches(stream, phase):
                yield phase, batch
        module.adversary_passes = passes + len(plan) - 1
