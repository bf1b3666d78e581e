"""How long a whole command takes, from the start of Python to its end."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import contrarec as cr
from benchmarks.record import Row, ensure, single
from benchmarks.worlds import histories
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary

_SCRIPT = "import sys; from contrarec.cli import main; sys.exit(main())"  # what pip installs


def rows(
    *, short: bool, n_users: int = 20_000, n_items: int = 5_000, n_interactions: int = 500_000
) -> Iterator[Row]:
    """Yield the time of `--help` and of recommendations for one user, each in a new process.

    Args:
        short: fewer repeats.
        n_users: of the generated log that the run is trained on, for an epoch.
        n_items: likewise.
        n_interactions: likewise.
    """
    repeats = 5 if short else 7
    ensure("recommend" in _run("--help"), "the help does not name the commands")
    yield {"what": "startup: contrarec --help", "shape": "whole process"} | single(
        lambda: _run("--help"), repeats
    )
    log = _log(n_users, n_items, n_interactions)
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        recommender = cr.Recommender("mf", "infonce", epochs=1, device="cpu").fit(log, out=run)
        user = str(log.users.ids[0])
        words = ("recommend", str(run), "--users", user, "--k", "20", "--device", "cpu", "--out")
        out = Path(folder) / "top.csv"
        _run(*words, str(out))
        want = recommender.recommend([user], k=20)["item_id"].cast(str).to_list()
        got = [line.split(",")[1] for line in out.read_text(encoding="utf-8").splitlines()[1:]]
        ensure(got == want, f"other items were recommended: {got}, not {want}")
        yield {
            "what": "startup: contrarec recommend",
            "shape": f"one user, mf, {n_users:,} users × {n_items:,} items",
        } | single(lambda: _run(*words, str(out)), repeats)


def _log(n_users: int, n_items: int, n_interactions: int) -> cr.Dataset:
    indptr, indices = histories(n_users, n_items, n_interactions)
    ids = {"users": Vocabulary.of(range(n_users)), "items": Vocabulary.of(range(n_items))}
    return cr.Dataset.from_parts(train=Interactions(indptr=indptr, indices=indices, **ids))


def _run(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, *words], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout
