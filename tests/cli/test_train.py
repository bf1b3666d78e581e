"""`contrarec train`: what it decides, says and keeps; stopping and going on."""

import json
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.tools import Answer, command, settings
from contrarec.tensorfile import load_tensors

Call = Callable[..., Answer]

LONG = settings("epochs=10", "batch_size=128", "eval_every=2")
SAVING = [*LONG, "--set", "checkpoint_seconds=0"]  # after every step


def wait_for_epochs(run: Path, n: int, process: "subprocess.Popen[str]") -> None:
    """Wait until the log of a run that is under way has `n` lines."""
    log = run / "metrics.jsonl"
    deadline = time.monotonic() + 100
    while not log.exists() or log.read_bytes().count(b"\n") < n:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)


def course(run: Path) -> list[dict[str, object]]:
    """The log of a run without times."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def assert_same_tensors(one: Path, other: Path | dict[str, torch.Tensor]) -> None:
    ours = load_tensors(one)[0]
    theirs = load_tensors(other)[0] if isinstance(other, Path) else other
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.fixture(scope="module")
def uninterrupted(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole")
    for name in ("warm", "run"):  # kernels are compiled by the first, so that both sides load them
        process = subprocess.run(command("train", folder, "--out", run / name, *LONG), check=False)
        assert process.returncode == 0
    return run / "run"


class TestStoppingAndGoingOn:
    def test_killed_and_resumed_is_bit_equal(
        self, folder: Path, uninterrupted: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        process = subprocess.Popen(command("train", folder, "--out", run, *SAVING))
        wait_for_epochs(run, 4, process)  # an adversarial pass is due in every second epoch
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (run / "result.json").exists()

        again = command("train", folder, "--out", run, "--resume", "--json")
        assert subprocess.run(again, check=False).returncode == 0
        assert_same_tensors(run / "model.safetensors", uninterrupted / "model.safetensors")
        states = "state/checkpoint.safetensors"  # optimizers and adversary included
        assert_same_tensors(run / states, uninterrupted / states)
        assert course(run) == course(uninterrupted)
        result, whole = (
            json.loads((run / "result.json").read_text()),
            json.loads((uninterrupted / "result.json").read_text()),
        )
        assert result["metrics"] == whole["metrics"]
        assert result["best_epoch"] == whole["best_epoch"]

    def test_ctrl_c_saves_and_a_damaged_checkpoint_is_refused(
        self, contrarec: Call, folder: Path, uninterrupted: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        process = subprocess.Popen(
            command("train", folder, "--out", run, "--json", *SAVING),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for_epochs(run, 3, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert json.loads(out)["stopped"] == "interrupted"
        assert err.endswith(f"contrarec train {folder} --out {run} --resume --threads 1\n")
        assert "Traceback" not in err
        assert not (run / "model.safetensors").exists()
        answer = contrarec("recommend", run, "--users", "100")
        assert answer.status == 2
        assert "--resume" in answer.err

        checkpoint = run / "state" / "checkpoint.safetensors"
        sound = checkpoint.read_bytes()
        damaged = bytearray(sound)
        damaged[-5] ^= 1
        for content in (bytes(damaged), sound[: len(sound) // 2], b""):
            checkpoint.write_bytes(content)
            answer = contrarec("train", folder, "--out", run, "--resume")
            assert answer.status == 2
            assert f"{checkpoint}: damaged" in answer.err
            assert "Traceback" not in answer.err
            assert checkpoint.read_bytes() == content
        checkpoint.write_bytes(sound)
        again = command("train", folder, "--out", run, "--resume")
        assert subprocess.run(again, check=False).returncode == 0
        assert_same_tensors(run / "model.safetensors", uninterrupted / "model.safetensors")

    def test_a_foreign_checkpoint_is_refused(
        self, contrarec: Call, folder: Path, run: Path, uninterrupted: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "run"
        shutil.copytree(run, copy)
        shutil.copytree(uninterrupted / "state", copy / "state", dirs_exist_ok=True)
        answer = contrarec("train", folder, "--out", copy, "--resume")
        assert answer.status == 2
        assert "belongs to another run" in answer.err
        assert "Traceback" not in answer.err

    def test_other_settings_or_data_are_refused(
        self, contrarec: Call, folder: Path, run: Path, tmp_path: Path
    ) -> None:
        answer = contrarec("train", folder, "--out", run, "--resume", "--set", "tau=0.3")
        assert (answer.status, "other settings" in answer.err) == (2, True)
        other = tmp_path / "other"
        shutil.copytree(folder, other)
        (other / "train.txt").write_text((folder / "valid.txt").read_text())
        answer = contrarec("train", other, "--out", run, "--resume")
        assert (answer.status, "other data" in answer.err) == (2, True)

    def test_a_finished_run_is_neither_overwritten_nor_changed_by_resuming(
        self, contrarec: Call, folder: Path, run: Path
    ) -> None:
        before = load_tensors(run / "model.safetensors")[0]
        answer = contrarec("train", folder, "--out", run)
        assert answer.status == 2
        assert "--resume" in answer.err
        assert "--out" in answer.err
        again = command("train", folder, "--out", run, "--resume")
        assert subprocess.run(again, check=False).returncode == 0
        assert_same_tensors(run / "model.safetensors", before)


class TestWhatItSays:
    def test_the_folder_has_a_name_by_default(
        self, contrarec: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        answer = contrarec(
            "train", folder, "--backbone", "lightgcn", "--loss", "bpr", "--seed", 3, "--json",
            "--set", "epochs=1",
        )  # fmt: skip
        result = json.loads(answer.out)
        assert result["run"] == "runs/tiny-lightgcn-bpr-3"
        assert (tmp_path / result["run"] / "model.safetensors").exists()
        assert (result["backbone"], result["loss"], result["seed"]) == ("lightgcn", "bpr", 3)

    def test_settings_of_a_file_a_preset_and_single_ones(
        self, contrarec: Call, folder: Path, tmp_path: Path
    ) -> None:
        from contrarec.runs import read_settings

        file = tmp_path / "mine.toml"
        file.write_text("seed = 7\n[training]\nepochs = 1\nn_neg = 3\n")
        answer = contrarec(
            "train", folder, "--config", file, "--preset", "coat", "--set", "n_neg=5",
            "--out", tmp_path / "run", "--threads", 1, "--json",
        )  # fmt: skip
        assert json.loads(answer.out)["threads"] == 1
        assert "with 1 CPU threads" in answer.err
        found = read_settings(tmp_path / "run")[0]
        assert (found.seed, found.training.epochs, found.training.n_neg) == (7, 1, 5)
        assert found.training.fidelity == "published"

    def test_without_a_validation_set(self, contrarec: Call, folder: Path, tmp_path: Path) -> None:
        shutil.copytree(folder, tmp_path / "data")
        (tmp_path / "data" / "valid.txt").unlink()
        answer = contrarec(
            "train", tmp_path / "data", "--out", tmp_path / "run", "--json", *settings("epochs=3")
        )
        result = json.loads(answer.out)
        assert (result["epochs"], result["best_epoch"], result["stopped"]) == (3, 3, "epochs")
        assert set(result["metrics"]) == {"ood"}
        assert any("no validation set" in note and "3 epochs" in note for note in result["notes"])
        assert "contrarec: note: no validation set" in answer.err

    def test_a_single_log_gives_up_a_tenth_for_validation_and_says_so(
        self, contrarec: Call, log: np.ndarray, tmp_path: Path
    ) -> None:
        file = tmp_path / "log.csv"
        rows = "\n".join(f"u{user},i{item}" for user, item in log)
        file.write_text(f"who,what\n{rows}\n")
        columns = ("--user-col", "who", "--item-col", "what")
        answer = contrarec(
            "train", file, *columns, "--out", tmp_path / "run", "--json", *settings()
        )
        result = json.loads(answer.out)
        taken = round(0.1 * len(log))
        assert any(f"{taken} of {len(log)}" in note for note in result["notes"])
        assert set(result["metrics"]) == {"valid"}

        # evaluated later, the log is divided in the same way
        answer = contrarec("evaluate", tmp_path / "run", "--json", *columns)
        again = json.loads(answer.out)
        assert again["metrics"] == result["metrics"]
        assert again["sets"]["valid"]["positives"] == taken
        assert not any("is not what" in note for note in again["notes"])

    def test_the_run_finds_its_data_from_another_folder(
        self, contrarec: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(folder.parent)
        run = tmp_path / "run"
        assert contrarec("train", folder.name, "--out", run, *settings()).status == 0
        monkeypatch.chdir(tmp_path)
        assert json.loads(contrarec("evaluate", run, "--json").out)["data"] == str(folder)

    def test_its_progress_on_a_pipe(self, contrarec: Call, folder: Path, tmp_path: Path) -> None:
        answer = contrarec("train", folder, "--out", tmp_path / "run", *settings())
        lines = [line for line in answer.err.splitlines() if line.startswith("epoch ")]
        assert len(lines) == 2
        assert "epoch 10/10, loss " in lines[1]
        assert "recall@10" in lines[1]
        assert "best epoch" in answer.out
        assert "ood" in answer.out

    @pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
    def test_its_bar_on_a_terminal(self) -> None:
        from contrarec.config import TrainingConfig
        from contrarec.training.progress import progress

        reader, writer = os.openpty()
        with os.fdopen(writer, "w") as terminal:
            config = TrainingConfig(epochs=4, monitor="recall@20")
            with progress(config, title="tiny", stream=terminal) as hooks:
                assert hooks.on_step
                assert hooks.on_eval
                assert hooks.on_epoch
                hooks.on_step(0, "max", 1, 2)
                hooks.on_eval(2, {"valid": {"recall@20": 0.25}}, True)
                hooks.on_epoch({"epoch": 3, "loss": 1.5, "seconds": 2.0})
            terminal.flush()
            shown = ""
            while select.select([reader], [], [], 0.2)[0]:  # a terminal hands out pieces
                shown += os.read(reader, 100_000).decode()
        os.close(reader)
        assert "tiny" in shown
        assert "epoch 3/4, loss 1.5000, best recall@20 0.2500 (1 epochs ago)" in shown
