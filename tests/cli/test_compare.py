"""`contrarec compare`: one JSON object, files, exit codes, a second call that runs nothing."""

import json
from pathlib import Path

import pytest

from contrarec.cli import main

FAST = [
    f"--set={pair}" for pair in ("epochs=2", "eval_every=1", "dim=8", "batch_size=64", "n_neg=4")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "thirds"
    path.mkdir()
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test_ood": []}
    for user in range(24):
        likes = [item for item in range(21) if item % 3 == user % 3]
        held = {"valid": [likes[user % 7]], "test_ood": [likes[(user + 1) % 7]]}
        train = [item for item in likes if item not in held["valid"] + held["test_ood"]]
        for part, items in {"train": train, **held}.items():
            parts[part].append(" ".join(map(str, [user, *items])))
    for part, lines in parts.items():
        (path / f"{part}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_json_files_and_a_second_call(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "table"
    methods = ["--methods", "infonce,advinfonce", "--backbones", "mf", "--seeds", "2"]
    own = ["--set", "advinfonce.adv_lr=0.01"]
    command = ["compare", str(folder), *methods, *FAST, *own, "--out", str(out), "--json"]
    assert main(command) == 0
    first = capsys.readouterr()
    found = json.loads(first.out)  # one object and nothing else
    assert found["out"] == str(out)
    assert found["seeds"] == [0, 1]
    assert [row["method"] for row in found["rows"]] == ["infonce", "advinfonce"]
    assert len(found["rows"][0]["metrics"]["ood"]["recall@20"]["values"]) == 2
    assert found["overrides"]["advinfonce.adv_lr"] == 0.01
    runs = [f"mf-{method}-{seed}" for method in ("advinfonce", "infonce") for seed in (0, 1)]
    files = ["comparison.csv", "comparison.json", "comparison.md"]
    assert sorted(path.name for path in out.iterdir()) == [*files, *runs]
    assert json.loads((out / "comparison.json").read_text(encoding="utf-8")) == {
        name: value for name, value in found.items() if name not in ("out", "notes")
    }
    assert "[4/4] mf advinfonce seed 1" in first.err

    weights = {run: (out / run / "model.safetensors").stat().st_mtime_ns for run in runs}
    assert main(command) == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == found
    assert again.err.count("finished before, not run again") == 4
    assert weights == {run: (out / run / "model.safetensors").stat().st_mtime_ns for run in runs}

    assert main([*command, "--set", "lr=0.5"]) == 2  # other settings in the same folder
    assert "holds a run with `training.lr` = 0.001 and 0.5 was asked for" in capsys.readouterr().err


def test_the_table_as_text(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", str(folder), "--methods", "bpr", "--seeds", "7,", *FAST]) == 0
    printed = capsys.readouterr().out
    assert "| mf       | bpr    |" in printed
    assert printed.endswith("Runs and table: runs/compare-thirds\n")
    assert (tmp_path / "runs" / "compare-thirds" / "mf-bpr-7" / "result.json").is_file()


def test_a_preset_file_and_a_pattern(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset, out = tmp_path / "mine.toml", tmp_path / "out"
    preset.write_text(
        "backbones = ['mf']\ntraining.l2 = 0.25\n[[row]]\nfor_loss = 'infonce-k*'\nloss.tau = 7\n",
        encoding="utf-8",
    )
    grid = ["--methods", "infonce,infonce-k*", "--seeds", "1", "--preset", str(preset)]
    assert main(["compare", str(folder), *grid, *FAST, "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["preset"] == str(preset)
    assert found["methods"] == ["infonce", "infonce-kneg"]
    assert {leaders["metric"] for leaders in found["leaders"]} == {"recall@20", "ndcg@20"}
    config = (out / "mf-infonce-kneg-0" / "config.toml").read_text(encoding="utf-8")
    assert "tau = 7.0\n" in config
    assert "l2 = 0.25\n" in config
    assert "tau = 0.1\n" in (out / "mf-infonce-0" / "config.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "bpr,infonse"], "did you mean 'infonce'?"),
        (["--methods", "bpr,"], "--methods must be names between commas, got 'bpr,'"),
        (["--methods", "bpr", "--seeds", "two"], "--seeds must be a number of seeds"),
        (["--methods", "bpr", "--seeds", "0"], "`seeds` must be different and at least one"),
        (["--methods", "bpr", "--backbones", "mff"], "did you mean 'mf'?"),
        (["--methods", "bpr", "--set", "lrr=1"], "unknown setting 'lrr'"),
        (["--methods", "bpr", "--preset", "coats"], "'coats'"),
        (["--methods", "bpr", "--preset", "no.toml"], "no.toml: No such file"),
        (["--methods", "infonse*"], "no name matches 'infonse*'"),
        (["--methods", "bpr", "--device", "tpu"], "`device` must be auto, cpu or cuda"),
        ([], "--methods"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    assert main(["compare", str(folder), "--out", str(tmp_path / "out"), *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert message in printed.err
    assert not (tmp_path / "out").exists()


def test_a_log_without_a_test_set_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\na,x\nb,y\n", encoding="utf-8")
    assert main(["compare", str(log), "--methods", "bpr"]) == 2
    assert "log.csv: no test set to compare on" in capsys.readouterr().err
