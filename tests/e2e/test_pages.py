"""The pages' code, run as a reader would: every block of every page, in the order of the page."""

import shlex
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import contrarec as cr
from pages import ROOT, Reader, Rules, blocks, find_command, first, inline, lines, options

NOT_RUN = MappingProxyType(
    {
        "make ": "makes another environment; CI runs `lint` and `test`, a test the demo",
        "bash .ci/run": "runs these tests",
        ". .venv/bin/activate": "belongs to a shell",
        "pip install": "the tests' environment has every extra already",
        "python -m benchmarks.run": "takes hours, on a quiet machine",
        "python docs/": "makes the pages themselves; test_performance_page and its like run it",
        "contrarec data fetch coat": "a download",
        "contrarec data fetch ml-100k": "a download",
        "contrarec train ml-100k": "what would have been downloaded",
        "contrarec compare data/": "hours on real data, which may be absent",
        "contrarec analyse false-negatives data/": "hours on real data, which may be absent",
        "contrarec train splits --track mlflow": "migrates a database; test_tracking does it",
        "contrarec train splits --workers": "starts Ray; test_ray does it",
        "contrarec train FOLDER --workers": "starts Ray; test_parquet_parts does it",
        "contrarec train s3://": "an address of somebody else",
        "contrarec train DATA --workers": "starts Ray; test_ray does it",
        "contrarec train /shared/": "three machines; test_ray has three that are one",
        "contrarec compare DATA ": "starts Ray; test_ray does it",
        "contrarec compare /shared/": "three machines; test_ray has three that are one",
        "contrarec tune DATA ": "starts Ray; test_ray does it",
        "contrarec tune coat ": "hours on real data, which may be absent",
        "contrarec tune yahoo-r3 ": "hours on real data, which may be absent",
        "contrarec recommend RUN ": "starts Ray; test_ray does it",
        "contrarec recommend /shared/": "three machines; test_ray has three that are one",
        "contrarec evaluate RUN ": "starts Ray; test_ray does it",
        "ray ": "three machines; test_ray has three that are one",
        "GLOO_SOCKET_IFNAME=eth0 ray ": "three machines; test_ray has three that are one",
        "export GLOO_SOCKET_IFNAME": "belongs to a shell",
        '"hardest-hinge": LossSpec(': "a row of a table in the package, no program",
    }
)
"""Beginnings of lines, and blocks, that are only looked at: whether what they name exists."""

ONE = "--set epochs=1"
RULES = Rules(
    not_run=NOT_RUN,
    added={
        "contrarec train splits --track tensorboard --track-to": f"{ONE} --out runs/board",
        "contrarec train": ONE,
        "contrarec tune": f"--trials 1 {ONE}",
        "contrarec compare": f"--seeds 1 {ONE}",
        "contrarec audit log.csv": ONE,
        "contrarec analyse ablation": f"--seeds 1 {ONE}",
        "contrarec analyse intensity": f"--seeds 1 {ONE}",
        "contrarec analyse hardness": ONE,
        "contrarec analyse false-negatives splits": ONE,
    },
    instead={
        "--methods all": "--methods infonce,bpr",
        "PYTHONPATH=examples contrarec": "contrarec",
    },
)
DATABASE = "postgresql://reader@db.example/shop"
ALL = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in ALL if blocks(page)]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with logs: two tastes, popular items first."""
    rng = np.random.default_rng(0)
    rows = [
        {"user_id": f"u{user}", "item_id": f"i{2 * int(item) + user % 2}", "shown_with": 0.5}
        for user in range(80)
        for item in np.unique(rng.geometric(0.06, 24) % 30)
    ]
    log = pl.DataFrame(rows)
    log.write_csv(tmp_path / "log.csv")
    new = {"user_id": ["new", "new", "u7"], "item_id": ["i3", "i8", "brand new"]}
    pl.DataFrame(new).write_csv(tmp_path / "new.csv")
    log.select(
        "user_id",
        "item_id",
        rating=4 + pl.int_range(pl.len()) % 2,
        timestamp=1_700_000_000 + 600 * pl.int_range(pl.len()),
    ).write_csv(tmp_path / "ratings.csv")
    log.group_by("item_id").agg(propensity=pl.len() / 80).write_csv(tmp_path / "propensities.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONTRAREC_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(ROOT / "examples")
    return tmp_path


def fill_database(uri: str) -> None:
    """Make the shop that a page asks."""
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS orders")
        cursor.execute(
            "CREATE TABLE orders AS SELECT 'c' || n % 40 AS customer, 'p' || n / 40 % 25 + n % 2 "
            "AS product, timestamptz '2024-02-01' + n * interval '1 hour' AS bought_at "
            "FROM generate_series(1, 800) n"
        )


def given_readme() -> dict[str, Any]:
    """What the README's second block takes for granted: the reader's own loop."""
    return {
        "U": 5, "I": 9, "pos": torch.zeros(3, requires_grad=True), "neg": torch.zeros(3, 4),
        "users": torch.tensor([0, 1, 4]), "neg_items": torch.randint(0, 9, (3, 4)),
    }  # fmt: skip


def check_readme(names: dict[str, Any], shown: str) -> None:
    assert "recall@20" in shown
    assert "u42" in shown
    assert names["pos"].grad is not None


def check_features(names: dict[str, Any], shown: str) -> None:
    """Items that nobody has had are recommended, to those whose taste they are."""
    assert shown.startswith("40 48\n")
    rec = names["rec"]
    for table in (rec.recommend(["u0", "u1"], k=5), rec.fold_in([["i40"], ["i41"]], k=5)):
        for (user,), rows in table.group_by("user_id"):
            tastes = [int(item[1:]) % 4 for item in rows["item_id"]]
            assert tastes.count(int(str(user).removeprefix("u"))) >= 4
    assert {"i40", "i44"} & set(rec.recommend(["u0"], k=5)["item_id"])


GIVEN: dict[str, Callable[[], dict[str, Any]]] = {"README.md": given_readme}
CHECKS = {"README.md": check_readme, "docs/features.md": check_features}


@pytest.mark.usefixtures("workplace")
@pytest.mark.filterwarnings("default")  # what other packages warn of is not the page's fault
@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in PAGES])
def test_the_code_of_a_page_runs(
    page: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = RULES
    if any(DATABASE in text for _, text in blocks(ROOT / page)):
        uri = request.getfixturevalue("postgres_uri")
        fill_database(uri)
        rules = Rules(**vars(RULES) | {"instead": RULES.instead | {DATABASE: uri}})
    if not any("--out splits" in text for _, text in blocks(ROOT / page)):
        log = cr.Dataset.load("log.csv")
        log.split(valid=cr.splits.Random(0.1), tests={"id": cr.splits.Random(0.1)}).save("splits")
    names = GIVEN.get(page, dict)()
    Reader(rules, names).read(ROOT / page)
    if page in CHECKS:
        CHECKS[page](names, capsys.readouterr().out)


@pytest.mark.parametrize("page", [str(page.relative_to(ROOT)) for page in ALL])
def test_commands_within_sentences_exist(page: str) -> None:
    for text in inline(ROOT / page):
        command, rest = find_command(shlex.split(text.replace("…", "")))
        given = {word.partition("=")[0] for word in rest if word.startswith("--")}
        assert given <= options(command), f"contrarec {text}"


def test_every_block_is_found() -> None:
    for page in ALL:
        assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks(page)), page


def test_nothing_is_left_out_in_vain() -> None:
    code = [text for page in PAGES for language, text in blocks(page)]
    code += [line for text in code for line in lines(text)]
    for table in (NOT_RUN, RULES.added):
        for beginning in table:
            assert any(first({beginning: "yes"}, text) for text in code), beginning
