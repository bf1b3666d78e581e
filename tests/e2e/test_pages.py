"""The pages' code, run as a reader would: page by page, in the order in which it stands there."""

import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contrarec.cli import main

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ("after-training", "audit", "plug-in", "reports", "shift", "start")
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a log: two tastes, popular items first."""
    rng = np.random.default_rng(0)
    rows = [
        {"user_id": f"u{user}", "item_id": f"i{2 * int(item) + user % 2}"}
        for user in range(80)
        for item in np.unique(rng.geometric(0.06, 24) % 30)
    ]
    pl.DataFrame(rows).write_csv(tmp_path / "log.csv")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("workplace")
@pytest.mark.filterwarnings("default")  # what other packages warn of is not the page's fault
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = BLOCK.findall((DOCS / f"{page}.md").read_text(encoding="utf-8"))
    assert blocks
    names: dict[str, object] = {}
    for language, text in blocks:
        if language == "python":
            exec(compile(text, f"{page}.md", "exec"), names)
            continue
        for line in text.splitlines():
            prompt, program, *words = shlex.split(line)
            assert (prompt, program) == ("$", "contrarec"), line
            assert main(words) == 0, f"{line}\n{capsys.readouterr().err}"
