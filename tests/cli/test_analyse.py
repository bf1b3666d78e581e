"""`contrarec analyse`: one JSON object each, pages, refusals in one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.test_contract import refused
from cli.tools import FAST, Answer, settings
from contrarec.cli import main
from contrarec.report.analyses import page_of, section_of
from contrarec.report.blocks import Chart, Table

Call = Callable[..., Answer]
THREADS = ("--threads", "1")
ANALYSES = ("hardness", "false-negatives", "geometry")


@pytest.fixture(scope="module")
def traced(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained with the analyses attached."""
    path = tmp_path_factory.mktemp("traced") / "run"
    assert main(["analyse", "hardness", str(folder), "--out", str(path), *settings()]) == 0
    return path


def asked(call: Call, *arguments: object) -> dict[str, Any]:
    answer = call("analyse", *arguments, "--json")
    assert answer.status == 0, answer.err
    assert answer.out.count("\n") == 1
    found: dict[str, Any] = json.loads(answer.out)
    return found


class TestModels:
    @pytest.mark.parametrize("name", ANALYSES)
    def test_one_training_serves_them_all(self, contrarec: Call, traced: Path, name: str) -> None:
        found = asked(contrarec, name, traced)
        assert found["analysis"] == name
        assert [line["epoch"] for line in found["trace"]] == [0, 5, 10]
        assert found["settings"]["loss"]["tau"] == 0.2
        assert found["definitions"]

    @pytest.mark.parametrize("name", ANALYSES)
    def test_a_plain_run_gives_its_final_state(self, contrarec: Call, run: Path, name: str) -> None:
        found = asked(contrarec, name, run)
        assert found["trace"] == []
        assert found["state"]
        assert "trained without the analysis" in found["notes"][0]

    def test_the_same_command_trains_nothing_again(
        self, contrarec: Call, folder: Path, traced: Path
    ) -> None:
        before = (traced / "model.safetensors").stat().st_mtime_ns
        found = asked(contrarec, "hardness", folder, "--out", traced, *settings())
        assert (traced / "model.safetensors").stat().st_mtime_ns == before
        assert len(found["trace"]) == 3

    def test_hardness_lists_the_users_own_ids(self, contrarec: Call, run: Path) -> None:
        found = asked(contrarec, "hardness", run, "--for", "105,110", "--k", "3")
        assert [row["user_id"] for row in found["pairs"]] == [105, 110]
        assert all(500 <= item["item_id"] < 530 for item in found["items"]["hardest"])
        assert len(found["items"]["hardest"]) == 3
        text = contrarec("analyse", "hardness", run).out
        assert "Hardest: " in text
        assert "KL to uniform over users" in text

    def test_false_negatives_in_words(self, contrarec: Call, traced: Path) -> None:
        found = asked(contrarec, "false-negatives", traced)
        assert found["truth"] == "the positives of ood"
        assert set(found["state"]["detectors"]) == {
            "adversary", "random", "popularity", "closed_form", "score",
        }  # fmt: skip
        text = contrarec("analyse", "false-negatives", traced).out
        assert found["verdict"] in text
        assert "Over training" in text

    def test_a_file_of_false_negatives(self, contrarec: Call, run: Path, tmp_path: Path) -> None:
        file = tmp_path / "liked.csv"
        file.write_text("user_id,item_id\n100,501\n101,500\n")  # of the other parity: not in train
        found = asked(contrarec, "false-negatives", run, "--truth", file)
        assert found["state"]["false_negatives"] == found["state"]["users"] == 2

    def test_geometry_has_points(self, contrarec: Call, run: Path) -> None:
        found = asked(contrarec, "geometry", run)
        assert {"item_id", "x", "y", "train_count", "group"} == set(found["plane"]["items"][0])
        assert "two main directions" in contrarec("analyse", "geometry", run).out

    def test_dro(self, contrarec: Call, run: Path) -> None:
        found = asked(contrarec, "dro", run, "--etas", "0.01,0.5", *THREADS)
        assert [line["eta"] for line in found["state"]["curve"]] == [0.01, 0.5]
        assert found["state"]["n_neg"] == 8
        assert found["state"]["dual_gap"] < 1e-6
        assert "primal and dual" in contrarec("analyse", "dro", run).out


class TestStudies:
    @pytest.mark.parametrize("name", ["ablation", "intensity"])
    def test_a_study(self, contrarec: Call, folder: Path, tmp_path: Path, name: str) -> None:
        only = {"ablation": "advinfonce,infonce", "intensity": "passes-0,lr-tenfold"}[name]
        own = [
            word
            for text in FAST
            for word in ("--set", f"advinfonce.{text}" if text.startswith("adv") else text)
        ]
        command = [
            name, folder, "--only", only, "--seeds", "1", *THREADS, *own, "--out", tmp_path / "out",
        ]  # fmt: skip
        found = asked(contrarec, *command)
        assert found["analysis"] == found["study"] == name
        assert found["methods"] == only.split(",")
        assert json.loads((tmp_path / "out" / f"{name}.json").read_text())["rows"] == found["rows"]
        check_section(found)
        again = contrarec("analyse", *command)
        assert again.err.count("finished before, not run again") == 2
        assert "Runs and tables" in again.out


class TestSections:
    @pytest.mark.parametrize("name", [*ANALYSES, "dro"])
    def test_tables_and_charts_fit_their_data(
        self, contrarec: Call, traced: Path, name: str
    ) -> None:
        check_section(asked(contrarec, name, traced))


def check_section(result: dict[str, Any]) -> None:
    """Every row has all columns, and every field of a chart is in its rows."""
    page = page_of(result, "contrarec analyse")
    assert page.summary
    for block in section_of(result).blocks:
        if isinstance(block, Table):
            assert all(len(row) == len(block.columns) for row in block.rows)
        if isinstance(block, Chart):
            names = {name for row in block.rows for name in row}
            assert set(_fields(block.spec)) <= names
    json.dumps([getattr(b, "spec", None) for b in section_of(result).blocks])


def _fields(spec: Any) -> list[str]:
    if isinstance(spec, dict):
        own = [spec["field"]] if "field" in spec else []
        return own + [name for part in spec.values() for name in _fields(part)]
    if isinstance(spec, list):
        return [name for part in spec for name in _fields(part)]
    return []


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "Missing command"),
            (["hardness"], "RUN|DATA"),
            (["hardness", "nowhere"], "nowhere: no such file"),
            (["hardness", "nowhere", "--users", "0"], "--users must be at least 1, got 0"),
            (["hardness", "nowhere", "--k", "0"], "--k must be at least 1, got 0"),
            (["hardness", "nowhere", "--loss", "infonse"], "did you mean 'infonce'"),
            (["hardness", "nowhere", "--page", "p.pdf"], "--page must end in .html, got 'p.pdf'"),
            (["hardness", "nowhere", "--page", "no/p.html"], "--page: no folder 'no'"),
            (["false-negatives", "nowhere", "--data", "x"], "--data is for a RUN"),
            (["dro", "nowhere"], "nowhere: not a run"),
            (["dro", "nowhere", "--etas", "x"], "--etas must be numbers between commas, got 'x'"),
            (["dro", "nowhere", "--rows", "0"], "--rows must be at least 1, got 0"),
            (["ablation", "nowhere", "--only", "infonc"], "did you mean 'infonce"),
            (["ablation", "nowhere", "--seeds", "x"], "--seeds"),
            (["intensity", "nowhere"], "nowhere: no such file"),
        ],
    )
    def test_wrong_input_is_one_line(
        self, contrarec: Call, arguments: list[str], says: str, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.chdir(tmp_path)
        answer = contrarec("analyse", *arguments)
        assert says in refused(answer)
        assert len(answer.err.splitlines()) == 1
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("name", ["hardness", "false-negatives", "dro"])
    def test_a_run_without_an_adversary(
        self, contrarec: Call, folder: Path, tmp_path: Path, name: str
    ) -> None:
        own = [word for word in settings() if "adv_" not in word]
        own = [
            word
            for word, follower in zip(own, [*own[1:], ""], strict=True)
            if not (word == "--set" and follower in ("", "--set"))
        ]
        run = tmp_path / "run"
        assert main(["train", str(folder), "--loss", "infonce", "--out", str(run), *own]) == 0
        answer = contrarec("analyse", name, run)
        assert "InfoNCE has no adversary" in refused(answer)

    def test_data_without_known_false_negatives(
        self, contrarec: Call, folder: Path, tmp_path: Path
    ) -> None:
        log = tmp_path / "log"
        log.mkdir()
        (log / "train.txt").write_text((folder / "train.txt").read_text())
        answer = contrarec(
            "analyse", "false-negatives", log, "--out", tmp_path / "run", *settings()
        )
        assert "no false negatives are known" in refused(answer)
        assert not (tmp_path / "run").exists()

    def test_a_run_is_not_trained_again(self, contrarec: Call, run: Path) -> None:
        answer = contrarec("analyse", "hardness", run, "--preset", "coat", "--set", "tau=1")
        assert "leave out --preset, --set" in refused(answer)

    def test_an_unknown_user(self, contrarec: Call, run: Path) -> None:
        answer = contrarec("analyse", "hardness", run, "--for", "999")
        assert "user 999 is not known" in refused(answer)

    def test_other_data_than_the_runs(
        self, contrarec: Call, folder: Path, run: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other"
        other.mkdir()
        for name in ("train", "test_ood"):
            (other / f"{name}.txt").write_text((folder / f"{name}.txt").read_text())
        (other / "train.txt").write_text("100 500\n")
        answer = contrarec("analyse", "false-negatives", run, "--data", other)
        assert "was trained on other data" in refused(answer)
