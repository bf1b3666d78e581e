"""`Recommender`: from an interaction log to recommendations by the user's own ids."""

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch

from contrarec import runs
from contrarec.backbones import BACKBONES
from contrarec.baselines import BASELINES
from contrarec.data.dataset import Dataset
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError, DataError, unknown
from contrarec.evaluation.protocol import Evaluation, evaluate
from contrarec.evaluation.ranking import top_k
from contrarec.fitted import FittedModel, log_fit
from contrarec.frames import ids_of, native_frame
from contrarec.kernels.dispatch import Backend
from contrarec.model import Model, align, resolve_device
from contrarec.settings import Settings, resolve_settings
from contrarec.training.loop import Hooks, Outcome, evaluate_sets, fit

_FEW_SCORES = 1 << 20


class Recommender:
    """Train a backbone under a loss, evaluate it, recommend.

    Args:
        backbone: a name in `contrarec.backbones.BACKBONES`; none for a baseline.
        loss: a name in `contrarec.losses.LOSSES`, `module:Class`, or a baseline: a name in
            `contrarec.baselines.BASELINES`.
        preset: published settings to start from, such as `coat`, or a preset file; single settings
            override it.
        seed: decides initial weights and batches.
        device: `auto` takes a GPU if there is one, `cpu` or `cuda`; a baseline stays on the CPU.
        **overrides: any setting by name: `tau=0.1`, `lr=1e-3`, `n_neg=64`, `epochs=200`.

    Raises:
        ConfigError: a name or setting is unknown, or a value out of range.
        BackendError: the device is not there.
    """

    def __init__(
        self,
        backbone: str | None = None,
        loss: str | None = None,
        *,
        preset: str | Path | None = None,
        seed: int = 0,
        device: str = "auto",
        **overrides: Any,
    ) -> None:
        settings = resolve_settings(
            backbone=backbone, loss=loss, preset=preset, overrides=overrides, seed=seed
        )
        self._set_up(settings, device)

    @classmethod
    def from_settings(cls, settings: Settings, *, device: str = "auto") -> Self:
        """Make a recommender from settings that are already together, such as those of a file."""
        made = cls.__new__(cls)
        made._set_up(settings, device)
        return made

    def _set_up(self, settings: Settings, device: str) -> None:
        self.settings, self.device = settings, resolve_device(device)
        if settings.loss_name in BASELINES:
            self.device = torch.device("cpu")
        elif settings.backbone.name not in BACKBONES:
            raise ConfigError(unknown("backbone", settings.backbone.name, BACKBONES))
        self._model: Model | FittedModel | None = None
        self.result: dict[str, Any] = {}

    @property
    def users(self) -> Vocabulary:
        """Ids of the users that the trained model has vectors for."""
        return self._trained().history.users

    @property
    def items(self) -> Vocabulary:
        """Ids of the items that the trained model has vectors for."""
        return self._trained().history.items

    @property
    def model(self) -> Model | FittedModel:
        """What was trained: the history, and the scorers that every answer is made of."""
        return self._trained()

    def fit(
        self,
        data: Dataset,
        *,
        out: str | Path | None = None,
        resume: bool = False,
        hooks: Hooks | None = None,
    ) -> Self:
        """Train on `data.train`, stop on `data.valid`, keep the best weights.

        Args:
            data: the data set; without a valid set, training runs for `epochs`.
            out: a folder to keep the run in; it must not hold one yet, unless `resume`.
            resume: go on with the run in `out`, exactly as if it had never stopped.
            hooks: functions called along the way.

        Returns:
            The recommender itself; `result` tells how training went.
        """
        folder = Path(out) if out is not None else None
        about = runs.RunData(
            name=data.name, path=data.path, fingerprint=data.fingerprint(), frame=data.frame
        )
        if resume and folder is None:
            raise ConfigError("`resume` needs `out`, the folder of the run to go on with.")
        model = self._build(data.train)
        if isinstance(model, FittedModel):
            model.check()
        if folder is not None:
            if resume and runs.is_started(folder):
                self._check_same_run(folder, about)
            else:
                runs.begin(folder, self.settings, about, data.train)
        if isinstance(model, FittedModel):
            outcome = model.fit()
        else:
            outcome = fit(
                model.backbone,
                model.loss,
                data,
                self.settings.training,
                seed=self.settings.seed,
                folder=folder,
                resume=resume,
                identity={"settings": self.settings.to_toml(), "data": about.fingerprint},
                hooks=hooks,
            )
        self._model, self._about = model, about
        self.result = self._report(data, outcome, folder)
        if isinstance(model, FittedModel):
            log_fit(self.result, folder, hooks)
        if folder is not None and outcome.stopped != "interrupted":
            runs.finish(folder, model.weights(), self.result)
        return self

    def evaluate(
        self, data: Dataset, *, ks: tuple[int, ...] | None = None, bootstrap: int = 1000
    ) -> dict[str, Evaluation]:
        """Evaluate on the validation set and every test set of `data`, by name.

        `data` may be another data set than the one trained on. Users that training did not know
        are left out and counted; items that it did not know cannot be ranked and count as misses.

        Args:
            data: sets to evaluate on, with what is masked for each.
            ks: cutoffs; those of the settings if None.
            bootstrap: resamples behind each 95 % interval.
        """
        model = self._trained()
        scorer = model.scorer()
        sets = [data.valid] if data.valid else []
        sets += data.tests.values()
        return {
            test.name: evaluate(
                scorer,
                align(test, model.history.users, model.history.items),
                ks=ks or self.settings.training.ks,
                bootstrap=bootstrap,
                groups=True,
                item_counts=model.history.item_counts,
                n_items=model.history.n_items,
                rng=self.settings.seed,
            )
            for test in sets
        }

    def recommend(self, users: Any, k: int = 20, *, filter_viewed: bool = True) -> Any:
        """Recommend items to users.

        Users without training history get the most popular items, and a warning says how many.

        Args:
            users: ids as a list, array, series or one-column frame.
            k: items per user; fewer where fewer can be recommended.
            filter_viewed: leave out the items of the user's training history.

        Returns:
            A frame `user_id, item_id, score, rank` (rank from 1), of the kind that the ids came
            in, or else that the training data came in. The score of a popularity fallback is the
            item's number of training interactions.
        """
        model = self._trained()
        history = model.history
        ids, kind = ids_of(users, history.users.ids.dtype)
        index = history.users.index(ids)
        warm = index >= 0
        warm[warm] = history.user_counts[index[warm]] > 0
        items = np.full((len(ids), k), -1, np.int32)
        scores = np.full((len(ids), k), -np.inf, np.float32)
        mask = history if filter_viewed else None
        items[warm], scores[warm] = top_k(
            model.scorer(),
            index[warm],
            k,
            n_items=history.n_items,
            mask=mask,
            backend=_twin(len(ids) * history.n_items),
        )
        if not warm.all():
            counts = history.item_counts
            popular = np.argsort(-counts, kind="stable")[:k]
            items[~warm, : len(popular)] = popular
            scores[~warm, : len(popular)] = counts[popular]
            warnings.warn(
                f"{int((~warm).sum())} of {len(ids)} users have no training history and get the "
                f"most popular items: {', '.join(map(str, ids.filter(~warm).head(5)))}"
                f"{', …' if (~warm).sum() > 5 else ''}",
                UserWarning,
                stacklevel=2,
            )
        return self._frame(kind, "user_id", ids, items, scores)

    def similar_items(self, items: Any, k: int = 20) -> Any:
        """Find the items whose vectors have the highest cosine with an item's.

        A baseline has measures of its own: item-KNN's similarities, EASE's weights.

        Args:
            items: ids as a list, array, series or one-column frame.
            k: neighbours per item; the item itself is not one of them.

        Returns:
            A frame `item_id, similar_item_id, score, rank`.

        Raises:
            DataError: an id is unknown.
        """
        model = self._trained()
        vocabulary = model.history.items
        ids, kind = ids_of(items, vocabulary.ids.dtype)
        index = _known(vocabulary, ids, "item")
        found, scores = top_k(
            model.similar(),
            index,
            k + 1,
            n_items=len(vocabulary),
            mask=None,
            backend=_twin(len(ids) * len(vocabulary)),
        )
        keep = np.argsort(found == index[:, None], axis=1, kind="stable")[:, :k]
        found, scores = np.take_along_axis(found, keep, 1), np.take_along_axis(scores, keep, 1)
        return self._frame(kind, "item_id", ids, found, scores, "similar_item_id")

    def fold_in(self, histories: Iterable[Any], k: int = 20, *, filter_viewed: bool = True) -> Any:
        """Recommend to users never seen, from the items they have interacted with.

        Args:
            histories: one list of item ids per user; items that training did not know are left
                out, and a warning says how many.
            k: items per user.
            filter_viewed: leave out the items of the history.

        Returns:
            A frame `user_id, item_id, score, rank`, where the user id is the position of the
            history, from 0.
        """
        model = self._trained()
        vocabulary = model.history.items
        series = [ids_of(history, vocabulary.ids.dtype)[0] for history in histories]
        if not series:
            raise DataError("histories: expected at least one list of item ids, got none.")
        rows = np.repeat(np.arange(len(series)), [len(part) for part in series])
        index = vocabulary.index(pl.concat(series))
        if (index < 0).any():
            warnings.warn(
                f"{int((index < 0).sum())} of {len(index)} items are not known to the model and "
                "are left out of the histories.",
                UserWarning,
                stacklevel=2,
            )
        history = Interactions.from_pairs(
            rows[index >= 0],
            index[index >= 0],
            users=Vocabulary.of(range(len(series))),
            items=vocabulary,
        )
        mask = history if filter_viewed else None
        everyone = np.arange(len(series))
        scorer = model.fold_in_scorer(history)
        items, scores = top_k(scorer, everyone, k, n_items=len(vocabulary), mask=mask)
        return self._frame(None, "user_id", pl.Series(everyone), items, scores)

    def save(self, folder: str | Path) -> None:
        """Write the trained model as a run folder, which `load` and every command read.

        Raises:
            ConfigError: the folder already holds a run, or nothing has been trained.
        """
        model = self._trained()
        runs.begin(Path(folder), self.settings, self._about, model.history)
        runs.finish(Path(folder), model.weights(), self.result | {"run": str(folder)})

    @classmethod
    def load(cls, folder: str | Path, *, device: str = "auto") -> Self:
        """Read a run folder.

        Raises:
            DataError: the folder holds no finished run, or a file is damaged.
            ConfigError: its settings are not understood.
        """
        path = Path(folder)
        settings, about = runs.read_settings(path)
        weights = runs.read_weights(path)
        loaded = cls.from_settings(settings, device=device)
        loaded._model = loaded._build(runs.read_history(path))
        loaded._model.restore(weights, str(path))
        loaded._about, loaded.result = about, runs.read_result(path)
        return loaded

    def _build(self, history: Interactions) -> Model | FittedModel:
        if self.settings.loss_name in BASELINES:
            return FittedModel(self.settings, history)
        return Model(self.settings, history, self.device)

    def _trained(self) -> Model | FittedModel:
        if self._model is None:
            raise ConfigError("nothing has been trained yet: call `fit` first, or `load` a run.")
        return self._model

    def _check_same_run(self, folder: Path, about: runs.RunData) -> None:
        settings, known = runs.read_settings(folder)
        if settings != self.settings:
            raise ConfigError(
                f"{folder}: was started with other settings; resume it with those of its "
                "config.toml, or choose another folder."
            )
        if known.fingerprint != about.fingerprint:
            raise DataError(
                f"{folder}: was trained on other data (fingerprint {known.fingerprint}, "
                f"got {about.fingerprint})."
            )

    def _report(self, data: Dataset, outcome: Outcome, folder: Path | None) -> dict[str, Any]:
        model = self._trained()
        return {
            "run": str(folder) if folder else None,
            "data": data.name,
            "backbone": self.settings.backbone.name,
            "loss": self.settings.loss_name,
            "seed": self.settings.seed,
            "device": str(self.device),
            "best_epoch": outcome.best_epoch,
            "epochs": outcome.epochs,
            "seconds": outcome.seconds,
            "stopped": outcome.stopped,
            "metrics": evaluate_sets(model.scorer(), data, self.settings.training.ks),
        }

    def _frame(
        self,
        kind: str | None,
        key: str,
        ids: pl.Series,
        items: np.ndarray,
        scores: np.ndarray,
        value: str = "item_id",
    ) -> Any:
        """Make a long frame of `[n, k]` item indices and scores; -1 marks an empty place."""
        filled = items >= 0
        rows, ranks = filled.nonzero()
        columns = {
            key: ids.gather(rows).alias(key),
            value: self._trained().history.items.take(items[filled]).alias(value),
            "score": pl.Series("score", scores[filled]),
            "rank": pl.Series("rank", (ranks + 1).astype(np.int32)),
        }
        return native_frame(kind or self._about.frame, columns)


def _twin(n_scores: int) -> Backend:
    """Choose the kernel of a ranking: loading compiled code takes longer than a few users do."""
    return "reference" if n_scores <= _FEW_SCORES else "auto"


def _known(vocabulary: Vocabulary, ids: pl.Series, what: str) -> np.ndarray:
    index = vocabulary.index(ids)
    if (index < 0).any():
        first = ids.filter(index < 0)[0]
        raise DataError(f"unknown {what} id {first!r} ({int((index < 0).sum())} of {len(ids)}).")
    return index
