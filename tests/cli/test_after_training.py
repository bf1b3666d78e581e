"""`recommend` for everyone and under filters, `score`, `update` and `export`."""

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl

from cli.tools import Answer
from contrarec.recommender import Recommender

Call = Callable[..., Answer]


def refusal(answer: Answer) -> str:
    assert (answer.status, answer.out) == (2, "")
    assert len(answer.err.splitlines()) == 1
    return answer.err


def test_everyone_to_a_file(contrarec: Call, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "recs.parquet"
    answer = contrarec("recommend", run, "--users", "all", "--k", 3, "--out", out, "--json")
    result = json.loads(answer.out)
    assert (result["users"], result["rows"]) == (40, 120)
    assert result["rows_per_second"] > 0
    rec = Recommender.load(run, device="cpu")
    got = pl.read_parquet(out)
    assert got["user_id"].unique(maintain_order=True).to_list() == rec.users.ids.to_list()
    assert got.filter(user_id=117)["item_id"].to_list() == (
        rec.recommend([117], 3)["item_id"].to_list()
    )
    (note,) = result["notes"]
    assert "1 of 40 users have no training history" in note


def test_filters_from_files(contrarec: Call, run: Path, tmp_path: Path) -> None:
    def items(*options: object) -> dict[int, list[int]]:
        answer = contrarec("recommend", run, "--users", "117,100", "--k", 30, "--json", *options)
        rows = json.loads(answer.out)["recommendations"]
        return {u: [r["item_id"] for r in rows if r["user_id"] == u] for u in (117, 100)}

    every = items()
    first, second = every[117][0], every[100][0]
    (tmp_path / "out.txt").write_text(f"{first}\n{second}\n")
    assert items("--exclude", tmp_path / "out.txt") == {
        u: [n for n in every[u] if n not in (first, second)] for u in every
    }
    (tmp_path / "out.csv").write_text(f"user_id,item_id\n117,{first}\n")
    assert items("--exclude", tmp_path / "out.csv") == every | {117: every[117][1:]}
    (tmp_path / "stock.csv").write_text(f"item_id,available\n{first},true\n{second},false\n")
    wanted = {u: [n for n in every[u] if n == first] for u in every}
    assert items("--allow", tmp_path / "stock.csv") == wanted


def test_filters_that_cannot_be(contrarec: Call, run: Path, tmp_path: Path) -> None:
    ask = ("recommend", run, "--users", "117")
    assert "no.txt: no such file" in refusal(contrarec(*ask, "--exclude", "no.txt"))
    (tmp_path / "t.csv").write_text("sku,price\n1,2\n")
    line = refusal(contrarec(*ask, "--allow", tmp_path / "t.csv"))
    assert "no column is called item_id" in line
    assert "--users all needs --out" in refusal(contrarec("recommend", run, "--users", "all"))


def test_reasons(contrarec: Call, run: Path) -> None:
    answer = contrarec("recommend", run, "--users", "117,139", "--k", 2, "--explain", "--json")
    rows = json.loads(answer.out)["recommendations"]
    rec = Recommender.load(run, device="cpu")
    want = rec.explain(117, rows[0]["item_id"], n=1)
    assert rows[0]["because_item_id"] == want["because_item_id"][0]
    assert rows[2]["because_item_id"] is None  # without a history


def test_scores(contrarec: Call, run: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.csv").write_text("item_id,user_id\n505,117\n9999,117\n505,139\n")
    answer = contrarec("score", run, "--pairs", tmp_path / "pairs.csv", "--json")
    result = json.loads(answer.out)
    rows = result["scores"]
    assert [(row["user_id"], row["item_id"]) for row in rows] == [
        (117, 505), (117, 9999), (139, 505),
    ]  # fmt: skip
    assert rows[1]["score"] is rows[2]["score"] is None
    top = Recommender.load(run, device="cpu").recommend([117], 30, filter_viewed=False)
    want = top.filter(item_id=505)["score"][0]
    assert abs(rows[0]["score"] - want) < 1e-5
    assert "2 of 3 pairs have no score" in result["notes"][0]
    (tmp_path / "pairs.csv").write_text("who,what\n1,2\n")
    line = refusal(contrarec("score", run, "--pairs", tmp_path / "pairs.csv"))
    assert "no column is called user_id" in line


def test_an_update(contrarec: Call, run: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("user_id,item_id\n900,505\n900,507\n117,901\n")
    more = tmp_path / "more"
    words = ("update", run, tmp_path / "new.csv", "--threads", 1, "--epochs", 2, "--out", more)
    answer = contrarec(*words, "--json")
    result = json.loads(answer.out)
    assert (result["run"], result["updated_from"]) == (str(more), str(run))
    assert (result["new_interactions"], result["new_users"], result["new_items"]) == (3, 1, 1)
    assert result["epochs"] == 2
    rows = json.loads(contrarec("recommend", more, "--users", "900", "--json").out)
    assert not {505, 507} & {row["item_id"] for row in rows["recommendations"]}
    assert "already holds a run" in refusal(contrarec(*words))
    assert contrarec("evaluate", more, "--data", folder).status == 0


def test_an_update_is_beside_its_run(contrarec: Call, run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("user_id,item_id\n")
    answer = contrarec("update", run, tmp_path / "new.csv", "--threads", 1)
    assert answer.status == 0
    assert answer.out.startswith(f"{run}-updated: 0 new interactions, 0 new users, 0 new items")
    one, two = (contrarec("recommend", r, "--users", "117") for r in (run, f"{run}-updated"))
    assert one.out == two.out


def test_an_export(contrarec: Call, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors"
    answer = contrarec("export", run, "--format", "parquet", "--out", out, "--json")
    assert json.loads(answer.out)["items"] == len(pl.read_parquet(out / "items.parquet"))
    ask = ("export", run, "--format")
    assert "did you mean 'parquet'" in refusal(contrarec(*ask, "parket", "--out", "x"))
    assert "--out must name a new folder" in refusal(contrarec(*ask, "parquet"))
    assert "--out is not for --format pgvector" in refusal(
        contrarec(*ask, "pgvector", "--out", "x")
    )
    assert "not an empty folder" in refusal(contrarec(*ask, "safetensors", "--out", out))


def test_an_onnx_graph_says_how_near_it_is(contrarec: Call, run: Path, tmp_path: Path) -> None:
    answer = contrarec("export", run, "--format", "onnx", "--out", tmp_path / "o", "--json")
    assert json.loads(answer.out)["largest_difference"] < 1e-5
