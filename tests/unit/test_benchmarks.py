"""Benchmarks: how they time, what they check before, and the file that keeps what they found."""

import csv
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import (
    epoch,
    evaluation,
    kernels,
    profile,
    quality,
    reading,
    record,
    run,
    sampler,
    serving,
    startup,
    threads,
    worlds,
)  # fmt: skip


class Clock:
    """A clock that functions can move."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def taking(self, *seconds: float) -> Callable[[], None]:
        """A function that takes so long, call after call."""
        left = iter(seconds)

        def function() -> None:
            self.now += next(left)

        return function


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(time, "perf_counter", made)
    return made


def full(**more: Any) -> record.Row:
    return record.environment(2) | {"what": "kernels: x", "shape": "3", "seconds": 0.5} | more


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


# timing


def test_a_pair_gives_medians_and_the_median_of_paired_ratios(clock: Clock) -> None:
    # the first call of each does not count; pairs (1, 8), (2, 4), (4, 12): ratios 8, 2, 3
    row = record.pair(clock.taking(99, 1, 2, 4), clock.taking(99, 8, 4, 12), 3)
    assert row == {
        "seconds": 2, "spread": 3, "other_seconds": 8, "ratio": 3, "ratio_spread": 6,
    }  # fmt: skip


def test_of_several_calls_in_a_row_the_median_counts(clock: Clock) -> None:
    row = record.pair(clock.taking(99, 9, 1, 2), clock.taking(99, 30, 6, 8), 1, calls=3)
    assert (row["seconds"], row["other_seconds"], row["ratio"]) == (2, 8, 4)


def test_a_single_function_is_called_once_before(clock: Clock) -> None:
    assert record.single(clock.taking(99, 5, 1, 2), 3) == {"seconds": 2, "spread": 4}


def test_peak_memory_is_of_each_row_alone() -> None:
    def rows() -> Iterator[record.Row]:
        yield {"what": "small"}
        block = np.ones(100 << 20, np.uint8)  # 100 MiB, gone when the row is there
        text = str(block[0])
        del block
        yield {"what": text}
        yield {"what": "small again"}
        yield {"what": "its own", "peak_mib": 7.0}

    before, large, after, own = (row["peak_mib"] for row in record.with_peak(rows()))
    assert before + 80 < large < before + 200
    assert after < large - 80
    assert own == 7.0


# the record


def test_rows_are_appended_with_every_column(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    record.append(path, [full(ratio=2.0)])
    record.append(path, [full(seconds=0.25, shape="a, b")])
    first, second = lines_of(path)
    assert list(first) == list(record.COLUMNS)
    assert (first["seconds"], first["ratio"], first["threads"]) == ("0.5", "2.0", "2")
    assert (second["seconds"], second["ratio"], second["shape"]) == ("0.25", "", "a, b")
    assert [entry.name for entry in tmp_path.iterdir()] == ["results.csv"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (full(secondz=1.0), "no column is called 'secondz'"),
        (full(what=""), "`what` must be given"),
        (full(commit=None), "`commit` must be given"),
        (full(seconds=None), "at least one measured number"),
        (full(seconds=float("nan")), "`seconds` must be a positive number, got nan"),
        (full(ratio=float("inf")), "`ratio` must be a positive number, got inf"),
        (full(seconds=0.0), "`seconds` must be a positive number"),
        (full(rate="12"), "`rate` must be a positive number, got '12'"),
        (full(spread=-0.1), "`spread` must be a positive number"),
    ],
)
def test_a_row_that_does_not_fit_leaves_the_file_alone(
    tmp_path: Path, row: record.Row, message: str
) -> None:
    path = tmp_path / "results.csv"
    record.append(path, [full(spread=0.0)])
    before = path.read_bytes()
    with pytest.raises(ValueError, match=message):
        record.append(path, [full(), row])
    assert path.read_bytes() == before


def test_a_file_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("what,shape,mood\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"columns differ from the record's: .*mood"):
        record.append(path, [full()])
    assert path.read_text(encoding="utf-8") == "what,shape,mood\n"


def test_a_crash_while_writing_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.csv"
    record.append(path, [full()])
    before = path.read_bytes()

    def crash(self: csv.DictWriter, rows: Any) -> None:
        self.writerow(rows[0])
        raise OSError("disk full")

    monkeypatch.setattr(csv.DictWriter, "writerows", crash)
    with pytest.raises(OSError, match="disk full"):
        record.append(path, [full(), full()])
    assert path.read_bytes() == before


def test_the_environment_says_where_and_with_what() -> None:
    about = record.environment(3)
    assert set(about) == set(record.ABOUT)
    assert about["threads"] == 3
    assert f"torch {torch.__version__}" in about["versions"]
    assert about["commit"].removesuffix("-dirty").isalnum()


# the benchmarks themselves, on small problems


def test_a_made_log_has_exactly_what_was_asked_for() -> None:
    indptr, indices = worlds.histories(300, 80, 9_000, seed=1)
    assert (len(indptr), indptr[0], indptr[-1], len(indices)) == (301, 0, 9_000, 9_000)
    keys = np.repeat(np.arange(300), np.diff(indptr)) * 80 + indices
    assert (np.diff(keys) > 0).all()
    assert indices.min() >= 0
    assert indices.max() < 80
    counts = np.bincount(indices, minlength=80)
    assert counts[:20].sum() > 1.5 * counts[60:].sum()
    again = worlds.histories(300, 80, 9_000, seed=1)
    assert np.array_equal(indices, again[1])


def small(name: str) -> list[record.Row]:
    """The rows of a benchmark on a problem that takes no time."""
    made = {
        "kernels": lambda: kernels.rows(short=True, sizes=((50, 40, 16, 8),)),
        "sampler": lambda: sampler.rows(
            short=True, threads=1, n_users=50, n_items=90, n_interactions=1_000
        ),
        "evaluation": lambda: evaluation.rows(
            None, short=True, n_users=120, n_items=90, n_interactions=600
        ),
        "reading": lambda: reading.rows(short=True, n_rows=3_000, n_users=50, n_items=40),
        "startup": lambda: startup.rows(short=True, n_users=50, n_items=90, n_interactions=1_000),
        "threads": lambda: threads.rows(
            short=True,
            threads=2,
            sizes={
                "log": (200, 100, 3_000),
                "scores": (50, 40, 16, 8),
                "ranking": (90, 80, 300),
                "product": (30, 30),
            },
        ),
        "serving": lambda: serving.rows(
            short=True, threads=1, n_users=50, n_items=40, n_interactions=300, clients=3, seconds=2
        ),
        "profile": lambda: profile.rows(None, short=True, large=(3_000, 2_000, 30_000)),
    }
    return list(made[name]())


@pytest.mark.parametrize(
    "name",
    ["kernels", "sampler", "evaluation", "reading", "startup", "threads", "serving", "profile"],
)
def test_a_benchmark_yields_rows_that_fit(name: str, tmp_path: Path) -> None:
    rows = small(name)
    assert rows
    assert all(row["what"].startswith(f"{name}: ") for row in rows)
    path = tmp_path / "results.csv"
    record.append(path, [record.environment(1) | row for row in rows])
    keys = [(line["what"], line["shape"], line["threads"]) for line in lines_of(path)]
    assert len(set(keys)) == len(keys)


def test_scores_come_from_a_table_and_from_the_batch_alone() -> None:
    table, alone = small("kernels")
    assert table["shape"] == "16 × 8 of 40 items, dim 64, table of 50 users"
    assert alone["shape"] == "16 × 8 of 40 items, dim 64, the batch's user vectors alone"
    U, _, users, _, _ = kernels.make_problem(16, 40, 16, 8)
    assert users.tolist() == list(range(16)) == list(range(len(U)))


def test_the_rate_of_the_sampler_is_of_one_core() -> None:
    (row,) = small("sampler")
    assert row["threads"] == 1
    assert row["rate"] == pytest.approx(1_000 * 128 / row["seconds"])


def test_a_profile_has_every_part_and_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = small("profile")
    shapes = dict.fromkeys(row["shape"] for row in rows)
    assert len(shapes) == 2
    for shape in shapes:
        parts = [row["what"] for row in rows if row["shape"] == shape]
        assert parts == [f"profile: {part}" for part in profile.PARTS]
    settings = profile.resolve_settings(backbone="lightgcn", loss="infonce")
    made = profile.Epoch(settings, profile.world(200, 100, 3_000))
    made.run()
    ticks = iter(range(10_000))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    parts, _ = made.run(2)
    # eleven laps a step, two of them the optimizer's and two the rest's
    assert sum(parts.values()) == 2 * 12
    assert (parts["optimizer"], parts["rest"], parts["scores"]) == (4.0, 4.0, 2.0)


# each has to notice that what it times is wrong


def wrong(function: Callable[..., Any], change: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: change(function(*args, **kwargs))


def test_wrong_scores_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernels.sampled_scores
    monkeypatch.setattr(kernels, "sampled_scores", wrong(right, lambda scores: scores * 1.01))
    with pytest.raises(AssertionError, match="not close"):
        small("kernels")


def test_a_wrong_gradient_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = kernels.sampled_scores

    def half(U: torch.Tensor, V: torch.Tensor, *index: torch.Tensor) -> torch.Tensor:
        return right(U, 0.5 * V + 0.5 * V.detach(), *index)

    monkeypatch.setattr(kernels, "sampled_scores", half)
    with pytest.raises(AssertionError, match="not close"):
        small("kernels")


def _known_negative(drawn: sampler.Drawn) -> sampler.Drawn:
    users, items = drawn
    items[3, 5] = items[3, 0]
    return users, items


def _foreign_positive(drawn: sampler.Drawn) -> sampler.Drawn:
    users, items = drawn
    items[2, 0] = items[2, 1]
    return users, items


@pytest.mark.parametrize(
    ("change", "message"),
    [(_known_negative, "a negative is in the history"), (_foreign_positive, "is not in the hist")],
)
def test_wrong_draws_are_not_timed(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any], message: str
) -> None:
    monkeypatch.setattr(sampler, "draw_batch", wrong(sampler.draw_batch, change))
    with pytest.raises(RuntimeError, match=message):
        small("sampler")


def test_draws_that_depend_on_the_threads_are_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right, calls = sampler.draw_batch, []

    def drawn(*args: Any, key: int, **kwargs: Any) -> sampler.Drawn:
        calls.append(key)
        return right(*args, key=len(calls), **kwargs)

    monkeypatch.setattr(sampler, "draw_batch", drawn)
    with pytest.raises(RuntimeError, match="one and two threads"):
        small("sampler")


def test_a_wrong_ranking_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = evaluation.top_k
    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "top_k", lambda *a, **k: right(*a, **k | {"mask": None}))
        with pytest.raises(RuntimeError, match="history was ranked"):
            small("evaluation")
    turned = wrong(right, lambda found: (np.ascontiguousarray(found[0][:, ::-1]), found[1]))
    monkeypatch.setattr(evaluation, "top_k", turned)
    with pytest.raises(RuntimeError, match="not the best"):
        small("evaluation")


def test_the_bare_product_is_of_all_users_and_items(monkeypatch: pytest.MonkeyPatch) -> None:
    ranking = evaluation.Ranking(30, 20, 100)
    monkeypatch.setattr(evaluation, "default_block_size", lambda _: 7)
    right, blocks = torch.mm, []

    def mm(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
        blocks.append(right(a, b, out=out).clone())

    monkeypatch.setattr(torch, "mm", mm)
    ranking.product()
    assert [len(block) for block in blocks] == [7, 7, 7, 7, 2]
    torch.testing.assert_close(torch.cat(blocks), ranking.U @ ranking.V.T)


def test_work_that_depends_on_the_threads_is_not_timed() -> None:
    def depends() -> torch.Tensor:
        return torch.full((2, 2), torch.get_num_threads())

    threads._check("x", lambda: torch.ones(2, 2), 2)
    with pytest.raises(RuntimeError, match=r"x: one and 2 threads agree on 0\.00%"):
        threads._check("x", depends, 2)
    losses = iter([0.5, 0.6])
    with pytest.raises(RuntimeError, match=r"went from 0\.5 to 0\.6"):
        threads._check("x", lambda: next(losses), 2)


@pytest.mark.parametrize("part", ["add_batch_l2", "batch_scores", "_backward"])
def test_a_profile_of_something_else_is_refused(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    right = getattr(profile, part)
    other = {
        "add_batch_l2": lambda *_, **__: None,
        "batch_scores": lambda tables, batch, _, **__: right(tables, batch, False),
        "_backward": lambda tables, grads: right(tables, [-grad for grad in grads]),
    }
    monkeypatch.setattr(profile, part, other[part])
    with pytest.raises(RuntimeError, match="of the timed epoch"):
        small("profile")


def test_epochs_with_an_adversarial_pass_are_counted_apart() -> None:
    ends = [10.0, 11.0, 13.0, 13.5, 20.0]  # the first loads the kernels, the last evaluates
    lines = [{"seconds": end} for end in ends]
    lines[2]["adversary_loss"] = 1.0
    assert epoch.split_epochs(lines) == ([1.0, 0.5], [2.0])


def test_real_epochs_and_the_time_to_a_quality(data_dir: Callable[[str], Path]) -> None:
    data = epoch.cr.Dataset.load(data_dir("coat"))
    lines = epoch.epochs(data, "mf", "infonce", 4)
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    row = quality.until(data, "mf", "infonce", 0.01)
    assert row["quality"] >= 0.01
    assert row["epochs"] == 5
    with pytest.raises(RuntimeError, match="stopped before"):
        quality.until(data, "mf", "infonce", 0.99)


def test_a_run_of_another_quality_is_refused(
    data_dir: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    coat = quality.cr.Dataset.load(data_dir("coat"))
    row = quality.early_stop(coat)
    assert 100 < row["epochs"] < 600
    known = quality._known_values()
    assert row["quality"] == pytest.approx(statistics.mean(known), abs=0.02)
    monkeypatch.setattr(quality, "_known_values", lambda: [value + 0.05 for value in known])
    with pytest.raises(RuntimeError, match="docs/results says"):
        quality.early_stop(coat)


# the command


def test_run_appends_what_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def rows(_: Any) -> Iterator[record.Row]:
        yield {"what": "a: x", "shape": "s", "threads": 1, "other": "y", "ratio": 3.0}

    monkeypatch.setattr(run, "BENCHMARKS", {"a": rows, "epoch": rows})
    out = tmp_path / "out.csv"
    run.main(["--threads", "2", "--out", str(out), "a"])
    (line,) = lines_of(out)
    assert (line["what"], line["threads"], line["ratio"]) == ("a: x", "1", "3.0")
    assert float(line["peak_mib"]) > 0
    assert "a: x: s: 3 × as fast as y" in capsys.readouterr().out
    monkeypatch.setattr(run, "_data", lambda: None)
    run.main(["--threads", "2", "--out", str(out)])
    assert len(lines_of(out)) == 2
    assert "epoch: not run, it needs --data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kernel"], "no benchmark is called 'kernel'"),
        (["epoch"], "epoch needs --data"),
        (["--data", "nowhere"], "no folder nowhere"),
    ],
)
def test_a_wrong_argument_is_said(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "_data", lambda: None)
    with pytest.raises(SystemExit, match="2"):
        run.main(arguments)
    assert message in capsys.readouterr().err


def test_the_short_form_keeps_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    monkeypatch.setattr(run, "append", lambda path, rows: kept.append((path, rows)))
    row = {"what": "a: x", "shape": "s", "seconds": 1.0}
    monkeypatch.setattr(run, "BENCHMARKS", {"a": lambda _: iter([row])})
    run.main(["--short"])
    assert kept == []
    run.main([])
    assert kept[0][0] == record.ROOT / "benchmarks" / "results.csv"


def test_targets_name_what_the_benchmarks_yield() -> None:
    folder = record.ROOT / "benchmarks"
    targets = json.loads((folder / "targets.json").read_text(encoding="utf-8"))
    names = {kernels.WHAT, sampler.WHAT, evaluation.RANKING, epoch.WHAT}
    of_others = {"scale", "startup"}
    for target in targets:
        assert target["what"] in names or target["what"].partition(":")[0] in of_others
        assert ("at_least" in target) != ("at_most" in target)
    assert names <= {target["what"] for target in targets}
    shapes = [f"{b} × {n} of {i:,} items" for _, i, b, n in kernels.SIZES]
    assert shapes == [target["shape"] for target in targets if target["what"] == kernels.WHAT]
