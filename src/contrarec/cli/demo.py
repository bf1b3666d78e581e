"""`contrarec demo`: the main job, from a log to recommendations, on a world that is generated."""

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from contrarec.cli.compare import watch
from contrarec.cli.console import Device, Json, Output, Threads, output, table, use_threads
from contrarec.cli.inputs import load_data
from contrarec.errors import ConfigError

if TYPE_CHECKING:
    from contrarec.comparison import Comparison
    from contrarec.data.dataset import Dataset
    from contrarec.data.synthetic import World

METHODS = ("infonce", "advinfonce")
BACKBONES = ("mf", "lightgcn")
SETTINGS = {
    "tau": 0.5,
    "lr": 1e-2,
    "n_neg": 32,
    "batch_size": 1024,
    "epochs": 30,
    "patience": 2,
    "advinfonce.adv_lr": 1e-3,
}
"""Chosen on the validation set of another world (seed 1), without a look at the test sets."""

N_RECOMMENDED = 8


def demo(
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the world and the runs; runs/demo-SEED else."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Base of all randomness.")] = 0,
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
) -> None:
    """Generate a world, train, evaluate in and out of distribution, recommend.

    In the world it is known what every user likes, and the log shows popular items more often.
    InfoNCE and AdvInfoNCE are trained on MF and LightGCN; the test sets are from the log (id), from
    a milder popularity (shifted), and from uniform exposure (uniform). Called again, it goes on
    where it was stopped, and shows what it found.
    """
    started = time.perf_counter()
    with output(as_json) as console:
        from contrarec.comparison import compare
        from contrarec.data.synthetic import synthesize

        folder = out or Path("runs") / f"demo-{seed}"
        use_threads(threads)
        world = synthesize(seed=seed)
        data = _saved(world, folder / "world")
        comparison = compare(
            data,
            METHODS,
            BACKBONES,
            (seed,),
            out=folder,
            overrides=SETTINGS,
            device=device,
            watch=partial(watch, console),
        )
        comparison.save(folder)
        best, recommended = _recommend(console, world, comparison, folder, device)
        result = {
            "out": folder,
            "world": data.describe()["parts"],
            "runs": {path.name: path for path in _run_folders(comparison, folder)},
            "metrics": {
                f"{row.backbone}-{row.method}": {
                    test: {metric: values[0] for metric, values in metrics.items()}
                    for test, metrics in row.values.items()
                }
                for row in comparison.rows
            },
            "recommended_by": best,
            "recommendations": recommended,
            "seconds": time.perf_counter() - started,
        }
        console.finish(result, lambda: _text(data, comparison, result))


def _saved(world: "World", path: Path) -> "Dataset":
    """Write the world as a folder of split files, unless it is there already, and read it."""
    if not path.exists():
        world.dataset.save(path)
    data = load_data(str(path))
    if data.fingerprint() != world.dataset.fingerprint():
        raise ConfigError(f"{path}: holds another world; choose another folder (--out).")
    return data


def _run_folders(comparison: "Comparison", folder: Path) -> list[Path]:
    from contrarec.comparison.run import run_folder

    return [
        run_folder(folder, row.backbone, row.method, comparison.seeds[0]) for row in comparison.rows
    ]


def _recommend(
    console: Output, world: "World", comparison: "Comparison", folder: Path, device: str
) -> tuple[str, list[dict[str, Any]]]:
    """Recommend for three users with the run that is best on the validation set."""
    from contrarec import runs
    from contrarec.recommender import Recommender

    def valid(path: Path) -> float:
        value: float = runs.read_result(path)["metrics"]["valid"][comparison.headline[0]]
        return value

    best = max(_run_folders(comparison, folder), key=valid)
    console.say(f"recommending with {best}, the best on the validation set.")
    n_users = world.dataset.n_users
    users = [0, n_users // 3, 2 * n_users // 3]
    rows = Recommender.load(best, device=device).recommend(users, k=N_RECOMMENDED).to_dicts()
    liked = world.preferred
    for row in rows:
        start, end = liked.indptr[row["user_id"]], liked.indptr[row["user_id"] + 1]
        row["liked"] = row["item_id"] in liked.indices[start:end]
    return best.name, rows


def _text(data: "Dataset", comparison: "Comparison", result: dict[str, Any]) -> str:
    from contrarec.comparison.layout import format_difference

    metrics = comparison.headline
    rows = [["backbone", "loss", *(f"{test} {name}" for test in data.tests for name in metrics)]]
    for row in comparison.rows:
        means = (row.summary(test, name)[0] for test in data.tests for name in metrics)
        rows.append([row.backbone, row.method, *means])  # type: ignore[list-item]
    differences = [
        f"  {c.backbone:8}  {c.test:7}  {c.metric} {format_difference(c.difference, c.low, c.high)}"
        for c in comparison.contrasts
        if c.against == METHODS[0]
    ]
    by_user: dict[int, list[str]] = {}
    for row in result["recommendations"]:
        mark = "*" if row["liked"] else ""
        by_user.setdefault(row["user_id"], []).append(f"{row['item_id']}{mark}")
    return "\n".join(
        [
            f"{data.n_users} users, {data.n_items} items, {data.train.nnz} training interactions.",
            "Test sets: id is from the log; shifted from a milder popularity; uniform from showing "
            "all items equally often.",
            "",
            table(rows),
            "",
            "AdvInfoNCE − InfoNCE, this one seed, 95 % interval over users:",
            *differences,
            "",
            f"Recommended by {result['recommended_by']} (* the user likes it and has not had it):",
            *(f"  user {user}: {', '.join(items)}" for user, items in by_user.items()),
            "",
            f"{result['seconds']:.0f} s. The world and the runs are in {result['out']}: "
            + ", ".join(result["runs"]),
            f"Go on with: contrarec evaluate {result['out'] / result['recommended_by']}",
        ]
    )
