"""`contrarec audit`: of a log, of a folder with tests, of runs; resuming, and what is refused."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from cli.tools import Answer
from contrarec.data.dataset import Dataset
from contrarec.recommender import Recommender

Call = Callable[..., Answer]

FAST = [
    "--threads", "1", "--no-report",
    *(f"--set={pair}" for pair in ("epochs=4", "eval_every=2", "dim=8", "batch_size=128",
                                   "n_neg=8", "lr=0.05")),
]  # fmt: skip
GRID = ["--methods", "infonce,popularity", "--k", "5"]


@pytest.fixture(scope="module")
def log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 users, 40 items in two tastes, the first ones most often; times and propensities."""
    rng = np.random.default_rng(0)
    chance = 0.9 / (1 + np.arange(40)) ** 0.5
    taste = np.arange(120)[:, None] % 2 == np.arange(40)[None, :] % 2
    pairs = np.argwhere(taste & (rng.random((120, 40)) < chance))
    path = tmp_path_factory.mktemp("logs") / "shop.csv"
    pl.DataFrame(
        {
            "user_id": [f"u{user}" for user in pairs[:, 0]],
            "item_id": [f"i{item}" for item in pairs[:, 1]],
            "time": rng.permutation(len(pairs)),
            "p": chance[pairs[:, 1]],
        }
    ).write_csv(path)
    return path


@pytest.fixture(scope="module")
def audited(
    log_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """The folder of an audit of the log, and what it printed."""
    import contextlib
    import io

    from contrarec.cli import main

    out, printed = tmp_path_factory.mktemp("audits") / "shop", io.StringIO()
    with contextlib.redirect_stdout(printed):
        command = ["audit", str(log_file), *GRID, "--seeds", "2", *FAST, "--out", str(out)]
        assert main([*command, "--json"]) == 0
    return out, json.loads(printed.getvalue())


def test_an_audit_of_a_log(audited: tuple[Path, dict[str, Any]]) -> None:
    out, found = audited
    assert found["kind"] == "log"
    assert found["in_distribution"] == "id"
    names = {info["name"] for info in found["sets"]}
    assert names == {"id", "gamma200", "gamma10", "gamma2", "uniform", "time"}
    assert [method["label"] for method in found["methods"]] == ["infonce", "popularity"]
    assert sorted(path.name for path in out.iterdir()) == [
        "audit.json", "data", "mf-infonce-0", "mf-infonce-1",
        "none-popularity-0", "none-popularity-1",
    ]  # fmt: skip
    saved = json.loads((out / "audit.json").read_text(encoding="utf-8"))
    assert saved == {key: found[key] for key in saved}
    assert set(found) - set(saved) == {"out", "report"}
    assert found["report"] is None
    assert set(found["settings"]["training"]) >= {"epochs", "batch_size", "lr", "patience"}
    assert found["summary"]
    for figure in ("head_share", "coverage", "gini", "mean_percentile", "shift", "share kept",
                   "recall", "unbiased snips", "p"):  # fmt: skip
        assert figure in found["definitions"]


def test_figures_are_those_of_the_runs(audited: tuple[Path, dict[str, Any]]) -> None:
    out, found = audited
    data = Dataset.load(out / "data")
    by_label = {method["label"]: method for method in found["methods"]}
    for label, prefix in (("infonce", "mf-infonce"), ("popularity", "none-popularity")):
        for name in data.tests:
            seeds = [
                Recommender.load(out / f"{prefix}-{seed}").evaluate(data, ks=(5,), bootstrap=0)[
                    name
                ]
                for seed in (0, 1)
            ]
            for metric in ("recall@5", "ndcg@5", "hit@5"):
                ours = by_label[label]["metrics"][name][metric]
                values = [seed.metrics()[metric] for seed in seeds]
                assert ours["mean"] == pytest.approx(np.mean(values))
                assert ours["sd"] == pytest.approx(np.std(values, ddof=1))
                assert ours["low"] <= ours["mean"] <= ours["high"]
            for group, value in by_label[label]["groups"][name].items():
                values = [seed.groups[group].metrics()["recall@5"] for seed in seeds]
                assert value["mean"] == pytest.approx(np.mean(values))
    lists = by_label["popularity"]["lists"]["uniform"]
    assert (
        lists["head_share"]["mean"] > by_label["infonce"]["lists"]["uniform"]["head_share"]["mean"]
    )
    assert lists["coverage"]["low"] is None


def test_called_again_it_trains_nothing(
    contrarec: Call, audited: tuple[Path, dict[str, Any]], log_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out, found = audited

    def no_fit(*_: object, **__: object) -> None:
        raise AssertionError("a finished run was run again")

    monkeypatch.setattr(Recommender, "fit", no_fit)
    command = ["audit", log_file, *GRID, "--seeds", "2", *FAST, "--out", out]
    answer = contrarec(*command, "--json")
    assert json.loads(answer.out) == found
    assert "finished before, not run again" in answer.err
    refused = contrarec(*command, "--share", "0.04")
    assert refused.status == 2
    assert "holds a run of other data" in refused.err


def test_runs_on_their_own_tests(
    contrarec: Call, audited: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    audit_of_log, found = audited
    runs = [audit_of_log / name for name in ("mf-infonce-0", "mf-infonce-1", "none-popularity-0")]
    answer = contrarec("audit", *runs, "--k", "5", "--no-report", "--out", tmp_path / "o", "--json")
    ours = json.loads(answer.out)
    assert ours["kind"] == "runs"
    assert [len(method["runs"]) for method in ours["methods"]] == [2, 1]
    assert ours["methods"][0]["metrics"] == found["methods"][0]["metrics"]
    assert (tmp_path / "o" / "audit.json").is_file()
    assert not (tmp_path / "o" / "data").exists()


def test_a_folder_with_tests_is_audited_on_them(
    contrarec: Call, audited: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    data = Dataset.load(audited[0] / "data")
    parts = {"ood": data.parts["uniform"]}
    Dataset.from_parts(train=data.train, tests=parts).save(tmp_path / "d")
    answer = contrarec("audit", tmp_path / "d", *GRID, *FAST, "--out", tmp_path / "o", "--json")
    found = json.loads(answer.out)
    assert (found["kind"], found["in_distribution"]) == ("data", "valid")
    assert [info["name"] for info in found["sets"]] == ["valid", "ood"]
    assert any("valid stands for it" in sentence for sentence in found["summary"])
    text = contrarec("audit", tmp_path / "d", *GRID, *FAST, "--out", tmp_path / "o").out
    assert "audited on them as they are" in text
    refused = contrarec("audit", tmp_path / "d", "--shifts", "2", "--out", tmp_path / "p")
    assert "has test sets already: ood" in refused.err
    assert refused.status == 2


def test_an_adversary_has_turns_that_fit_the_length(
    contrarec: Call, log_file: Path, tmp_path: Path
) -> None:
    """What is set for all methods goes before what is usual for those with an adversary."""
    common = [log_file, "--k", "5", "--shifts", "uniform", *FAST, "--set", "epochs=100", "--json"]
    two = ["--methods", "infonce,advinfonce", "--out", tmp_path / "two"]
    usual = json.loads(contrarec("audit", *common, *two).out)
    assert usual["settings"]["training"]["advinfonce.adv_interval"] == 4  # of 100 epochs
    assert usual["settings"]["training"]["advinfonce.adv_lr"] == 0.0025  # 4 steps an epoch
    passes = [method["runs"][0]["adversary_passes"] for method in usual["methods"]]
    assert passes[0] is None
    assert passes[1] >= 1
    one = ["--methods", "advinfonce", "--out", tmp_path / "one", "--set", "adv_interval=90"]
    told = json.loads(contrarec("audit", *common, *one).out)
    assert "advinfonce.adv_interval" not in told["settings"]["training"]
    assert told["methods"][0]["runs"][0]["adversary_passes"] == 0
    assert "without its adversary" in " ".join(told["summary"])


def test_propensities_of_a_column_and_of_a_file(
    contrarec: Call, log_file: Path, tmp_path: Path
) -> None:
    items = pl.read_csv(log_file).select("item_id", propensity="p").unique("item_id")
    items.write_csv(tmp_path / "p.csv")
    found = []
    for place, given in enumerate(("p", tmp_path / "p.csv")):
        command = ["audit", log_file, *GRID, *FAST, "--shifts", "uniform", "--clip", "0.3"]
        answer = contrarec(
            *command, "--propensities", given, "--out", tmp_path / str(place), "--json"
        )
        found.append(json.loads(answer.out))
    (column,), (file,) = (result["weighing"] for result in found)
    assert (column["source"], file["source"]) == ("column 'p'", str(tmp_path / "p.csv"))
    assert column["absolute"]
    assert 0 < column["clipped"] < 1
    assert column["clipped"] == file["clipped"]
    assert column["small"]
    assert any("too few to say much" in note for note in found[0]["notes"])
    for one, other in zip(*(result["methods"] for result in found), strict=True):
        for a, b in zip(one["unbiased"]["id"], other["unbiased"]["id"], strict=True):
            assert a["snips"] == pytest.approx(b["snips"], rel=1e-6)
            assert a["ips"] == pytest.approx(b["ips"], rel=1e-6)
            assert a["snips"][0] != a["plain"][0]


def test_what_is_printed_for_a_person(
    contrarec: Call, audited: tuple[Path, dict[str, Any]], log_file: Path
) -> None:
    answer = contrarec("audit", log_file, *GRID, "--seeds", "2", *FAST, "--out", audited[0])
    assert "In distribution (id), " in answer.out
    assert re.search(r"^method +id ", answer.out, re.MULTILINE)
    assert "Weighed by 1/propensity on id: estimated from popularity" in answer.out
    assert answer.out.endswith(f"Result: {audited[0]}\n")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["LOG", "--k", "40"], "`k` must be below the 40 items that may be ranked, got 40"),
        (["LOG", "--k", "0"], "`k` must be at least 1, got 0"),
        (["LOG", "--shifts", "steep"], "got 'steep'"),
        (["LOG", "--time-col", "p", "--weight-col", "q"], "q"),
        (["LOG", "--share", "0.3"], "`share` must be above 0 and hold at most 0.6"),
        (["LOG", "--methods", "infonse"], "did you mean 'infonce'"),
        (["LOG", "--seeds", "x"], "--seeds"),
        (["LOG", "--propensities", "no.csv"], "no.csv: no such file"),
        (["LOG", "--propensities", "q"], "'q'"),
        (["LOG", "--gamma", "-3"], "`gamma` must be at least -1"),
        (["LOG", "--clip", "1"], "`clip` must be at least 0 and below 1, got 1"),
        (["LOG", "--weighed", "other"], "`weighed` must be among id, "),
        (["LOG", "--weighed", "uniform"], "got 'uniform', whose popularity was chosen"),
        (["LOG", "LOG"], "one log at a time"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["RUN", "LOG"], "is not a run, and the others are"),
        (["RUN", "RUN"], "runs must be different"),
        (["RUN", "--methods", "bpr"], "--methods is for training, and runs are trained already"),
        (["RUN", "--k", "50"], "`k` must be below the 40 items"),
        (["TIMELESS", "--shifts", "time"], "no times to split by"),
        (["FEW"], "at least 20 users"),
        (["FLAT"], "popularity cannot be shifted"),
    ],
)
def test_wrong_input_is_one_line(
    contrarec: Call, audited: tuple[Path, dict[str, Any]], log_file: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str,
) -> None:  # fmt: skip
    work, data = tmp_path / "work", tmp_path / "data"
    work.mkdir()
    data.mkdir()
    monkeypatch.chdir(work)
    log = pl.read_csv(log_file)
    log.drop("time").write_csv(data / "timeless.csv")
    log.filter(pl.col("user_id").is_in([f"u{n}" for n in range(15)])).write_csv(data / "few.csv")
    everyone = [(user, item) for user in range(30) for item in range(25)]
    flat = pl.DataFrame(everyone, schema=["user_id", "item_id"], orient="row")
    flat.write_csv(data / "flat.csv")
    places = {
        "LOG": log_file, "RUN": audited[0] / "mf-infonce-0", "TIMELESS": data / "timeless.csv",
        "FEW": data / "few.csv", "FLAT": data / "flat.csv",
    }  # fmt: skip
    answer = contrarec("audit", *(places.get(word, word) for word in arguments))
    assert answer.status == 2
    assert answer.out == ""
    *_, line = answer.err.splitlines()
    assert line.startswith("contrarec: error: ")
    assert says in line
    assert "Traceback" not in answer.err
    assert not list(work.iterdir())  # nothing was begun
