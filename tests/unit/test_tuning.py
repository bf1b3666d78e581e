"""Tuning: the spaces, the search and its resumption, and that no test set is looked at."""

import os
import pickle
import shutil
import signal
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import optuna
import polars as pl
import pytest

from contrarec.comparison import compare
from contrarec.data.dataset import Dataset
from contrarec.errors import BackendError, ConfigError, DataError
from contrarec.losses import LOSSES
from contrarec.methods import method_table
from contrarec.recommender import Recommender
from contrarec.settings import resolve_settings
from contrarec.training import team
from contrarec.training.loop import Hooks
from contrarec.tuning import Finding, Range, Trial, search_space, tune
from contrarec.tuning.spaces import _FILE, Choice, Space
from contrarec.tuning.study import open_storage, search

FAST = {
    "epochs": 4, "eval_every": 1, "batch_size": 64, "dim": 8, "n_neg": 4,
    # of 21 items, so that few trials are equally good
    "ks": (5,), "monitor": "recall@5",
}  # fmt: skip
SPACES = tomllib.loads(_FILE.read_text(encoding="utf-8"))


# spaces ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", method_table())
def test_every_value_of_a_space_is_accepted(loss: str) -> None:
    space = search_space(loss)
    assert ({"training.lr", "training.l2"} <= set(space)) == (loss in LOSSES)
    for key, part in space.items():
        values = part.values if isinstance(part, Choice) else (part.low, part.high)
        for value in values:
            settings = resolve_settings(loss=loss, overrides={key: value}).to_mapping()
            section, _, name = key.partition(".")
            assert settings[section][name] == value
            assert value in part


def test_no_range_is_without_a_loss() -> None:
    known = {field.name for spec in LOSSES.values() for field in fields(spec.config)}
    assert set(SPACES["loss"]) <= known
    for row in SPACES["row"]:
        assert any(fnmatchcase(name, row["for_loss"]) for name in method_table()), row
        assert set(row) <= {"for_loss", "loss", "training"}


def test_a_loss_has_the_shared_ranges_that_it_has_settings_for_and_its_own() -> None:
    shared = {"training.lr", "training.l2"}
    assert set(search_space("bpr")) == shared
    assert set(search_space("infonce")) == shared | {"loss.tau"}
    assert set(search_space("infonce-popularity")) == shared | {"loss.tau", "loss.alpha"}
    closed = search_space("advinfonce-closed")
    assert closed["loss.k_neg"] == Choice(values=(1.0, 64.0))
    assert closed["loss.eta"] == Range(low=0.01, high=0.5, log=True)
    assert "loss.adv_lr" not in closed  # it has no adversary to train


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"low": 1, "high": 1}, "`high` must be above `low` = 1, got 1"),
        ({"low": 0, "high": 1, "log": True}, "`low` must be positive on a log scale, got 0"),
        ({"low": "a", "high": 1}, "`low` must be an integer or a number"),
    ],
)
def test_a_range_that_is_none(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Range(**values)


# the search --------------------------------------------------------------------------------------

SPACE: Space = {
    "x": Range(low=0.0, high=1.0),
    "n": Range(low=1, high=9),
    "c": Choice(values=(2, 3)),
}


def bowl(trial: Any, values: dict[str, Any]) -> float:  # noqa: ARG001
    return -((values["x"] - 0.3) ** 2) - values["n"]


def run(path: Path, n_trials: int, objective: Any = bowl, **changes: Any) -> list[Any]:
    arguments = {"identity": {"data": "d"}, "start": {}, "seed": 0, "warm_up": 2} | changes
    with open_storage(path) as storage:
        return search(storage, "mf-toy", SPACE, objective, n_trials=n_trials, **arguments)


def course(trials: list[Any]) -> list[Any]:
    return [(t.number, t.state.name, t.params, t.value, t.intermediate_values) for t in trials]


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return course(run(tmp_path_factory.mktemp("study") / "a.db", 12))


def test_the_seed_decides_and_after_five_trials_what_was_found(
    tmp_path: Path, twelve: list[Any]
) -> None:
    assert course(run(tmp_path / "a.db", 12)) == twelve
    assert course(run(tmp_path / "b.db", 3, seed=1))[0][2] != twelve[0][2]
    hill = run(tmp_path / "c.db", 12, lambda trial, values: -bowl(trial, values))
    same = [t[2] == twelve[t[0]][2] for t in course(hill)]
    assert same == [True] * 5 + [False] * 7
    assert len({t[2]["x"] for t in twelve}) == 12


def test_a_finished_search_is_not_exceeded_and_a_longer_one_goes_on(
    tmp_path: Path, twelve: list[Any]
) -> None:
    def never(*_: object) -> float:
        raise AssertionError("a finished search was run again")

    assert course(run(tmp_path / "a.db", 7)) == twelve[:7]
    assert course(run(tmp_path / "a.db", 7, never)) == twelve[:7]
    assert course(run(tmp_path / "a.db", 12)) == twelve


def test_a_trial_that_was_interrupted_is_run_again(tmp_path: Path, twelve: list[Any]) -> None:
    seen: list[float] = []

    def killed(trial: Any, values: dict[str, Any]) -> float:
        seen.append(values["x"])
        if len(seen) == 7:
            raise SystemExit
        return bowl(trial, values)

    with pytest.raises(SystemExit):
        run(tmp_path / "a.db", 12, killed)
    again: list[float] = []

    def watched(trial: Any, values: dict[str, Any]) -> float:
        again.append(values["x"])
        return bowl(trial, values)

    assert course(run(tmp_path / "a.db", 12, watched)) == twelve
    assert again == [t[2]["x"] for t in twelve[6:]]  # the seventh with the values that it had
    assert seen[6] == again[0]


def test_the_first_trial_starts_from_what_is_given(tmp_path: Path) -> None:
    first, second = run(tmp_path / "a.db", 2, start={"x": 0.25, "c": 3})
    assert (first.params["x"], first.params["c"]) == (0.25, 3)
    assert second.params["x"] != 0.25
    further = run(tmp_path / "a.db", 5, start={"x": 0.25, "c": 3})  # which is not the start again
    assert course(further) == course(run(tmp_path / "b.db", 5, start={"x": 0.25, "c": 3}))
    assert [t.params["x"] == 0.25 for t in further] == [True] + [False] * 4


def test_a_trial_below_the_median_is_given_up_after_the_warm_up(tmp_path: Path) -> None:
    def objective(trial: Any, values: dict[str, Any]) -> float:  # noqa: ARG001
        level = 0.1 if trial.number in (1, 6, 7) else 0.5
        for epoch in (1, 2, 3, 4):
            value = 0.9 if (trial.number, epoch) == (7, 1) else level
            trial.report(value, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned
        return level

    trials = run(tmp_path / "a.db", 8, objective, warm_up=3)
    # five trials end first, whatever they are worth; then the sixth is no better and no worse
    assert [t.state.name for t in trials] == ["COMPLETE"] * 6 + ["PRUNED", "COMPLETE"]
    assert list(trials[6].intermediate_values) == [1, 2, 3]  # not before the third epoch
    # the eighth has been better than the others once, and is kept


def test_a_failed_trial_counts(tmp_path: Path) -> None:
    def objective(trial: Any, values: dict[str, Any]) -> float:
        if trial.number < 2:
            raise ConfigError("the loss became nan.")
        return bowl(trial, values)

    ended: list[Any] = []
    trials = run(tmp_path / "a.db", 4, objective, on_trial=ended.append)
    assert [t.state.name for t in trials] == ["PRUNED", "PRUNED", "COMPLETE", "COMPLETE"]
    assert trials[1].user_attrs["error"] == "the loss became nan."
    assert [t.number for t in ended] == [0, 1, 2, 3]


def test_a_study_of_something_else_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "a.db", 1, identity={"data": "d", "settings": "s"})
    with pytest.raises(ConfigError, match="study 'mf-toy' was made with other settings; ask"):
        run(tmp_path / "a.db", 2, identity={"data": "d", "settings": "t"})


# tuning ------------------------------------------------------------------------------------------


def toy_data(test_shift: int = 0) -> Dataset:
    """24 users who like the items of their third; `test_shift` changes the test set alone."""
    rng = np.random.default_rng(0)
    pairs = [(u, i) for u in range(24) for i in range(21) if u % 3 == i % 3]
    frame = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    part = rng.integers(4, size=len(frame))
    test = frame.filter(part == 1).with_columns((pl.col("item_id") + test_shift) % 21)
    return Dataset.from_parts(
        train=frame.filter(part > 1), valid=frame.filter(part == 0), tests={"ood": test}, name="toy"
    )


def preset_of(folder: Path) -> dict[str, Any]:
    """The preset in a folder, without times."""
    preset = tomllib.loads((folder / "preset.toml").read_text(encoding="utf-8"))
    for row in preset["row"]:
        del row["tuned"]["seconds"]
    return preset


def trials_of(folder: Path) -> list[Any]:
    with open_storage(folder / "tuning.db") as storage:
        studies = optuna.get_all_study_names(storage)
        return [course(optuna.load_study(study_name=name, storage=storage).trials)
                for name in studies]  # fmt: skip


ARGUMENTS = {"trials": 4, "seed": 3, "overrides": FAST | {"infonce.n_neg": 6}}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tuned")
    found = tune(toy_data(), ["infonce", "bpr"], ["mf"], out=out, **ARGUMENTS)
    assert [(f.method, f.trials) for f in found.findings] == [("infonce", 4), ("bpr", 4)]
    return out


def test_the_preset_says_what_was_found_and_how(tuned: Path) -> None:
    preset = preset_of(tuned)
    assert preset["backbones"] == ["mf"]
    assert preset["source"] == (
        "contrarec tune toy --methods infonce,bpr --backbones mf --trials 4 --seed 3 "
        "--set epochs=4 --set eval_every=1 --set batch_size=64 --set dim=8 --set n_neg=4 "
        "--set ks=5 --set monitor=recall@5 --set infonce.n_neg=6"
    )
    assert preset["tuned"]["fingerprint"] == toy_data().fingerprint()
    assert (preset["tuned"]["monitor"], preset["tuned"]["seed"]) == ("recall@5", 3)
    assert set(preset["tuned"]["versions"]) >= {"contrarec", "optuna", "torch"}
    studies = dict(zip(("infonce", "bpr"), trials_of(tuned), strict=True))
    for row in preset["row"]:
        trials = studies[row["for_loss"]]
        best = max(trials, key=lambda trial: trial[3] or 0)
        assert len({trial[3] for trial in trials}) > 1  # otherwise any would be the best
        assert row["for_backbone"] == "mf"
        assert (row["tuned"]["trial"], row["tuned"]["valid"]) == (best[0], best[3])
        assert best[3] == max(best[4].values())  # of the best epoch, not of the last
        assert row["training"]["lr"] == best[2]["training.lr"]
        assert row["training"]["n_neg"] == (6 if row["for_loss"] == "infonce" else 4)
        assert row["backbone"] == {"dim": 8}
    assert preset["row"][0]["loss"] == {
        "tau": studies["infonce"][preset["row"][0]["tuned"]["trial"]][2]["loss.tau"]
    }
    assert "loss" not in preset["row"][1]
    # the first trial is what would be without tuning
    assert studies["bpr"][0][2] == {"training.lr": 1e-3, "training.l2": 1e-5}


def test_the_preset_trains_to_the_same_value_and_serves_a_comparison(
    tuned: Path, tmp_path: Path
) -> None:
    path, data = tuned / "preset.toml", toy_data()
    compare(data, ["infonce", "bpr"], ["mf"], [3], out=tmp_path, preset=path)
    for row in preset_of(tuned)["row"]:
        run = Recommender.load(tmp_path / f"mf-{row['for_loss']}-3")
        assert run.result["metrics"]["valid"]["recall@5"] == row["tuned"]["valid"]
        assert run.result["best_epoch"] == row["tuned"]["best_epoch"]


def test_no_test_set_is_looked_at(tuned: Path, tmp_path: Path, monkeypatch: Any) -> None:
    looked: set[str] = set()
    evaluate, fit = team.evaluate, Recommender.fit

    def watched(scorer: Any, test: Any, **more: Any) -> Any:
        looked.add(test.name)
        return evaluate(scorer, test, **more)

    def without_tests(self: Recommender, data: Dataset, **more: Any) -> Recommender:
        assert data.tests == {}
        fit(self, data, **more)
        assert set(self.result["metrics"]) == {"valid"}
        return self

    monkeypatch.setattr(team, "evaluate", watched)
    monkeypatch.setattr(Recommender, "fit", without_tests)
    other = toy_data(test_shift=1)
    tune(other, ["infonce", "bpr"], ["mf"], out=tmp_path, **ARGUMENTS)
    assert looked == {"valid"}
    assert trials_of(tmp_path) == trials_of(tuned)  # and so other test sets change nothing
    assert preset_of(tmp_path) == preset_of(tuned)
    assert b"ood" not in (tmp_path / "tuning.db").read_bytes()


@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_a_search_stopped_within_a_trial_goes_on_as_if_it_had_not(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    fit, calls = Recommender.fit, list[int]()

    def stopped(self: Recommender, data: Dataset, *, hooks: Hooks, **more: Any) -> Recommender:
        calls.append(0)

        def on_step(epoch: int, *_: object) -> None:
            if len(calls) == 6 and epoch == 2:  # the second trial of the second method
                if how == "kill":
                    raise SystemExit
                os.kill(os.getpid(), signal.SIGINT)

        return fit(self, data, hooks=Hooks(on_step=on_step, on_eval=hooks.on_eval), **more)

    arguments = (toy_data(), ["infonce", "bpr"], ["mf"])
    monkeypatch.setattr(Recommender, "fit", stopped)
    with pytest.raises(KeyboardInterrupt if how == "ctrl-c" else SystemExit):
        tune(*arguments, out=tmp_path, **ARGUMENTS)
    through = preset_of(tmp_path)["row"]  # what is through can be used
    assert through == preset_of(tuned)["row"][:1]
    _, unfinished = trials_of(tmp_path)
    assert [trial[1] for trial in unfinished] == ["COMPLETE", "RUNNING"]
    assert list(unfinished[1][4]) == [1, 2]  # two epochs had been measured

    monkeypatch.setattr(Recommender, "fit", fit)
    told: list[Trial] = []
    tune(*arguments, out=tmp_path, on_trial=told.append, **ARGUMENTS)
    assert [(t.method, t.number, t.total) for t in told] == [("bpr", n, 4) for n in (2, 3, 4)]
    assert trials_of(tmp_path) == trials_of(tuned)
    assert preset_of(tmp_path) == preset_of(tuned)


def test_what_is_set_is_not_searched(tmp_path: Path) -> None:
    overrides = FAST | {"lr": 0.02, "infonce.tau": 0.5}
    found = tune(toy_data(), ["infonce", "bpr"], trials=1, out=tmp_path, overrides=overrides)
    infonce, bpr = found.findings
    assert set(infonce.values) == set(bpr.values) == {"training.l2"}
    assert (infonce.settings.loss.tau, bpr.settings.training.lr) == (0.5, 0.02)
    with pytest.raises(ConfigError, match=r"'mf-infonce' was made with other settings"):
        tune(toy_data(), ["infonce"], trials=1, out=tmp_path, overrides=FAST | {"tau": 0.5})


def test_a_trial_is_worth_its_best_epoch(tmp_path: Path) -> None:
    overrides = FAST | {"epochs": 8, "lr": 0.5}
    found = tune(toy_data(), ["bpr"], trials=1, seed=3, out=tmp_path, overrides=overrides)
    ((trial,),) = trials_of(tmp_path)
    course = trial[4]
    assert max(course.values()) > course[8]  # so large a step overshoots
    assert found.findings[0].valid == trial[3] == max(course.values())
    assert course[found.findings[0].best_epoch] == trial[3]


def test_other_data_are_refused_and_fewer_trials_are_the_first_of_many(
    tuned: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tuned, copy)
    data = toy_data()
    other = replace(data, valid=replace(data.tests["ood"], name="valid"))
    assert other.fingerprint() == data.fingerprint()
    with pytest.raises(ConfigError, match=r"copy: its study 'mf-infonce' was made with other data"):
        tune(other, ["infonce"], out=copy, **ARGUMENTS)
    found = tune(data, ["infonce"], out=copy, **ARGUMENTS | {"trials": 2})
    assert found.findings[0].trials == 2
    first = trials_of(copy)[0][:2]
    assert found.findings[0].valid == max(trial[3] for trial in first)


def test_a_pruned_trial_is_counted_and_no_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(data: Any, settings: Any, trial: Any, device: str) -> float:  # noqa: ARG001
        trial.set_user_attr("seconds", 1.0)
        trial.set_user_attr("best_epoch", 1)
        if trial.number == 1:
            trial.report(0.9, 1)
            raise optuna.TrialPruned
        return 0.1

    monkeypatch.setattr("contrarec.tuning.trials.train_trial", train)
    found = tune(toy_data(), ["bpr"], trials=3, out=tmp_path, overrides=FAST).findings[0]
    assert (found.trial, found.valid, found.trials, found.pruned) == (0, 0.1, 3, 1)


def test_a_search_with_choices_goes_on(tmp_path: Path) -> None:
    assert any(isinstance(part, Choice) for part in search_space("advinfonce-closed").values())
    for trials in (1, 2):
        found = tune(toy_data(), ["advinfonce-closed"], trials=trials, out=tmp_path, overrides=FAST)
        assert found.findings[0].trials == trials


def test_a_row_has_what_was_searched_and_what_is_no_default() -> None:
    settings = resolve_settings(loss="infonce-kneg", overrides={"epochs": 7, "tau": 0.1})
    finding = Finding(
        backbone="mf", method="infonce-kneg", trial=1, valid=0.5, best_epoch=3, trials=4, pruned=1,
        seconds=2.0, values={"training.lr": 1e-3, "loss.tau": 0.1}, settings=settings,
    )  # fmt: skip
    row = finding.row()
    assert row["training"] == {"lr": 1e-3, "epochs": 7}  # lr is the default, but was chosen
    assert row["loss"] == {"tau": 0.1}  # k_neg = 64 is what the name stands for
    assert "backbone" not in row


def test_a_method_whose_trials_all_fail_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    overrides = FAST | {"bpr.lr": 1e30}
    with pytest.raises(ConfigError, match="mf bpr: no trial came to its end; the loss became"):
        tune(toy_data(), ["bpr", "infonce"], trials=2, out=tmp_path, overrides=overrides)
    assert [row["for_loss"] for row in preset_of(tmp_path)["row"]] == ["infonce"]


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data: Callable[..., Dataset] = toy_data
    bare = Dataset(name="bare", train=data().train, tests=data().tests)
    with pytest.raises(DataError, match="bare: nothing to tune on"):
        tune(bare, ["bpr"], out=tmp_path / "new")
    with pytest.raises(ConfigError, match="`trials` must be at least 1, got 0"):
        tune(data(), ["bpr"], trials=0, out=tmp_path / "new")
    with pytest.raises(ConfigError, match="did you mean 'infonce'"):
        tune(data(), ["infonse"], out=tmp_path / "new")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BackendError, match=r"pip install 'contrarec\[tune\]'"):
        tune(data(), ["bpr"], out=tmp_path / "new")
    assert not (tmp_path / "new").exists()


class InThisProcess:
    """Tasks that are done when they are asked for, in the place of a cluster's."""

    def __init__(self) -> None:
        self._one_at_a_time = Lock()

    def start(self, function: Any, *arguments: Any) -> Any:
        with self._one_at_a_time:
            return partial(lambda value: value, function(*arguments))

    def result(self, reference: Any) -> Any:
        return reference()

    def stop(self, running: list[Any], *, force: bool) -> None:
        assert (running, force) == ([], True)


def test_a_crew_elsewhere_finds_the_same(tmp_path: Path) -> None:
    """Trials given up, a failed one and one that was interrupted among them."""
    from contrarec.distributed.searching import SearchCrew

    @contextmanager
    def crew(data: Dataset) -> Iterator[SearchCrew]:
        yield SearchCrew(InThisProcess(), 2, pickle.dumps(data), "cpu")  # type: ignore[arg-type]

    fast = FAST | {"eval_every": 1, "epochs": 14, "patience": 30}
    more = {"trials": 8, "seed": 3, "overrides": fast}
    tune(toy_data(), ["infonce", "bpr"], out=tmp_path / "alone", **more)
    tune(toy_data(), ["infonce", "bpr"], out=tmp_path / "crew", **more, crew=crew)
    alone, found = (sorted(trials_of(tmp_path / name), key=str) for name in ("alone", "crew"))
    assert found == alone
    assert {trial[1] for study in alone for trial in study} == {"COMPLETE", "PRUNED"}
    assert preset_of(tmp_path / "crew") == preset_of(tmp_path / "alone")
