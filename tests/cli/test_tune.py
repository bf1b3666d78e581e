"""`contrarec tune`: one JSON object, a preset that other commands take, what is refused."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.tools import Answer, settings

Call = Callable[..., Answer]

SET = settings()
SET = SET[: SET.index("tau=0.2") - 1]  # from there on not every method has the setting
SET += ["--set", "epochs=2", "--set", "eval_every=1"]


def test_json_and_a_preset_for_training_comparing_and_tuning(
    contrarec: Call, folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    command = ["tune", folder, "--methods", "infonce,bpr", "--trials", 2, "--out", out, *SET]
    answer = contrarec(*command, "--json")
    assert answer.status == 0
    assert answer.out.count("\n") == 1
    found = json.loads(answer.out)
    assert (found["out"], found["preset_file"]) == (str(out), str(out / "preset.toml"))
    assert (found["trials"], found["seed"], found["monitor"]) == (2, 0, "recall@10")
    assert [(row["backbone"], row["method"]) for row in found["findings"]] == [
        ("mf", "infonce"),
        ("mf", "bpr"),
    ]
    assert set(found["findings"][0]["values"]) == {"training.lr", "training.l2", "loss.tau"}
    assert found["notes"] == []
    assert answer.err.count("mf infonce: best recall@10") == 2
    assert "[2/2] mf bpr: best recall@10" in answer.err
    assert sorted(path.name for path in out.iterdir()) == ["preset.toml", "tuning.db"]

    again = contrarec(*command, "--json")  # all trials are finished, so none is run
    assert json.loads(again.out) == found
    assert again.err == ""

    text = contrarec(*command).out.splitlines()
    assert text[0].split() == [
        "backbone", "method", "valid", "recall@10", "trial", "pruned", "seconds", "settings",
    ]  # fmt: skip
    assert text[-1] == f"Preset: {out / 'preset.toml'}"

    preset = ["--preset", out / "preset.toml"]
    run = tmp_path / "run"
    assert contrarec("train", folder, "--loss", "infonce", *preset, "--out", run).status == 0
    tau = found["findings"][0]["values"]["loss.tau"]
    assert f"tau = {tau}\n" in (run / "config.toml").read_text(encoding="utf-8")
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["metrics"]["valid"]["recall@10"] == found["findings"][0]["valid"]

    further = tmp_path / "further"
    tune = ("tune", folder, "--methods", "infonce", "--trials", 1, *preset, "--out", further)
    start = json.loads(contrarec(*tune, "--json").out)
    assert start["findings"][0]["values"] == pytest.approx(found["findings"][0]["values"])
    assert start["preset"] == str(out / "preset.toml")


def test_what_is_refused(
    contrarec: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def line(*arguments: object) -> str:
        answer = contrarec("tune", folder, "--out", tmp_path / "out", *arguments)
        assert (answer.status, answer.out, answer.err.count("\n")) == (2, "", 1)
        assert not (tmp_path / "out").exists()
        return answer.err

    assert "did you mean 'infonce'" in line("--methods", "infonse")
    assert "did you mean 'lightgcn'" in line("--methods", "bpr", "--backbones", "lightgnc")
    assert "`trials` must be at least 1, got 0" in line("--methods", "bpr", "--trials", "0")
    assert "unknown setting 'lrr'" in line("--methods", "bpr", "--set", "lrr=1")
    assert "no.toml: No such file" in line("--methods", "bpr", "--preset", "no.toml")
    assert "`device` must be auto, cpu or cuda" in line("--methods", "bpr", "--device", "tpu")
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert "pip install 'contrarec[tune]'" in line("--methods", "bpr")
