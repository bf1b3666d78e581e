"""Measure what later users and interactions cost without a new training: fold-in and update.

    python docs/results/after_training.py data/coat --users 0.1 --rows 0.05 --seeds 10

For each backbone and seed, a share of the users and of everyone else's interactions is kept from
training. The model trained without them then meets them in two ways: the users are folded in from
their histories, and the run is updated with all that was kept back. Both are set beside a model
trained on everything from the start. Writes `docs/results/after-training/<data>-<backbone>.json`;
`make_after_training.py` makes the tables of `docs/after-training.md` of them.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contrarec import Dataset, Interactions, Recommender, set_threads
from contrarec.evaluation.protocol import evaluate
from contrarec.evaluation.ranking import Scorer
from contrarec.files import write_text
from contrarec.model import align

HERE = Path(__file__).resolve().parent
METRICS = ("recall@20", "ndcg@20")
TEST = "ood"

Json = dict[str, Any]
PerUser = dict[str, np.ndarray]


def parts(
    data: Dataset, users: float, rows: float, seed: int
) -> tuple[Dataset, Dataset, np.ndarray]:
    """Divide the training interactions into earlier and later ones.

    Args:
        data: all of it.
        users: share of the users that come later.
        rows: share of the others' interactions that come later.
        seed: decides which.

    Returns:
        What is known first, without the ids that are not in it; what comes later, with the valid
        and test sets of all; and which users are new, bool `[n_users]`.
    """
    rng = np.random.default_rng(seed)
    new = rng.random(data.n_users) < users
    later = new[data.train.rows] | (rng.random(data.train.nnz) < rows)
    tests = {name: test.truth for name, test in data.tests.items()}
    valid = None if data.valid is None else data.valid.truth
    earlier = Dataset.from_parts(
        train=_frame(data.train.select(~later)),
        valid=None if valid is None else _frame(valid.select(~new[valid.rows])),
        name=data.name,
    )
    more = Dataset.from_parts(train=data.train.select(later), tests=tests, name=data.name)
    return earlier, more, new


def _frame(log: Interactions) -> pl.DataFrame:
    return pl.DataFrame({"user": log.users.take(log.rows), "item": log.items.take(log.indices)})


def per_user(scorer: Scorer, history: Interactions, data: Dataset) -> PerUser:
    """Return each metric for each user of `data`, NaN for those that are not counted."""
    test = align(data.tests[TEST], history.users, history.items)
    found = evaluate(scorer, test, ks=(20,), n_items=history.n_items)
    index = data.users.index(history.users.take(found.users))
    values = {}
    for metric in METRICS:
        values[metric] = np.full(data.n_users, np.nan)
        values[metric][index] = found.per_user[metric]
    return values


def folded(base: Recommender, data: Dataset, new: np.ndarray) -> PerUser:
    """Return the metrics of the base model, the new users folded in from their histories."""
    model = base._trained()
    train = data.train.select(new[data.train.rows])
    items = model.history.items.index(data.items.ids)[train.indices]
    history = Interactions.from_pairs(
        train.rows[items >= 0], items[items >= 0], users=data.users, items=model.history.items
    )
    known = per_user(model.scorer(), model.history, data)
    others = per_user(model.fold_in_scorer(history), history, data)
    return {name: np.where(new, others[name], known[name]) for name in METRICS}


def timed(function: Callable[[], Recommender]) -> tuple[Recommender, Json]:
    """Call, and tell the seconds of processor time (others use the machine, too) and the epochs."""
    started = time.process_time()
    made = function()
    return made, {
        "cpu_seconds": time.process_time() - started,
        "epochs": made.result["epochs"],
        "best_epoch": made.result["best_epoch"],
    }


def measure(
    data: Dataset, backbone: str, loss: str, seed: int, epochs: list[int], options: Json
) -> Json:
    """Train, fold in, update and train on everything, with one seed."""
    earlier, later, new = parts(data, options["users"], options["rows"], seed)
    settings: Json = {"preset": options["preset"], "seed": seed, "device": "cpu"}
    settings |= options["overrides"]
    base, cost = timed(lambda: Recommender(backbone, loss, **settings).fit(earlier))
    ways = {"base": cost}
    values = {"base": folded(base, data, new)}
    for n in epochs:
        updated, ways[f"update {n}"] = timed(lambda n=n: base.update(later, epochs=n))
        model = updated._trained()
        values[f"update {n}"] = per_user(model.scorer(), model.history, data)
    full, ways["full"] = timed(lambda: Recommender(backbone, loss, **settings).fit(data))
    model = full._trained()
    values["full"] = per_user(model.scorer(), model.history, data)
    popular, _ = timed(lambda: Recommender(loss="popularity").fit(data))
    values["popularity"] = per_user(popular._trained().scorer(), data.train, data)
    groups = {"all": np.ones(data.n_users, bool), "new": new & (data.train.user_counts > 0)}
    counted = ~np.isnan(values["full"][METRICS[0]])
    return {
        "seed": seed,
        "n_later": later.train.nnz,
        "users": {group: int((counted & part).sum()) for group, part in groups.items()},
        "cost": ways,
        "metrics": {
            way: {
                group: {name: float(np.nanmean(of[name][part])) for name in METRICS}
                for group, part in groups.items()
            }
            for way, of in values.items()
        },
    }


def main(arguments: list[str] | None = None) -> None:
    """Measure one data set, write one JSON file a backbone."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--backbones", default="mf,lightgcn")
    parser.add_argument("--loss", default="infonce")
    parser.add_argument("--preset", help="the data's own if not given")
    parser.add_argument("--users", type=float, default=0.05, help="share of users that are new")
    parser.add_argument("--rows", type=float, default=0.05, help="share of others' interactions")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--update-epochs", default="1,5,20")
    parser.add_argument(
        "--epochs", type=int, help="of training, at most; the preset's if not given"
    )
    parser.add_argument("--patience", type=int, help="likewise")
    options = parser.parse_args(arguments)
    set_threads(1)  # so that processor time is the time it takes
    data = Dataset.load(options.data)
    about: Json = {
        "data": data.name,
        "loss": options.loss,
        "preset": options.preset or data.name,
        "users": options.users,
        "rows": options.rows,
        "overrides": {
            name: value
            for name in ("epochs", "patience")
            if (value := getattr(options, name)) is not None
        },
    }
    epochs = [int(text) for text in options.update_epochs.split(",")]
    warm_up = {"users": 0.1, "rows": 0.1, "preset": about["preset"], "overrides": {"epochs": 1}}
    for backbone in options.backbones.split(","):
        measure(data, backbone, options.loss, 0, [1], warm_up)  # compiles what is not timed then
        found: Json = about | {"backbone": backbone, "n_train": data.train.nnz, "runs": []}
        for seed in range(options.seeds):
            found["runs"].append(measure(data, backbone, options.loss, seed, epochs, about))
            path = HERE / "after-training" / f"{data.name}-{backbone}.json"
            path.parent.mkdir(exist_ok=True)
            write_text(path, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
