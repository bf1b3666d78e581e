"""The comparison with other libraries: the race, the clock and the tables. No peer is needed."""

import json
import sys
import tomllib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import contrarec as cr
from contrarec.errors import DataError

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "peers"
MODULES = ("install", "race", "run", "summary", "turns")


def load(name: str) -> ModuleType:
    return __import__(name)


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The scripts import each other by short names, which must not stay behind."""
    monkeypatch.syspath_prepend(FOLDER / "runners")
    monkeypatch.syspath_prepend(FOLDER)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


# a runner on a clock of its own: an epoch takes `seconds`, writing vectors takes 100; its options
# say what it is worth after each epoch
FAKE = """
from types import SimpleNamespace
import numpy as np
import turns

now = 0.0
turns.time = SimpleNamespace(perf_counter=lambda: now)
ours = turns.Turns()
job = ours.job
print("a library's own chatter")
ours.begin(version="1.0", negatives=3)
epoch = 0
worth = job.options["worth"]


def vectors():
    global now
    now += 100
    return np.full((job.n_users, 1), worth[min(epoch, len(worth)) - 1]), np.ones((job.n_items, 1))


while True:
    epoch += 1
    now += job.options["seconds"]
    if epoch == job.options.get("breaks"):
        raise RuntimeError("out of luck")
    score = worth[min(epoch, len(worth)) - 1] + job.options.get("off", 0.0)
    ours.trained(vectors, lambda user: np.full(job.n_items, score))
"""


class Track:
    """A place where fake runners race."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.race, self.now = folder, load("race"), 0.0
        self.race.time = SimpleNamespace(perf_counter=lambda: self.now)
        (folder / "fake.py").write_text(FAKE, encoding="utf-8")
        np.savez(folder / "log.npz", indptr=[0, 1, 3], indices=[0, 1, 2], n_items=4)
        self.measured: list[tuple[float, bool]] = []

    def entrant(self, every: int = 1, seconds: float = 0.0, **options: Any) -> Any:
        folder = self.folder / f"runner-{len(list(self.folder.glob('runner-*')))}"
        folder.mkdir()
        job = {
            "model": "fake", "options": options | {"seconds": seconds}, "dim": 1, "seed": 0,
            "threads": 1, "every": every, "preset": None, "folder": str(folder),
        }  # fmt: skip
        script, log = str(self.folder / "fake.py"), str(self.folder / "log.npz")
        command = [sys.executable, script, log, json.dumps(job)]
        variables = {"PYTHONPATH": str(FOLDER / "runners")}
        return self.race.Entrant(
            name=("fake", "fake"),
            setting=options,
            start=lambda: self.race.Runner(command, variables, folder / "log.txt"),
            measure=lambda *asked: self.measure(*asked, takes=every * seconds),
        )

    def run(self, entries: Any, **limits: float) -> Iterator[Any]:
        return self.race.race(entries, **{"trial": 0, "budget": 60, "total": 60} | limits)

    def measure(self, vectors: Path, on_test: bool, takes: float) -> float:
        self.now += 0 if on_test else takes
        with np.load(vectors) as arrays:
            value = float(arrays["users"][0, 0])
        self.measured.append((value, on_test))
        return value + (10 if on_test else 0)


@pytest.fixture
def track(tmp_path: Path) -> Track:
    return Track(tmp_path)


def values(entrant: Any) -> list[float]:
    return [round(point["valid"], 6) for point in entrant.points]


def test_patience_counts_evaluations_since_the_first_best(track: Track) -> None:
    only = track.entrant(worth=[0.1, 0.3, 0.2, 0.3, 0.1])
    ended = list(track.run([[only]], patience=3))
    assert ended == [only]
    assert values(only) == pytest.approx([0.1, 0.3, 0.2, 0.3, 0.1])  # 3 after the one in place 2
    assert only.ended == "patience"
    assert only.hello == {"version": "1.0", "negatives": 3}
    # the test set is looked at where validation improves, and nowhere else
    assert [round(p["test"], 6) if p["test"] else None for p in only.points] == [
        10.1, 10.3, None, None, None,
    ]  # fmt: skip


def test_budget_ends_a_run_and_the_seconds_are_of_training_alone(track: Track) -> None:
    only = track.entrant(worth=list(range(99)), seconds=0.5, every=4)
    list(track.run([[only]], budget=6, patience=9))
    assert only.ended == "budget"
    assert only.spent == 6
    points = [(point["epoch"], point["seconds"]) for point in only.points]
    assert points == [(4, 2.0), (8, 4.0), (12, 6.0)]  # and none of the 100 s for vectors


def test_the_better_setting_goes_on_after_the_trial(track: Track) -> None:
    fast, slow = track.entrant(worth=[0.2, 0.4, 0.4]), track.entrant(worth=[0.3])
    ended = list(track.run([[fast, slow]], patience=2))
    # a trial of no seconds is one turn: .2 against .3
    assert [entrant.ended for entrant in ended] == ["trial", "patience"]
    assert ended == [fast, slow]
    assert (values(fast), len(values(slow))) == ([0.2], 3)


def test_equal_settings_keep_the_first(track: Track) -> None:
    first, second = track.entrant(worth=[0.2]), track.entrant(worth=[0.2])
    ended = list(track.run([[first, second]], patience=1))
    assert ended == [second, first]


def test_a_trial_lasts_as_long_as_it_is_told(track: Track) -> None:
    both = [track.entrant(worth=list(range(99)), seconds=1) for _ in range(2)]
    list(track.run([both], trial=4, budget=6, patience=9))
    assert [entrant.ended for entrant in both] == ["budget", "trial"]
    assert [len(entrant.points) for entrant in both] == [6, 4]


def test_the_turn_goes_to_whoever_has_had_the_least_time(track: Track) -> None:
    worth = list(range(99))
    quick, slow = track.entrant(worth=worth, seconds=1), track.entrant(worth=worth, seconds=4)
    ended = list(track.run([[quick], [slow]], total=24, patience=9))
    assert {entrant.ended for entrant in ended} == {"total"}
    assert [len(entrant.points) for entrant in (quick, slow)] == [12, 3]


def test_a_runner_that_fails_is_told_of_and_the_others_go_on(track: Track) -> None:
    broken, sound = track.entrant(worth=[0.9], breaks=1), track.entrant(worth=[0.1])
    other = track.entrant(worth=[0.1], breaks=2)
    ended = list(track.run([[broken, sound], [other]], patience=1))
    assert broken.ended == "trial, failed: RuntimeError: out of luck"
    assert sound.ended == "patience"
    assert other.ended == "failed: RuntimeError: out of luck"
    assert (values(other), set(ended)) == ([0.1], {broken, sound, other})


def test_vectors_that_diverged_are_a_failure(track: Track) -> None:
    only = track.entrant(worth=[0.1])

    def diverged(*_: Any) -> float:
        raise DataError("scores must not be NaN")

    only.measure = diverged
    list(track.run([[only]], patience=1))
    assert only.ended == "failed: scores must not be NaN"


def test_vectors_must_give_the_librarys_own_scores(track: Track) -> None:
    wrong = track.entrant(worth=[0.1], off=0.01)
    list(track.run([[wrong]], patience=1))
    assert wrong.ended.startswith("failed: ValueError: the vectors do not give the library's scor")


def test_nobody_is_left_running_when_the_race_is_broken_off(track: Track) -> None:
    a, b = track.entrant(worth=[0.1]), track.entrant(worth=list(range(99)))
    going = track.run([[a], [b]], patience=1)
    assert next(going) is a
    process = b._runner._process
    going.close()
    assert process.poll() is not None
    assert b.ended == "interrupted"


# --- the tables


def rows(model: str, points: list[tuple[int, float, float, str]], **more: str) -> list[Any]:
    about = {
        "started": "2026-01-01T10:00:00", "commit": "abc", "machine": "m", "threads": "2",
        "data": "toy", "interactions": "1000", "library": "lib", "version": "1", "model": model,
        "setting": "default", "negatives": "3", "ended": "",
    } | more  # fmt: skip
    out = [
        about | {"epoch": str(n), "seconds": str(s), "valid_ndcg20": str(v), "test_ndcg20": t}
        for n, s, v, t in points
    ]
    out[-1] |= {"ended": more.get("ended", "patience")}
    return out


def test_a_run_is_summed_up() -> None:
    summary = load("summary")
    # stretches of 2 epochs: 5, .5, 1 and 3 s an epoch; the first has what happens once
    points = [(2, 10.0, 0.1, ".01"), (4, 11.0, 0.3, ".03"), (6, 13.0, 0.3, ""), (8, 19.0, 0.2, "")]
    (run,) = summary.read_runs(rows("a", points))
    assert run.epoch_seconds == pytest.approx(1.0)
    assert run.pairs_per_second == pytest.approx(1000 * 4 / 1.0)
    assert (run.best.epoch, run.best.test) == (4, 0.03)
    assert run.reaches(0.3).seconds == 11.0
    assert run.reaches(0.1).epoch == 2
    assert run.reaches(0.31) is None
    (short,) = summary.read_runs(rows("a", points[:1]))
    assert short.epoch_seconds == pytest.approx(5.0)
    (others,) = summary.read_runs(rows("a", points, negatives="all"))
    assert others.pairs_per_second is None


def test_of_an_entry_that_ran_again_the_last_time_counts() -> None:
    summary = load("summary")
    old = rows("a", [(1, 1.0, 0.9, ".9")]) + rows("b", [(1, 1.0, 0.5, ".5")])
    new = rows("a", [(1, 1.0, 0.2, ".2")], started="2026-01-02T10:00:00")
    found = {run.model: run.best.valid for run in summary.read_runs(old + new)}
    assert found == {"a": 0.2, "b": 0.5}


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]


def test_the_page_is_worked_out_from_the_rows() -> None:
    summary = load("summary")
    made = summary.page(
        rows("old", [(1, 1.0, 0.99, ".1")], commit="before")
        + rows("quick", [(1, 1.0, 0.37, ".1"), (2, 2.0, 0.395, ".2")])
        + rows("quick", [(1, 0.5, 0.1, ".1")], setting="lr=1", ended="trial")
        + rows("later", [(4, 40.0, 0.4, ".1")], library="contrarec")
        + rows("late", [(4, 8.0, 0.37, ".3"), (8, 16.0, 0.4, ".4")], library="contrarec")
    )
    # levels .32, .36, .38 and .396 of the best, .4
    assert "80% = .3200, 90% = .3600, 95% = .3800, 99% = .3960" in made
    assert "before" not in made
    quick = ["lib 1", "quick", "default", "3", "1", "0.004", ".3950", ".2000", "1", "1", "2", "–"]
    late = ["contrarec 1", "late", "default", "3", "2", "0.002", ".4000", ".4000"]
    assert [*quick, "2", "patience"] in cells(made)
    assert [*late, "8", "8", "16", "16", "8", "patience"] in cells(made)
    assert ["lib", "quick", "lr=1", "1", "0.5", ".1000", "trial"] in cells(made)
    # to 95 %: 16 s and 8 epochs against 2 s and 2 epochs
    assert (
        "- 95%: lib quick in 2 s (2 epochs); the fastest of ours, contrarec late in 16 s "
        "(8 epochs): 8 × faster, 4 × in epochs and 2 × in seconds an epoch."
    ) in made
    assert "- 99%" not in made  # only ours gets there


def test_what_ours_never_reaches_is_said() -> None:
    summary = load("summary")
    all_rows = rows("good", [(1, 3.0, 0.5, ".1")]) + rows(
        "bad", [(1, 1.0, 0.1, ".1")], library="contrarec"
    )
    made = summary.page(all_rows)
    assert "- 80%: lib good in 3 s (1 epochs); no entry of ours reaches it." in made
    ours = summary.page(rows("good", [(1, 3.0, 0.5, ".1")], library="contrarec"))
    assert "No peer reaches any of the levels before the fastest of ours." in ours


def test_a_run_without_a_point_has_its_line() -> None:
    summary = load("summary")
    failed = rows("broken", [(0, 0, 0, "")], ended="failed: no such thing")
    failed[0] |= {"epoch": "", "seconds": "", "valid_ndcg20": "", "version": ""}
    made = summary.page(failed + rows("fine", [(1, 1.0, 0.2, ".1")]))
    (line,) = [line for line in cells(made) if "broken" in line]
    assert (line[4:13], line[13]) == (["–"] * 9, "failed: no such thing")
    assert summary.page(failed) == "Nothing has been measured yet."


# --- the driver


def test_entries_that_have_been_measured_are_not_chosen(tmp_path: Path) -> None:
    run = load("run")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "complete").touch()
    entries = [
        {"library": "there", "model": "a"},
        {"library": "there", "model": "b"},
        {"library": "missing", "model": "a"},
        {"library": "guest", "environment": "there", "model": "a"},
        {"library": "contrarec", "model": "mf bpr"},
    ]

    def names(again: bool = False, only: str | None = None) -> list[str]:
        options = Namespace(environments=tmp_path, only=only, again=again)
        chosen = run.wanted(entries, {("there", "a")}, options)
        return [f"{entry['library']} {entry['model']}" for entry in chosen]

    assert names() == ["there b", "guest a", "contrarec mf bpr"]
    assert names(again=True) == ["there a", "there b", "guest a", "contrarec mf bpr"]
    assert names(only="contrarec,there b") == ["there b", "contrarec mf bpr"]


def test_rows_are_appended_and_read_back(track: Track, tmp_path: Path) -> None:
    run, summary = load("run"), load("summary")
    only = track.entrant(worth=[0.1, 0.3, 0.2], every=2)
    list(track.run([[only]], patience=1))
    session = dict.fromkeys(summary.SESSION, "x") | {"started": "now", "interactions": 3}
    path = tmp_path / "results.csv"
    for _ in range(2):
        run.append_rows(path, run.rows_of(only, session))
    found = run.read_rows(path)
    assert list(found[0]) == summary.COLUMNS
    assert len(found) == 4
    assert [row["ended"] for row in found] == ["", "patience"] * 2
    (one,) = summary.read_runs(found[:2])
    assert [(point.epoch, point.valid, point.test) for point in one.points] == [
        (2, 0.3, 10.3), (4, 0.2, None),
    ]  # fmt: skip
    assert one.points[1].seconds == pytest.approx(only.points[1]["seconds"], abs=1e-4)
    never = track.entrant(worth=[0.1], breaks=1)
    list(track.run([[never]], patience=1))
    (row,) = run.rows_of(never, session)
    assert row["ended"] == "failed: RuntimeError: out of luck"
    assert "epoch" not in row


def test_vectors_are_judged_by_the_data_sets_own_protocol(tmp_path: Path) -> None:
    run = load("run")
    data = cr.Dataset.from_parts(
        train=_frame([0, 1], [0, 1]),
        valid=_frame([0, 1], [1, 2]),
        tests={"later": _frame([0], [2])},
        name="toy",
    )
    # user 0 ranks 0, 1, 2 and user 1 ranks 2, 1, 0
    np.savez(
        tmp_path / "v.npz",
        users=np.array([[1.0], [-1.0]], np.float32),
        items=np.array([[3.0], [2.0], [1.0]], np.float32),
    )
    # the train item is masked: user 0 finds item 1 first; so does user 1 its item 2
    assert run.vectors_ndcg(data, tmp_path / "v.npz", False) == pytest.approx(1.0)
    # on test item 1 is masked for user 0, too, and item 2 is first
    assert run.vectors_ndcg(data, tmp_path / "v.npz", True) == pytest.approx(1.0)
    np.savez(
        tmp_path / "w.npz",
        users=np.array([[1.0], [1.0]], np.float32),
        items=np.array([[3.0], [2.0], [1.0]], np.float32),
    )
    # user 1 ranks 0, then 2: 1 / log2 3
    assert run.vectors_ndcg(data, tmp_path / "w.npz", False) == pytest.approx((1 + 0.63093) / 2)


def _frame(users: list[int], items: list[int]) -> Any:
    import polars as pl

    return pl.DataFrame({"user": users, "item": items})


def test_settings_are_written_flat() -> None:
    run = load("run")
    assert run.describe({}) == "default"
    assert run.describe({"lr": 0.1, "inner": {"n": 3, "m": 4}}) == "lr=0.1, n=3, m=4"


def test_the_table_of_entries_is_sound() -> None:
    about = tomllib.loads((FOLDER / "peers.toml").read_text(encoding="utf-8"))
    names = [(entry["library"], entry["model"]) for entry in about["entry"]]
    assert len(set(names)) == len(names)
    for entry in about["entry"]:
        assert (FOLDER / "runners" / f"on_{entry['library']}.py").exists()
        environment = entry.get("environment", entry["library"])
        assert environment == "contrarec" or environment in about["environment"]
        assert len(entry["settings"]) == 2  # the same for each
        assert entry["every"] >= 1


def test_the_committed_page_is_up_to_date() -> None:
    run, summary = load("run"), load("summary")
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    made = text.partition(run.START)[2].partition(run.END)[0].strip()
    assert made == summary.page(run.read_rows(FOLDER / "results.csv"))


def test_contrarecs_own_runner_races(tmp_path: Path) -> None:
    run, race = load("run"), load("race")
    board = np.argwhere(np.indices((12, 12)).sum(0) % 2)
    data = cr.Dataset.from_parts(
        train=_frame(*board[board[:, 0] != board[:, 1] - 1].T.tolist()),
        valid=_frame(*board[board[:, 0] == board[:, 1] - 1].T.tolist()),
        tests={"same": _frame(*board[board[:, 0] == board[:, 1] - 1].T.tolist())},
        name="board",
    )
    options = Namespace(environments=tmp_path, threads=1, seed=0)
    course = run.Course(data, {"environment": {}}, options)
    entry = {"library": "contrarec", "model": "mf infonce", "every": 5, "settings": [{"lr": 0.05}]}
    entries = [course.entrants(entry)]
    (only,) = list(race.race(entries, trial=0, budget=20, total=60, patience=2))
    assert only.ended == "patience"
    assert only.hello == {"version": cr.__version__, "negatives": 64}
    assert only.best > 0.9  # the held-out diagonal is the only item left of the user's colour
    course.clear()
    assert not list(tmp_path.iterdir())
