"""`Recommender`: from an interaction log to recommendations by the user's own ids."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch

from contrarec import runs
from contrarec.answers import Answers
from contrarec.backbones import BACKBONES
from contrarec.baselines import BASELINES
from contrarec.config import BackboneConfig
from contrarec.data.dataset import Dataset
from contrarec.data.features import ItemFeatures, read_features
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError, DataError, unknown
from contrarec.evaluation.protocol import (
    Evaluation,
    Rank,
    evaluate,
    rank_here,
    ranked_once,
)
from contrarec.evaluation.ranking import top_k
from contrarec.fitted import FittedModel, log_fit
from contrarec.frames import ids_of, native_frame
from contrarec.growth import extended, take_over
from contrarec.model import Model, align, resolve_device
from contrarec.scored import ScorerRanking
from contrarec.settings import Settings, is_idle, resolve_settings
from contrarec.training.loop import Hooks, Outcome, evaluate_sets, fit

_UPDATE_SHARE = 0.1  # of the epochs that training took


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
        **overrides: any setting by name: `tau=0.1`, `lr=1e-3`, `n_neg=64`, `epochs=200`, or
            `features="items.parquet"` with the backbone `alpharec`.

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
        plain = {key: str(v) if isinstance(v, Path) else v for key, v in overrides.items()}
        settings = resolve_settings(
            backbone=backbone, loss=loss, preset=preset, overrides=plain, seed=seed
        )
        named: dict[str, Any] = {"backbone": backbone, "loss": loss, "preset": preset}
        self._set_up(settings, device, named | {"seed": seed, "device": device} | plain)

    @classmethod
    def from_settings(cls, settings: Settings, *, device: str = "auto") -> Self:
        """Make a recommender from settings that are already together, such as those of a file."""
        made = cls.__new__(cls)
        made._set_up(settings, device, _params(settings, device))
        return made

    def _set_up(self, settings: Settings, device: str, params: dict[str, Any]) -> None:
        self.settings, self.device = settings, resolve_device(device)
        if settings.loss_name in BASELINES:
            self.device = torch.device("cpu")
        elif settings.backbone.name not in BACKBONES:
            raise ConfigError(unknown("backbone", settings.backbone.name, BACKBONES))
        self._model: Model | FittedModel | None = None
        self._asked: Answers | None = None
        self._params = params
        self.result: dict[str, Any] = {}

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - scikit-learn's
        """Return what the constructor was given, by name: scikit-learn's protocol for `clone`."""
        return dict(self._params)

    def set_params(self, **params: Any) -> Self:
        """Change some of what the constructor was given; what was trained is dropped.

        Raises:
            ConfigError: a name or setting is unknown, or a value out of range; nothing is changed.
        """
        if params:
            fresh = type(self)(**self._params | params)
            self.__dict__.update(fresh.__dict__)
        return self

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
            data: the data set; without a valid set, training runs for `epochs`. With the backbone
                `alpharec`, the items that only its features know are items of the model, too.
            out: a folder to keep the run in; it must not hold one yet, unless `resume`.
            resume: go on with the run in `out`, exactly as if it had never stopped.
            hooks: functions called along the way.

        Returns:
            The recommender itself; `result` tells how training went.
        """
        folder = Path(out) if out is not None else None
        if resume and folder is None:
            raise ConfigError("`resume` needs `out`, the folder of the run to go on with.")
        fingerprint = data.fingerprint()
        features = given_features(self.settings.backbone, data)
        if features is not None:
            data = data.with_items(features.ids)
        about = runs.RunData(
            name=data.name,
            path=data.path,
            fingerprint=fingerprint,
            frame=data.frame,
            features="" if features is None else features.fingerprint(),
        )
        model = self._build(data.train, features)
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
        self._model, self._about, self._asked = model, about, None
        self.result = self._report(data, outcome, folder)
        if isinstance(model, FittedModel):
            log_fit(self.result, folder, hooks)
        if folder is not None and outcome.stopped != "interrupted":
            runs.finish(folder, model.weights(), self.result, model.vectors())
        return self

    def evaluate(
        self,
        data: Dataset,
        *,
        ks: tuple[int, ...] | None = None,
        bootstrap: int = 1000,
        rank: Rank | None = None,
    ) -> dict[str, Evaluation]:
        """Evaluate on the validation set and every test set of `data`, by name.

        `data` may be another data set than the one trained on. Users that training did not know
        are left out and counted; items that it did not know cannot be ranked and count as misses.

        Args:
            data: sets to evaluate on, with what is masked for each.
            ks: cutoffs; those of the settings if None.
            bootstrap: resamples behind each 95 % interval.
            rank: ranks in the place of this process, such as by workers elsewhere.
        """
        model = self._trained()
        scorer = model.scorer()
        known, n_items = (model.history.users, model.history.items), model.history.n_items
        sets = [align(test, *known) for test in data.held_out]
        rank = ranked_once(sets, rank or partial(rank_here, n_items=n_items))
        return {
            test.name: evaluate(
                scorer,
                test,
                ks=ks or self.settings.training.ks,
                bootstrap=bootstrap,
                groups=True,
                item_counts=model.history.item_counts,
                n_items=n_items,
                rng=self.settings.seed,
                rank=rank,
            )
            for test in sets
        }

    def recommend(
        self,
        users: Any,
        k: int = 20,
        *,
        filter_viewed: bool = True,
        exclude: Any = None,
        allow: Any = None,
    ) -> Any:
        """Recommend items to users.

        Users without training history get the most popular items, and a warning says how many.

        Args:
            users: ids as a list, array, series or one-column frame.
            k: items per user; fewer where fewer can be recommended.
            filter_viewed: leave out the items of the user's training history.
            exclude: items to leave out: ids, for everyone; or a frame with a column of users and
                one of items, for each user.
            allow: the only items that may be recommended, likewise; a user without a row in such a
                frame gets none. A frame may have a column `available`: rows where it is false do
                not count.

        Returns:
            A frame `user_id, item_id, score, rank` (rank from 1), of the kind that the ids came
            in, or else that the training data came in. The score of a popularity fallback is the
            item's number of training interactions.

        Raises:
            DataError: a frame of items has not the columns that it needs.
        """
        return self.answers().recommend(
            users, k, filter_viewed=filter_viewed, exclude=exclude, allow=allow
        )

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
        return self.answers().similar_items(items, k)

    def score(self, users: Any, items: Any) -> Any:
        """Score single pairs of a user and an item, whether or not the user has the item.

        Args:
            users: ids, as many as items; or one, for all of them.
            items: likewise.

        Returns:
            A frame `user_id, item_id, score`, a row a pair in the order given. The score is null
            where the user has no training history or an id is unknown, and a warning says how many.

        Raises:
            DataError: there are not equally many of both.
        """
        return self.answers().score(users, items)

    def explain(self, users: Any, items: Any, n: int = 3) -> Any:
        """Name the items of a user's training history that are nearest to an item.

        Nearness is that of `similar_items`. It says what the item is like, not how the score came
        about: a factor model has no reasons.

        Args:
            users: ids, as many as items; or one, for all of them.
            items: likewise.
            n: items of the history for each pair.

        Returns:
            A frame `user_id, item_id, because_item_id, similarity, rank`; no row for a user
            without training history.

        Raises:
            DataError: an item is unknown, or there are not equally many of both.
        """
        return self.answers().explain(users, items, n)

    def vectors(self) -> dict[str, np.ndarray] | None:
        """Return the vectors of `users` and `items` whose dot products are the scores.

        None for a baseline. Rows are in the order of `users.ids` and `items.ids`.
        """
        return self._trained().vectors()

    def answers(self) -> Answers:
        """Return what can be asked of the trained model; its vectors are computed once."""
        if self._asked is None:
            model = self._trained()
            n_items = model.history.n_items
            self._asked = Answers(
                history=model.history,
                frame=self._about.frame,
                ranking=ScorerRanking(model.scorer(), n_items),
                neighbours=lambda: ScorerRanking(model.similar(), n_items),
            )
        return self._asked

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
        table = self.answers().table("user_id", pl.Series(everyone), items, scores)
        return native_frame(self._about.frame, table.to_dict())

    def update(
        self, data: Dataset, *, epochs: int | None = None, hooks: Hooks | None = None
    ) -> "Recommender":
        """Learn from interactions that came later, without starting over.

        The longer history is the trained one with `data.train`. Rows of the tables move along with
        their ids; a new user starts where fold-in puts its history, a new item at the mean of its
        users (see `contrarec.growth`). Training then goes on over all interactions with a fresh
        optimizer, since the moments of the old one are about another history. A baseline is fitted
        again. Without a new pair nothing is trained and the vectors stay what they were.

        Args:
            data: the new interactions are `train`; a valid set picks the best epoch and test sets
                are evaluated, as in `fit`.
            epochs: passes over all interactions; a tenth of what the run's best epoch took if None.
            hooks: functions called along the way.

        Returns:
            Another recommender; this one stays as it is.

        Raises:
            DataError: the new ids are texts where the trained ones are whole numbers.
            ConfigError: `epochs` is below 1, or the backbone maps given vectors.
        """
        if self.settings.backbone.features:
            raise ConfigError(
                f"update: not with the backbone {self.settings.backbone.name!r}, whose vectors "
                "come from `features`; train it anew on the longer log."
            )
        old = self._trained()
        merged = extended(old.history, data)
        settings = self.update_settings(epochs)
        updated = Recommender.from_settings(settings, device=self.device.type)
        model = updated._build(merged.train)
        untrained = self._build(old.history)
        if isinstance(model, FittedModel):
            model.check()
            outcome = model.fit()
        elif isinstance(old, Model) and isinstance(untrained, Model):
            take_over(model, old, untrained)
            outcome = Outcome(best_epoch=0, epochs=0, seconds=0.0, stopped="nothing new")
            if merged.train.nnz > old.history.nnz:
                outcome = fit(
                    model.backbone,
                    model.loss,
                    merged,
                    settings.training,
                    seed=settings.seed,
                    hooks=hooks,
                )
        updated._model = model
        updated._about = replace(self._about, path=data.path, fingerprint=merged.fingerprint())
        updated.result = updated._report(merged, outcome, None) | {
            "updated_from": self.result.get("run"),
            "new_interactions": merged.train.nnz - old.history.nnz,
            "new_users": _n_active(merged.train.user_counts) - _n_active(old.history.user_counts),
            "new_items": _n_active(merged.train.item_counts) - _n_active(old.history.item_counts),
        }
        return updated

    def update_settings(self, epochs: int | None = None) -> Settings:
        """Return the settings that `update` trains with: the run's own, with fewer epochs."""
        if epochs is None:
            epochs = max(1, math.ceil(_UPDATE_SHARE * self.result.get("best_epoch", 0)))
        return replace(self.settings, training=replace(self.settings.training, epochs=epochs))

    def save(self, folder: str | Path) -> None:
        """Write the trained model as a run folder, which `load` and every command read.

        Raises:
            ConfigError: the folder already holds a run, or nothing has been trained.
        """
        model = self._trained()
        runs.begin(Path(folder), self.settings, self._about, model.history)
        result = self.result | {"run": str(folder)}
        runs.finish(Path(folder), model.weights(), result, model.vectors())

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

    def _build(
        self, history: Interactions, features: ItemFeatures | None = None
    ) -> Model | FittedModel:
        if self.settings.loss_name in BASELINES:
            return FittedModel(self.settings, history)
        given = None if features is None else features.of(history.items)
        return Model(self.settings, history, self.device, given)

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
        if known.features != about.features:
            raise DataError(
                f"{folder}: was trained with other item vectors than those in "
                f"{self.settings.backbone.features} now; resume it with the same or choose another "
                "folder."
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


def _n_active(counts: np.ndarray) -> int:
    return int(np.count_nonzero(counts))


def given_features(config: BackboneConfig, data: Dataset) -> ItemFeatures | None:
    """Read the item vectors that a backbone is made from; None for one that needs none.

    Raises:
        DataError: a file is not there or refused, or an item of the data has no vector.
    """
    if not config.features:
        return None
    return read_features(config.features, config.feature_ids).matched(data.items)


def _params(settings: Settings, device: str) -> dict[str, Any]:
    """Return what a constructor would be given for these settings."""
    tables = settings.to_mapping()
    sections = {
        f"{section}.{name}": value
        for section in ("backbone", "loss", "training")
        for name, value in tables[section].items()
        if name != "name" and not is_idle(settings.loss_name, section, name)
    }
    backbone = None if settings.loss_name in BASELINES else settings.backbone.name
    named: dict[str, Any] = {"backbone": backbone, "loss": settings.loss_name, "preset": None}
    return named | {"seed": settings.seed, "device": device} | sections
