"""`contrarec evaluate`: how good a run is, on its own data or on others."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.console import Device, Json, Output, Threads, output, table, use_threads
from contrarec.cli.inputs import (
    ItemCol,
    Run,
    TimeCol,
    UserCol,
    WeightCol,
    as_test_set,
    load_data,
    with_valid,
)
from contrarec.cli.workers import RayAddress, Workers, launch_of
from contrarec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from contrarec.data.dataset import Dataset
    from contrarec.evaluation.protocol import Evaluation

GROUPS = ("head", "middle", "tail")


def evaluate(
    run: Run,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="A folder of split files; or a log file, which becomes one test set beside the "
            "run's own history. The data that the run was trained on if not given.",
        ),
    ] = None,
    k: Annotated[
        str | None,
        typer.Option("--k", metavar="K,…", help="Cutoffs; those of the run if not given."),
    ] = None,
    workers: Workers = None,
    ray_address: RayAddress = None,
    device: Device = "auto",
    threads: Threads = None,
    user_col: UserCol = None,
    item_col: ItemCol = None,
    time_col: TimeCol = None,
    weight_col: WeightCol = None,
    as_json: Json = False,
) -> None:
    """Measure a run on every validation and test set.

    All items are ranked for every user with a positive. For each set: every metric with its 95 %
    interval, how well head, middle and tail items are found, how many users were counted and what
    was masked. --json has the definitions, too. With --workers N, N workers rank the items, each
    for some of the users; the run must be in a folder that all machines see.
    """
    with output(as_json) as console:
        cutoffs = None if k is None else _cutoffs(k)
        launch = launch_of(workers, ray_address, device, threads)
        from contrarec.recommender import Recommender

        recommender = Recommender.load(run, device="auto" if launch else device)
        use_threads(threads)
        dataset = data_of(console, run, data, (user_col, item_col, time_col, weight_col))
        with ExitStack() as stack:
            rank = None
            if launch:
                from contrarec.distributed.ranking import ranking_together

                n_items = len(recommender.items)
                rank = stack.enter_context(ranking_together(run, n_items, launch=launch))
            evaluations = recommender.evaluate(dataset, ks=cutoffs, rank=rank)
        if not evaluations:
            raise DataError(f"{dataset.path}: no validation or test set to evaluate on.")
        trained = recommender.result
        result = {key: trained[key] for key in ("best_epoch", "epochs", "seconds")}
        result = {
            "run": run,
            "data": dataset.path,
            **result,
            "metrics": {name: found.metrics() for name, found in evaluations.items()},
            "sets": {name: found.to_dict() for name, found in evaluations.items()},
        }
        console.finish(result, lambda: "\n\n".join(map(_text, evaluations.values())))


def _cutoffs(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise ConfigError(f"--k must be whole numbers from 1 between commas, got {text!r}.")
    return tuple(sorted(set(map(int, parts))))


def data_of(
    console: Output, run: Path, given: str | None, columns: tuple[str | None, ...]
) -> "Dataset":
    """Read what a run is evaluated on.

    Args:
        console: told where the data are not those that the run was trained on.
        run: its folder.
        given: a path, or None for where the run's data were.
        columns: those of users, items, times and weights, where they were named.

    Raises:
        DataError: there is nothing to be evaluated on.
    """
    from contrarec import runs

    known = runs.read_settings(run)[1]
    path = given or known.path
    if not path:
        raise DataError(f"{run}: was not trained on files; say what to evaluate on (--data).")
    dataset = load_data(path, *columns)
    is_log = Path(dataset.path).is_file()
    if is_log and dataset.path != str(Path(known.path).resolve()):
        dataset = as_test_set(dataset, runs.read_history(run))
        (test,) = dataset.tests.values()
        repeated = int(test.truth.isin(dataset.train).sum())
        if repeated:
            console.note(
                f"{repeated} of {test.truth.nnz} interactions of {path} are in the run's training "
                "history: what is measured on them says little"
            )
        return dataset
    dataset = with_valid(dataset)
    if dataset.fingerprint() == known.fingerprint:
        return dataset
    if is_log:
        raise DataError(
            f"{path}: {run} was trained on another split of this log; say what to evaluate on "
            "(--data)."
        )
    console.note(f"{path} is not what {run} was trained on; what is masked follows the data given")
    return dataset


def _text(found: "Evaluation") -> str:
    values = found.metrics()
    groups = {name: group.metrics() for name, group in found.groups.items()}
    rows: list[list[Any]] = [["metric", "mean", "95 % from", "to", *GROUPS]]
    for name, value in values.items():
        low, high = found.intervals[name]
        rows.append([name, value, low, high, *(groups[group].get(name) for group in GROUPS)])
    missed = f", {found.n_unreachable} of them cannot be ranked" if found.n_unreachable else ""
    return (
        f"{found.name}: {len(found.users)} users counted, {found.n_without_truth} without a "
        f"positive left out; {found.n_truth} positives{missed}; {found.n_candidates} items "
        f"ranked; masked: {', '.join(found.masked) or 'nothing'}\n{table(rows)}"
    )
