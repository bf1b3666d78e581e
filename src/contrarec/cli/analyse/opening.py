"""Opening what is analysed: a run, or data to train on with the analyses attached."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contrarec.cli.console import Output, use_threads
from contrarec.cli.inputs import file_name, load_data, read_ids, with_valid
from contrarec.errors import ConfigError, DataError

if TYPE_CHECKING:
    from contrarec.audit.source import Source
    from contrarec.audit.truth import Truth
    from contrarec.data.dataset import Dataset


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the options said about the model."""

    target: str
    chosen: dict[str, Any]
    """Settings of the training; empty for a run."""
    out: Path | None
    device: str
    threads: int | None
    columns: tuple[str | None, ...]
    users: int | None
    truth: Path | None = None


def chosen_settings(
    backbone: str | None,
    loss: str | None,
    preset: str | None,
    overrides: list[str] | None,
    seed: int | None,
) -> dict[str, Any]:
    """Return what was said about the training; empty if nothing was."""
    given = {
        "backbone": backbone,
        "loss": loss,
        "preset": preset,
        "overrides": overrides,
        "seed": seed,
    }
    return {name: value for name, value in given.items() if value is not None}


def open_source(
    console: Output, wanted: Wanted, *, data: str | None = None, needs_truth: bool = False
) -> "tuple[Source, Dataset | None, Truth | None]":
    """Open the run, or train on the data with the analyses attached."""
    from contrarec import runs

    if wanted.users is not None and wanted.users < 1:
        raise ConfigError(f"--users must be at least 1, got {wanted.users}.")
    folder = Path(wanted.target)
    if runs.is_started(folder):
        return _open_run(console, wanted, data, needs_truth)
    if data is not None:
        raise ConfigError(f"--data is for a RUN, and {wanted.target} is none.")
    return _train(console, wanted, needs_truth)


def _open_run(
    console: Output, wanted: Wanted, data: str | None, needs_truth: bool
) -> "tuple[Source, Dataset | None, Truth | None]":
    from contrarec.audit.source import check_data, open_run
    from contrarec.audit.truth import known_false_negatives

    if wanted.chosen or wanted.out:
        names = [*wanted.chosen, *(["out"] if wanted.out else [])]
        raise ConfigError(
            f"{wanted.target}: is a run, which is not trained again; leave out "
            f"{', '.join('--' + name.replace('overrides', 'set') for name in names)}."
        )
    use_threads(wanted.threads)
    source = open_run(Path(wanted.target), device=wanted.device)
    if not source.trace:
        console.note(
            f"{wanted.target}: was trained without the analysis, so its final state is all there is"
        )
    if not needs_truth:
        return source, None, None
    path = data or source.about.path
    if not path:
        raise DataError(f"{wanted.target}: was not trained on files; say on which data (--data).")
    dataset = with_valid(load_data(path, *wanted.columns))
    check_data(source.folder, source.about, dataset)
    return source, dataset, known_false_negatives(dataset, wanted.truth)


def _train(
    console: Output, wanted: Wanted, needs_truth: bool
) -> "tuple[Source, Dataset | None, Truth | None]":
    from contrarec.audit.source import train_traced
    from contrarec.audit.trace import USERS
    from contrarec.audit.truth import known_false_negatives
    from contrarec.settings import resolve_settings
    from contrarec.training.progress import progress

    settings = resolve_settings(**wanted.chosen)
    use_threads(wanted.threads)
    dataset = with_valid(load_data(wanted.target, *wanted.columns))
    try:
        truth = known_false_negatives(dataset, wanted.truth)
    except DataError:
        if needs_truth:
            raise
        truth = None
    parts = (dataset.name, settings.backbone.name, settings.loss_name, str(settings.seed))
    folder = wanted.out or Path("runs") / file_name("-".join(("analyse", *parts)))
    for note in dataset.notes:
        console.note(note)
    console.say(
        f"training {settings.backbone.name} with {settings.loss_name}, seed {settings.seed}, in "
        f"{folder}, with the analyses attached; a finished run is not trained again"
    )
    try:
        source = train_traced(
            dataset,
            settings,
            folder,
            truth,
            limit=wanted.users or USERS,
            device=wanted.device,
            watch=lambda: progress(settings.training, folder=folder),
        )
    except KeyboardInterrupt:
        console.say("interrupted and saved; the same command goes on from here.")
        raise
    return source, dataset, truth


def known_users(given: str, source: "Source") -> Any:
    """Return the indices of users by their ids, or by a file of them.

    Raises:
        DataError: one is not known to the run.
    """
    ids = read_ids(given, source.history.users, "user")
    index = source.history.users.index(ids)
    if (index < 0).any():
        unknown = ids.filter(index < 0)[0]
        raise DataError(f"--for: user {unknown!r} is not known to {source.folder}.")
    return index


def trace_of(source: "Source", name: str) -> list[dict[str, Any]]:
    """Return what one analysis found over training, a mapping per evaluation."""
    return [{"epoch": line["epoch"], **line[name]} for line in source.trace if name in line]
