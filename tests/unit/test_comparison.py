"""Comparisons: what is run and what is not, what is refused, and the arithmetic of the table."""

import csv
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contrarec.comparison import Comparison, Contrast, Job, Leaders, Row, compare
from contrarec.comparison.layout import format_contrast
from contrarec.comparison.leaders import find_leaders
from contrarec.comparison.measure import Measured, contrasts
from contrarec.comparison.run import own_overrides
from contrarec.data.dataset import Dataset
from contrarec.errors import ConfigError, DataError
from contrarec.recommender import Recommender
from contrarec.training.loop import Hooks
from contrarec.training.metrics_log import read_log

FAST = {"epochs": 3, "eval_every": 1, "batch_size": 64, "dim": 8, "n_neg": 4}


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


@pytest.fixture(scope="module")
def data() -> Dataset:
    return toy_data()


@pytest.fixture(scope="module")
def done(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Comparison]:
    out = tmp_path_factory.mktemp("compared")
    return out, compare(data, ["infonce", "bpr"], ["mf"], [0, 1], out=out, overrides=FAST)


def no_fit(*_: object, **__: object) -> None:
    raise AssertionError("a finished run was run again")


def no_load(*_: object, **__: object) -> None:
    raise AssertionError("a finished run was evaluated again")


def test_every_run_has_a_folder_and_its_own_means(
    data: Dataset, done: tuple[Path, Comparison]
) -> None:
    out, comparison = done
    names = ["mf-bpr-0", "mf-bpr-1", "mf-infonce-0", "mf-infonce-1"]
    assert sorted(path.name for path in out.iterdir()) == names
    for row in comparison.rows:
        for number, seed in enumerate((0, 1)):
            run = Recommender.load(out / f"mf-{row.method}-{seed}")
            expected = run.evaluate(data, bootstrap=0)["ood"].metrics()
            assert {metric: row.values["ood"][metric][number] for metric in expected} == expected
            assert run.settings.seed == seed


def test_training_does_not_look_at_the_test_sets(done: tuple[Path, Comparison]) -> None:
    for run in done[0].iterdir():
        lines = [line for line in read_log(run / "metrics.jsonl") if "metrics" in line]
        assert lines
        assert all(set(line["metrics"]) == {"valid"} for line in lines)


def test_finished_runs_are_neither_trained_nor_evaluated_again(
    data: Dataset, done: tuple[Path, Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, before = done
    monkeypatch.setattr(Recommender, "fit", no_fit)
    monkeypatch.setattr(Recommender, "load", no_load)
    after = compare(data, ["infonce", "bpr"], ["mf"], [0, 1], out=out, overrides=FAST)
    assert after == before


def test_other_test_sets_are_evaluated_without_training(
    done: tuple[Path, Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, before = done
    other = toy_data(test_shift=1)
    assert other.fingerprint() == toy_data().fingerprint()  # training data and ids are the same
    monkeypatch.setattr(Recommender, "fit", no_fit)
    after = compare(other, ["infonce", "bpr"], ["mf"], [0, 1], out=out, overrides=FAST)
    assert after.rows[0].values != before.rows[0].values
    back = compare(toy_data(), ["infonce", "bpr"], ["mf"], [0, 1], out=out, overrides=FAST)
    assert back == before


def test_only_what_is_missing_is_run(data: Dataset, tmp_path: Path) -> None:
    seen: list[tuple[str, int, bool]] = []

    @contextmanager
    def watch(job: Job) -> Iterator[None]:
        assert (job.number, job.total) == (len(seen) + 1, 4)
        seen.append((job.method, job.seed, job.finished))
        yield

    compare(data, ["bpr"], ["mf"], [0], out=tmp_path, overrides=FAST)
    compare(data, ["infonce", "bpr"], ["mf"], [0, 1], out=tmp_path, overrides=FAST, watch=watch)
    assert seen == [
        ("infonce", 0, False),
        ("infonce", 1, False),
        ("bpr", 0, True),
        ("bpr", 1, False),
    ]


def test_an_interrupted_comparison_goes_on_where_it_stopped(
    data: Dataset, done: tuple[Path, Comparison], tmp_path: Path
) -> None:
    def interrupt(epoch: int, *_: object) -> None:
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    @contextmanager
    def watch(job: Job) -> Iterator[Hooks | None]:
        yield Hooks(on_step=interrupt) if (job.method, job.seed) == ("infonce", 1) else None

    args = (data, ["infonce", "bpr"], ["mf"], [0, 1])
    with pytest.raises(KeyboardInterrupt):
        compare(*args, out=tmp_path, overrides=FAST, watch=watch)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mf-infonce-0", "mf-infonce-1"]
    resumed = compare(*args, out=tmp_path, overrides=FAST)
    assert [row.values for row in resumed.rows] == [row.values for row in done[1].rows]
    assert resumed.contrasts == done[1].contrasts


def test_other_settings_or_data_are_refused_before_anything_is_trained(
    data: Dataset, done: tuple[Path, Comparison], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = done
    monkeypatch.setattr(Recommender, "fit", no_fit)
    grid = {"methods": ["infonce", "advinfonce"], "seeds": [0], "out": out}
    with pytest.raises(ConfigError, match=r"mf-infonce-0: .*`training.lr` = 0.001 and 0.5 was"):
        compare(data, **grid, overrides=FAST | {"lr": 0.5})
    smaller = Dataset.from_parts(
        train=pl.DataFrame({"user_id": [0, 1], "item_id": [0, 1]}),
        tests={"ood": pl.DataFrame({"user_id": [0], "item_id": [1]})},
    )
    with pytest.raises(DataError, match=r"mf-infonce-0: holds a run of other data"):
        compare(smaller, **grid, overrides=FAST)
    assert not (out / "mf-advinfonce-0").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"methods": ["bpr", "infonse"]}, "did you mean 'infonce'"),
        ({"backbones": ["mf", "gcn"]}, "unknown backbone 'gcn'"),
        ({"methods": ["bpr", "bpr"]}, "`methods` must be different"),
        ({"seeds": []}, "`seeds` must be different and at least one, got \\[\\]"),
        ({"overrides": FAST | {"advinfonce.adv_lr": 1e-3}}, "unknown section 'advinfonce'"),
        ({"overrides": FAST | {"infonce.ks": [5, 20]}}, "`ks` and `monitor` must be the same"),
    ],
)
def test_what_is_wrong_is_said_before_the_first_run(
    data: Dataset, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    grid = {"methods": ["bpr", "infonce"], "seeds": [0], "overrides": FAST}
    with pytest.raises(ConfigError, match=message):
        compare(data, **(grid | change), out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_failing_run_is_named(
    data: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(*_: object, **__: object) -> None:
        raise ConfigError("the loss became nan in epoch 3.")

    monkeypatch.setattr(Recommender, "fit", diverge)
    with pytest.raises(ConfigError, match=r"mf-bpr-4: the loss became nan in epoch 3\."):
        compare(data, ["bpr"], ["mf"], [4], out=tmp_path, overrides=FAST)


def test_data_without_a_test_set_are_refused(data: Dataset, tmp_path: Path) -> None:
    bare = Dataset(name="bare", train=data.train, valid=data.valid)
    with pytest.raises(DataError, match=r"bare: .* no test set"):
        compare(bare, ["bpr"], out=tmp_path)


def test_a_setting_under_a_name_is_for_that_method_or_backbone_alone() -> None:
    overrides = {"infonce.tau": 0.2, "lr": 0.1, "lightgcn.lr": 0.3, "loss.tau": 0.5}
    names = ("mf", "lightgcn", "infonce", "advinfonce")
    assert own_overrides(overrides, ("mf", "advinfonce"), names) == {"lr": 0.1, "loss.tau": 0.5}
    own = {"lr": 0.3, "loss.tau": 0.5, "tau": 0.2}
    assert own_overrides(overrides, ("lightgcn", "infonce"), names) == own


def measured(*per_user: float) -> Measured:
    return Measured({}, {}, {("ood", "recall@20"): np.array(per_user)})


def test_contrasts_by_hand() -> None:
    runs = {
        # users of seed 0, users of seed 1
        ("mf", "a"): [measured(0.0, 0.0, 0.0), measured(0.2, 0.2, 0.2)],  # mean per user .1 .1 .1
        ("mf", "b"): [measured(0.3, 0.5, 0.1), measured(0.3, 0.1, 0.5)],  # .3 .3 .3
        ("mf", "c"): [measured(0.5, 0.3, 0.0), measured(0.3, 0.5, 0.0)],  # .4 .4 0
    }
    found = {(c.method, c.against): c for c in contrasts(runs, ["mf"], ["a", "b", "c"])}
    assert len(found) == 6
    b, c = found["b", "a"], found["c", "a"]
    assert b.difference == pytest.approx(0.2)
    # every user's difference is .2, so every resample's mean is, too
    assert (b.low, b.high) == (pytest.approx(0.2), pytest.approx(0.2))
    assert c.difference == pytest.approx(0.5 / 3)  # (.3 + .3 − .1) / 3
    # of 2^3 sign patterns of (.2, .2, .2), +++ and −−− are as large; of (.3, .3, −.1), whose sum
    # is .5, those two with ++− and −−+; of (.1, .1, −.3), whose sum is −.1, all
    assert (b.p, c.p, found["c", "b"].p) == (2 / 8, 4 / 8, 1.0)
    # Holm against a: 2 × 1/4, then max(1 × 1/2, 1/2); against b: 2 × 1/4, 1; against c: 2 × 1/2, 1
    assert {pair: contrast.p_holm for pair, contrast in found.items()} == {
        ("b", "a"): 0.5,
        ("c", "a"): 0.5,
        ("a", "b"): 0.5,
        ("c", "b"): 1.0,
        ("a", "c"): 1.0,
        ("b", "c"): 1.0,
    }
    assert found["a", "b"].difference == pytest.approx(-0.2)
    assert found["a", "b"].low == -b.high


def test_the_holm_family_spans_backbones() -> None:
    found = {
        (backbone, method): [measured(*values)]
        for backbone in ("mf", "lightgcn")
        for method, values in {"a": (0.0, 0.0, 0.0), "b": (0.1, 0.1, 0.1)}.items()
    }
    made = list(contrasts(found, ["mf", "lightgcn"], ["a", "b"]))
    # two tests against a, each with p = 1/4: 2 × 1/4
    assert [c.p_holm for c in made if c.against == "a"] == [0.5, 0.5]


def test_a_method_without_a_backbone_meets_those_of_every_backbone() -> None:
    found = {
        ("none", "pop"): [measured(0.0, 0.0, 0.0)],
        ("none", "knn"): [measured(0.1, 0.1, 0.1)],
        ("mf", "a"): [measured(0.3, 0.3, 0.3)],
        ("lightgcn", "a"): [measured(0.6, 0.6, 0.6)],
    }
    made = list(contrasts(found, ["mf", "lightgcn"], ["pop", "a", "knn"]))
    differences = {(c.backbone, c.method, c.against): c.difference for c in made}
    assert differences == {
        key: pytest.approx(value)
        for (backbone, one, other), difference in {
            ("none", "knn", "pop"): 0.1,
            ("mf", "a", "pop"): 0.3,
            ("mf", "a", "knn"): 0.2,
            ("lightgcn", "a", "pop"): 0.6,
            ("lightgcn", "a", "knn"): 0.5,
        }.items()
        for key, value in {
            (backbone, one, other): difference,
            (backbone, other, one): -difference,
        }.items()
    }
    assert len(made) == len(differences)
    # three tests against pop, each with p = 1/4: 3 × 1/4
    assert [c.p_holm for c in made if c.against == "pop"] == [0.75] * 3


def test_a_method_that_goes_with_one_backbone_is_tested_there_alone() -> None:
    found = {
        ("mf", "a"): [measured(0.0, 0.0)],
        ("lightgcn", "a"): [measured(0.0, 0.0)],
        ("lightgcn", "b"): [measured(0.1, 0.1)],
    }
    made = list(contrasts(found, ["mf", "lightgcn"], ["a", "b"]))
    assert [(c.backbone, c.method, c.against) for c in made] == [
        ("lightgcn", "b", "a"),
        ("lightgcn", "a", "b"),
    ]


def one_value(backbone: str, method: str, ood: float, shifted: float) -> Row:
    values = {"ood": {"recall@20": (ood,)}, "shifted": {"recall@20": (shifted,)}}
    return Row(backbone=backbone, method=method, runs=(), values=values)


def contrast(method: str, against: str, difference: float, p_holm: float, **place: str) -> Contrast:
    where = {"backbone": "mf", "test": "ood", "metric": "recall@20"} | place
    return Contrast(
        method=method, against=against, difference=difference, low=0.0, high=0.0, p=0.01,
        p_holm=p_holm, **where,
    )  # fmt: skip


def test_leaders_by_hand() -> None:
    rows = [
        one_value("mf", "a", 0.30, 0.1),
        one_value("mf", "b", 0.40, 0.2),
        one_value("mf", "c", 0.35, 0.3),
        one_value("mf", "d", 0.20, 0.4),
        one_value("lightgcn", "a", 0.9, 0.9),
    ]
    made = [
        contrast("b", "a", 0.10, 0.05),  # just significant: a is out
        contrast("a", "b", -0.10, 0.001),  # a is worse: says nothing against b
        contrast("b", "c", 0.05, 0.051),  # just not: c stays
        contrast("b", "d", 0.20, 0.06),
        contrast("c", "d", 0.15, 0.01),  # beaten by another than the best: d is out
        contrast("d", "c", 0.10, 0.01, test="shifted"),  # on the other test set alone
        contrast("d", "b", 0.2, 0.01, test="shifted", metric="ndcg@20"),  # another metric
        contrast("d", "b", 0.2, 0.01, test="shifted", backbone="lightgcn"),  # another backbone
    ]
    found = {(f.backbone, f.test): f for f in find_leaders(rows, made, ["recall@20"])}
    assert set(found) == {(b, t) for b in ("mf", "lightgcn") for t in ("ood", "shifted")}
    assert found["mf", "ood"] == Leaders(
        backbone="mf", test="ood", metric="recall@20", best="b", methods=("b", "c")
    )
    assert (found["mf", "shifted"].best, found["mf", "shifted"].methods) == ("d", ("d", "b", "a"))
    assert found["lightgcn", "ood"].methods == ("a",)


def test_the_leaders_are_in_every_file(table: Comparison) -> None:
    found = table.to_dict()
    assert (found["leaders"][0]["best"], found["leaders"][0]["methods"]) == ("b", ("b",))
    assert found["monitor"] == "recall@20"
    assert "at most 0.05" in found["definitions"]["leaders"]
    assert "Leaders on recall@20, mf: **b** (the best)." in table.to_markdown()
    lines = list(csv.DictReader(table.to_csv().splitlines()))
    marks = {(line["method"], line["metric"]): (line["best"], line["leader"]) for line in lines}
    assert marks["a", "recall@20"] == ("False", "False")
    assert marks["b", "ndcg@20"] == ("True", "True")
    assert marks["a", "hit@20"] == ("", "")  # a metric without tests


def test_a_leader_need_not_be_the_best(table: Comparison) -> None:
    unsure = replace(table, contrasts=tuple(replace(c, p_holm=0.4) for c in table.contrasts))
    assert "Leaders on ndcg@20, mf: **b** (the best), a." in unsure.to_markdown()
    assert unsure.to_markdown().count("**.3000 ± .1414**") == 2  # of a, in both tested metrics
    lines = csv.DictReader(unsure.to_csv().splitlines())
    marks = {(line["method"], line["metric"]): (line["best"], line["leader"]) for line in lines}
    assert marks["a", "recall@20"] == ("False", "True")


def test_the_tables_are_sorted_by_the_metric_that_picks_epochs(table: Comparison) -> None:
    order = [line.split()[3] for line in table.to_markdown().splitlines() if line[:4] == "| mf"]
    assert order == ["b", "a"]
    assert [entry["method"] for entry in table.to_dict()["rows"]] == ["a", "b"]
    swapped = {"recall@20": (0.9, 0.9), "ndcg@20": (0.1, 0.1), "hit@20": (0.1, 0.1)}
    rows = (replace(table.rows[0], values={"ood": swapped}), table.rows[1])
    by_ndcg = replace(table, monitor="ndcg@20", rows=rows).to_markdown()
    order = [line.split()[3] for line in by_ndcg.splitlines() if line[:4] == "| mf"]
    assert order == ["b", "a"]


def row(method: str, values: tuple[float, ...]) -> Row:
    runs = (
        {"seed": 0, "best_epoch": 3, "epochs": 5, "seconds": 10.0, "stopped": "patience"},
        {"seed": 1, "best_epoch": 6, "epochs": 20, "seconds": 30.0, "stopped": "patience"},
    )
    metrics = dict.fromkeys(("recall@20", "ndcg@20", "hit@20"), values)
    return Row(backbone="mf", method=method, runs=runs, values={"ood": metrics})


@pytest.fixture
def table() -> Comparison:
    return Comparison(
        data="toy",
        fingerprint="f",
        preset=None,
        overrides={},
        methods=("a", "b"),
        backbones=("mf",),
        seeds=(0, 1),
        monitor="recall@20",
        headline=("recall@20", "ndcg@20"),
        n_users={"ood": 7},
        n_resamples=10,
        n_flips=20,
        rows=(row("a", (0.2, 0.4)), row("b", (0.5, 0.5))),
        contrasts=tuple(
            Contrast(
                backbone="mf", method="b", against="a", test="ood", metric=metric,
                difference=0.2, low=-0.1, high=0.3, p=0.01, p_holm=0.04,
            )
            for metric in ("recall@20", "ndcg@20")
        ),
    )  # fmt: skip


def test_row_by_hand(table: Comparison) -> None:
    mean, deviation = table.rows[0].summary("ood", "recall@20")
    assert mean == pytest.approx(0.3)  # (.2 + .4) / 2
    assert deviation == pytest.approx(0.02**0.5)  # √((.1² + .1²) / (2 − 1))
    assert table.rows[0].seconds_per_epoch == pytest.approx(1.6)  # 40 s / 25 epochs
    assert table.rows[0].average("best_epoch") == 4.5
    single = Row(backbone="mf", method="a", runs=(), values={"ood": {"recall@20": (0.2,)}})
    assert single.summary("ood", "recall@20") == (0.2, None)


def test_the_files_say_the_same(table: Comparison, tmp_path: Path) -> None:
    table.save(tmp_path / "new")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "comparison.csv",
        "comparison.json",
        "comparison.md",
    ]
    markdown = (tmp_path / "new" / "comparison.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.split("\n")]
    head, _, b, a = (line for line in lines if len(line) > 1)  # the best first
    assert dict(zip(head, a, strict=True)) == {
        "backbone": "mf",
        "method": "a",
        "recall@20": ".3000 ± .1414",
        "Δ recall@20": "",
        "ndcg@20": ".3000 ± .1414",
        "Δ ndcg@20": "",
        "hit@20": ".3000 ± .1414",
        "s/epoch": "1.6",
        "best epoch": "4",
        "epochs": "12",
    }
    assert dict(zip(head, b, strict=True))["recall@20"] == "**.5000 ± .0000**"
    assert dict(zip(head, b, strict=True))["Δ recall@20"] == "+.2000 [−.1000, +.3000] p .040"
    with (tmp_path / "new" / "comparison.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert rows[3] | {"method": "b", "metric": "recall@20", "p_holm": "0.04"} == rows[3]
    found = json.loads((tmp_path / "new" / "comparison.json").read_text(encoding="utf-8"))
    assert found["rows"][0]["metrics"]["ood"]["recall@20"]["values"] == [0.2, 0.4]
    assert found["contrasts"][0]["difference"] == 0.2


def test_a_contrast_from_the_other_side(table: Comparison) -> None:
    contrast = table.contrasts[0].reversed()
    assert (contrast.method, contrast.against) == ("a", "b")
    assert (contrast.difference, contrast.low, contrast.high) == (-0.2, -0.3, 0.1)
    assert format_contrast(contrast) == "−.2000 [−.3000, +.1000] p .040"


def test_a_baseline_in_the_table(table: Comparison) -> None:
    fitted = {"best_epoch": 0, "epochs": 0, "seconds": 3.0, "stopped": "fitted"}
    runs = tuple({"seed": seed} | fitted for seed in (0, 1))
    baseline = replace(row("pop", (0.1, 0.1)), backbone="none", runs=runs)
    assert baseline.seconds_per_epoch is None
    contrast = replace(table.contrasts[0], method="pop", difference=-0.2)
    wider = replace(
        table,
        methods=("a", "b", "pop"),
        rows=(*table.rows, baseline),
        contrasts=(*table.contrasts, contrast),
    )
    # beside a backbone's method it stands on the first backbone
    assert wider.to_first(baseline, "ood", "recall@20") == contrast
    assert wider.to_first(table.rows[0], "ood", "recall@20") is None
    last = [cell.strip() for cell in wider.to_markdown().split("\n")[6].split("|")[1:-1]]
    assert last[:4] == ["none", "pop", ".1000 ± .0000", "−.2000 [−.1000, +.3000] p .040"]
    assert last[-3:] == ["", "0", "0"]
    assert "on the same backbone (for a method without one on mf), on" in wider.to_markdown()
    assert "without one" not in table.to_markdown()
    line = wider.to_csv().splitlines()[-3]
    assert line.startswith("none,pop,ood,recall@20,")
    assert line.endswith(",0.0,0.0,")  # no seconds per epoch
    # first in the table, it stands beside every other on that one's own backbone
    first = replace(wider, methods=("pop", "a"), contrasts=(contrast.reversed(),))
    assert first.to_first(table.rows[0], "ood", "recall@20") == contrast.reversed()
    assert first.to_first(baseline, "ood", "recall@20") is None
