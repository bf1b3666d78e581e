"""Baselines on the command line: every command that reads a run, and comparisons with losses."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.tools import Answer
from contrarec.recommender import Recommender

Call = Callable[..., Answer]


@pytest.mark.parametrize("loss", ["popularity", "itemknn", "ease", "als"])
def test_from_data_to_recommendations(
    contrarec: Call, folder: Path, tmp_path: Path, loss: str, request: pytest.FixtureRequest
) -> None:
    if loss == "als":
        request.getfixturevalue("implicit")
    run = tmp_path / "run"
    answer = contrarec("train", folder, "--loss", loss, "--out", run, "--json")
    assert answer.status == 0
    result = json.loads(answer.out)
    expected = {"backbone": "none", "loss": loss, "best_epoch": 0, "epochs": 0, "stopped": "fitted"}
    assert result | expected == result
    assert f"fitting {loss}, seed 0, on cpu with" in answer.err
    assert f"fitted, best recall@20 {result['metrics']['valid']['recall@20']:.4f}, " in answer.err
    assert "epoch" not in answer.err
    (line,) = (run / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["metrics"] == result["metrics"]
    assert 'name = "none"' in (run / "config.toml").read_text()

    evaluated = json.loads(contrarec("evaluate", run, "--json").out)
    assert evaluated["metrics"].keys() == {"valid", "ood"}
    for name, metrics in evaluated["metrics"].items():
        assert {key: metrics[key] for key in result["metrics"][name]} == result["metrics"][name]
    assert (evaluated["best_epoch"], evaluated["epochs"]) == (0, 0)

    rows = json.loads(contrarec("recommend", run, "--users", "100,101", "--k", 3, "--json").out)
    assert len(rows["recommendations"]) == 6
    similar = contrarec("similar", run, "--items", "500", "--k", 3, "--json")
    if loss == "popularity":
        assert similar == Answer(2, "", similar.err)
        assert "'popularity' knows no similar items" in similar.err
    else:
        parities = {row["similar_item_id"] % 2 for row in json.loads(similar.out)["neighbours"]}
        assert parities == {0}  # items are liked by the users of their own parity


def test_the_text_says_that_it_was_fitted(contrarec: Call, folder: Path, tmp_path: Path) -> None:
    answer = contrarec("train", folder, "--loss", "itemknn", "--set", "n_neighbours=5", "--out",
                       tmp_path / "run")  # fmt: skip
    assert answer.status == 0
    assert answer.out.splitlines()[0].endswith(" s, fitted, without epochs")
    assert "best epoch" not in answer.out
    assert Recommender.load(tmp_path / "run").settings.loss.n_neighbours == 5


def test_without_a_validation_set_nothing_is_said_of_epochs(
    contrarec: Call, folder: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.txt").write_text((folder / "train.txt").read_text())
    answer = contrarec("train", data, "--loss", "ease", "--out", tmp_path / "run", "--json")
    assert answer.status == 0
    assert "epochs" not in answer.err
    assert json.loads(answer.out)["metrics"] == {}


def test_a_preset_goes_with_a_baseline(contrarec: Call, folder: Path, tmp_path: Path) -> None:
    answer = contrarec("train", folder, "--loss", "ease", "--preset", "coat", "--out",
                       tmp_path / "run")  # fmt: skip
    assert answer.status == 0
    settings = Recommender.load(tmp_path / "run").settings
    assert settings == Recommender(loss="ease").settings


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loss", "eaze"], "did you mean 'ease'?"),
        (["--loss", "ease", "--backbone", "mf"], "goes with no backbone, got 'mf'"),
        (["--loss", "ease", "--set", "lr=0.1"], "'training.lr': means nothing to 'ease'"),
        (["--loss", "ease", "--set", "tau=0.1"], "unknown setting 'tau'"),
        (["--loss", "ease", "--set", "lam=-1"], "`lam` must be positive, got -1.0"),
        (["--loss", "ease", "--set", "max_gb=1e-7"], "`max_gb` must be at least 0.1 for EASE on"),
        (["--loss", "infonce", "--backbone", "none"], "unknown backbone 'none'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    contrarec: Call, folder: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    answer = contrarec("train", folder, "--out", tmp_path / "run", "--json", *arguments)
    assert (answer.status, answer.out) == (2, "")
    assert message in answer.err.splitlines()[-1]
    assert "Traceback" not in answer.err
    assert not (tmp_path / "run").exists()


def test_a_missing_library_is_one_line_with_the_remedy(
    contrarec: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "implicit.cpu.als", None)
    answer = contrarec("train", folder, "--loss", "als", "--out", tmp_path / "run")
    assert answer.status == 2
    assert "pip install 'contrarec[als]'" in answer.err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_comparison_runs_a_baseline_once(contrarec: Call, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "table"
    settings = [f"--set={pair}" for pair in ("epochs=1", "dim=8", "n_neg=4", "infonce.tau=0.2")]
    command = [
        "compare", folder, "--methods", "popularity,ease,infonce", "--preset", "coat",
        "--backbones", "mf,lightgcn", "--seeds", 2, *settings, "--out", out, "--json",
    ]  # fmt: skip
    answer = contrarec(*command)
    assert answer.status == 0
    found = json.loads(answer.out)
    places = [(row["backbone"], row["method"]) for row in found["rows"]]
    assert places == [
        ("none", "popularity"), ("none", "ease"), ("mf", "infonce"), ("lightgcn", "infonce")
    ]  # fmt: skip
    names = {f"{backbone}-{method}-{seed}" for backbone, method in places for seed in (0, 1)}
    assert {path.name for path in out.iterdir() if path.is_dir()} == names
    assert [row["seconds_per_epoch"] is None for row in found["rows"]] == [True, True, False, False]
    tested = {(c["backbone"], c["method"], c["against"]) for c in found["contrasts"]}
    one_way = {("none", "ease", "popularity")} | {
        (backbone, "infonce", baseline)
        for backbone in ("mf", "lightgcn")
        for baseline in ("popularity", "ease")
    }
    assert tested == one_way | {(backbone, b, a) for backbone, a, b in one_way}
    assert "[8/8] lightgcn infonce seed 1" in answer.err

    again = contrarec(*command)
    assert json.loads(again.out) == found
    assert again.err.count("finished before, not run again") == 8


def test_a_comparison_of_baselines_alone(contrarec: Call, folder: Path, tmp_path: Path) -> None:
    answer = contrarec(
        "compare", folder, "--methods", "itemknn,popularity", "--seeds", 1, "--out", tmp_path
    )
    assert answer.status == 0
    assert "| none     | itemknn    |" in answer.out
    answer = contrarec(
        "compare", folder, "--methods", "popularity", "--seeds", 1, "--set", "lrr=1", "--out",
        tmp_path / "new",
    )  # fmt: skip
    assert answer.status == 2
    assert "unknown setting 'lrr'" in answer.err
