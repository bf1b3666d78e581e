"""The contract of every command: which stream, which exit status, how quick to start."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import contrarec.cli
from cli.tools import Answer, command, run_process, settings
from contrarec.cli import main

Call = Callable[..., Answer]


def refused(answer: Answer) -> str:
    """The one line of a refusal: status 2, nothing on standard output, no traceback."""
    assert answer.status == 2
    assert answer.out == ""
    *_, line = answer.err.splitlines()
    assert line.startswith("contrarec: error: ")
    assert answer.err.count("error:") == 1
    assert "Traceback" not in answer.err
    return line


class TestStart:
    def test_help_is_quick(self) -> None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command("--help"), capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert "recommend" in done.stdout
        # of the processor, so that a busy machine does not matter; torch alone takes 1 s
        assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.3

    def test_importing_the_command_line_loads_no_heavy_package(self) -> None:
        code = (
            "import sys, contrarec.cli as cli\n"
            "try: cli.main(['train', '--help'])\n"
            "finally: print(*{m.partition('.')[0] for m in sys.modules}, file=sys.stderr)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        heavy = {"torch", "numba", "polars", "numpy", "scipy", "narwhals", "rich"}
        assert not heavy & set(done.stderr.split())

    def test_without_arguments_there_is_help(self, contrarec: Call) -> None:
        assert contrarec().out == contrarec("--help").out

    def test_version(self, contrarec: Call) -> None:
        from importlib.metadata import version

        assert contrarec("--version") == (0, f"contrarec {version('contrarec')}\n", "")


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["tran"], "train"),
            (["train"], "DATA"),
            (["train", "nowhere"], "nowhere: no such file"),
            (["train", "nowhere", "--lss", "bpr"], "--loss"),
            (["train", "nowhere", "--loss", "infonse"], "did you mean 'infonce'"),
            (["train", "nowhere", "--backbone", "lightgnc"], "did you mean 'lightgcn'"),
            (["train", "nowhere", "--preset", "coats"], "did you mean 'coat'"),
            (["train", "nowhere", "--preset", "no.toml"], "no.toml: No such file"),
            (["methods", "bpr"], "bpr"),
            (["tune", "nowhere"], "--methods"),
            (["tune", "nowhere", "--methods", "bpr"], "nowhere: no such file"),
            (["tune", "nowhere", "--methods", "bpr,"], "--methods must be names between commas"),
            (["tune", "nowhere", "--methods", "bpr", "--trials", "x"], "--trials"),
            (["train", "nowhere", "--set", "bach_size=3"], "did you mean 'batch_size'"),
            (["train", "nowhere", "--set", "tau"], "key=value"),
            (["train", "nowhere", "--set", "tau=-1"], "`tau` must be positive, got -1"),
            (["train", "nowhere", "--seed", "x"], "--seed"),
            (["train", "nowhere", "--ray-address", "auto"], "`--ray-address` needs `--workers`"),
            (["train", "nowhere", "--workers", "x"], "--workers"),
            (["train", "nowhere", "--tables", "torchrec"], "`--tables` needs `--workers`"),
            (["train", "nowhere", "--workers", "2", "--tables", "x"], "`tables` must be 'repl"),
            (["train", "nowhere", "--seed", "-1"], "`seed`"),
            (["train", "nowhere", "--config", "no.toml"], "no.toml"),
            (["evaluate", "nowhere"], "nowhere: not a run"),
            (["evaluate", "nowhere", "--k", "10,x"], "--k"),
            (["evaluate", "nowhere", "--k", "0"], "--k"),
            (["report", "nowhere"], "nowhere: neither a run nor a comparison"),
            (["train", "nowhere", "--track", "tensorbord"], "did you mean 'tensorboard'"),
            (["recommend", "nowhere", "--users", "1"], "nowhere: not a run"),
            (["recommend", "nowhere", "--users", "1", "--out", "r.xlsx"], ".parquet or .csv"),
            (["recommend", "nowhere", "--users", "1", "--out", "no/r.csv"], "no folder 'no'"),
            (["recommend", "nowhere", "--users", "all"], "--users all needs --out"),
            (["score", "nowhere", "--pairs", "p.csv"], "p.csv: no such file"),
            (["update", "nowhere", "log.csv"], "nowhere: not a run"),
            (["similar", "nowhere", "--items", "1"], "nowhere: not a run"),
            (["data"], "Missing command"),
            (["data", "describe", "nowhere"], "nowhere: no such file"),
        ],
    )
    def test_wrong_input_is_one_line(
        self, contrarec: Call, arguments: list[str], says: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        answer = contrarec(*arguments)
        assert says in refused(answer)
        assert len(answer.err.splitlines()) == 1
        assert not list(tmp_path.iterdir())

    def test_a_broken_file_is_named_with_its_line(self, contrarec: Call, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_text("0 1 2\n1 3 x\n")
        line = refused(contrarec("data", "describe", tmp_path))
        assert f"{tmp_path}/train.txt:2: " in line
        assert "'x'" in line

    def test_a_wrong_device(self, contrarec: Call, folder: Path, tmp_path: Path) -> None:
        answer = contrarec("train", folder, "--device", "tpu", "--out", tmp_path / "run")
        assert "`device` must be auto, cpu or cuda, got 'tpu'" in refused(answer)
        assert not (tmp_path / "run").exists()

    def test_threads_below_one(self, contrarec: Call, folder: Path, tmp_path: Path) -> None:
        answer = contrarec("train", folder, "--threads", "0", "--out", tmp_path / "run")
        assert "`threads` must be at least 1, got 0" in refused(answer)

    def test_a_bug_shows_its_traceback(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr("contrarec.cli.doctor.examine", broken)
        with pytest.raises(ZeroDivisionError):
            main(["doctor"])

    def test_a_diverged_run_says_so(self, contrarec: Call, folder: Path, tmp_path: Path) -> None:
        answer = contrarec(
            "train", folder, "--out", tmp_path / "run", "--loss", "bpr", *settings("lr=1e30")[-2:]
        )
        assert "the loss became" in refused(answer)


class TestStreams:
    def test_train_as_a_process(self, folder: Path, tmp_path: Path) -> None:
        answer = run_process("train", folder, "--out", tmp_path / "run", "--json", *settings())
        assert answer.status == 0
        result = json.loads(answer.out)
        assert answer.out.count("\n") == 1
        assert result["run"] == str(tmp_path / "run")
        assert result["epochs"] == 10
        assert result["best_epoch"] in (5, 10)
        assert set(result["metrics"]) == {"valid", "ood"}
        assert 0 < result["metrics"]["ood"]["recall@10"] <= 1
        assert "on cpu with" in answer.err
        assert "epoch 10/10" in answer.err

    def test_an_installed_script_exists(self) -> None:
        script = Path(sys.executable).with_name("contrarec")
        done = subprocess.run([script, "--version"], capture_output=True, text=True)
        assert done.stdout == f"contrarec {contrarec.__version__}\n"

    def test_with_json_foreign_prints_go_to_standard_error(
        self, contrarec: Call, run: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from contrarec.answers import Answers

        plain = Answers.recommend

        def chatty(self: Answers, *arguments: object, **named: object) -> object:
            print("hello")
            return plain(self, *arguments, **named)

        monkeypatch.setattr(Answers, "recommend", chatty)
        answer = contrarec("recommend", run, "--users", "100", "--json")
        assert json.loads(answer.out)["users"] == 1
        assert "hello" in answer.err
