"""The tables of the zoo: what they claim is worked out by hand, and the page is up to date."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "results"


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    spec = importlib.util.spec_from_file_location("make_zoo", FOLDER / "make_zoo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("make_tables", None)


def preset(*methods: str, **more: Any) -> dict[str, Any]:
    tuned = {"valid": 0.3, "trials": 8, "pruned": 2, "seconds": 1800.0}
    rows = [
        {"for_loss": name, "for_backbone": "mf", "tuned": tuned, "loss": {"tau": 0.12345},
         "training": {"epochs": 30}}
        for name in methods
    ]  # fmt: skip
    about = {"monitor": "recall@20", "versions": {"torch": "2"}}
    one = {"source": f"tune {methods[0]}", "backbones": ["mf"], "tuned": about, "row": rows}
    return one | more


def comparison() -> dict[str, Any]:
    """`advinfonce` is best; `bpr` is beaten by it, `advinfonce-closed` is not."""
    means = {"bpr": 0.1, "advinfonce-closed": 0.19, "advinfonce": 0.2}
    rows = [
        {
            "backbone": "mf",
            "method": name,
            "seconds_per_epoch": 1.0,
            "runs": [],
            "kl": 0.0123 if name.startswith("adv") else None,
            "metrics": {
                "ood": {
                    metric: {"mean": mean, "sd": 0.01, "values": [mean]}
                    for metric in ("recall@20", "ndcg@20", "hit@20")
                }
            },
        }
        for name, mean in means.items()
    ]
    places = [{"backbone": "mf", "test": "ood", "metric": m} for m in ("recall@20", "ndcg@20")]
    contrasts = [
        place
        | {"method": name, "against": against, "difference": means[name] - means[against],
           "low": means[name] - means[against] - 0.02, "high": means[name] - means[against] + 0.02,
           "p": p / 2, "p_holm": p}
        for place in places
        for name, against, p in (
            ("bpr", "advinfonce", 0.0002), ("advinfonce-closed", "advinfonce", 0.25),
            ("advinfonce", "bpr", 0.0002),
        )
    ]  # fmt: skip
    leaders = [p | {"best": "advinfonce", "methods": ["advinfonce", "advinfonce-closed"]}
               for p in places]  # fmt: skip
    return {"overrides": {"epochs": 30}, "rows": rows, "leaders": leaders, "contrasts": contrasts,
            "users": {"ood": 237}}  # fmt: skip


def test_the_best_stands_first_and_who_is_not_beaten_is_bold(zoo: ModuleType) -> None:
    kept = zoo.trimmed(comparison())
    assert {c["against"] for c in kept["contrasts"]} == {"advinfonce"}
    assert set(kept["rows"][0]["metrics"]["ood"]) == {"recall@20", "ndcg@20"}
    found = preset("bpr", "advinfonce", "advinfonce-closed")
    best, closed, bpr = zoo.method_lines(kept, found, "ood", "mf")
    assert best["method"] == "advinfonce"
    assert best["Δ ndcg@20"] == "the best"
    assert closed["ndcg@20"] == "**.1900 ± .0100**"
    assert closed["Δ ndcg@20"] == "−.0100 [−.0300, +.0100] p .250"
    assert bpr["ndcg@20"] == ".1000 ± .0100"
    assert bpr["Δ recall@20"] == "−.1000 [−.1200, −.0800] p < .001"
    assert (bpr["valid"], bpr["settings"]) == (".3000", "tau 0.123")


def test_it_is_said_which_forms_of_advinfonce_are_beaten(zoo: ModuleType) -> None:
    line = next(zoo.verdicts(zoo.trimmed(comparison())))
    assert line == (
        "- `ood`, mf, recall@20: best is `advinfonce`; beaten by none: `advinfonce-closed`. "
        "AdvInfoNCE: among them `advinfonce`, `advinfonce-closed`; none of its forms is beaten."
    )
    beaten = comparison()
    for found in beaten["leaders"]:
        found |= {"best": "bpr", "methods": ["bpr"]}
    line = next(zoo.verdicts(zoo.trimmed(beaten)))
    assert line.endswith(
        "beaten by none: no other. AdvInfoNCE: beaten `advinfonce`, `advinfonce-closed`."
    )


def test_it_is_said_how_far_the_weights_are_from_uniform(zoo: ModuleType, tmp_path: Path) -> None:
    assert list(zoo.spreads(zoo.trimmed(comparison()))) == [
        "- Weights of the negatives, mf: KL to uniform at the kept epoch, in nats, mean over rows "
        "and seeds: `advinfonce-closed` 1.2e-02, `advinfonce` 1.2e-02. At 0 the loss is InfoNCE, "
        "the negatives' sum times `k_neg`."
    ]
    for seed, kept in ((0, 0.1), (1, 0.3)):
        folder = tmp_path / f"mf-advinfonce-{seed}"
        folder.mkdir()
        (folder / "result.json").write_text('{"best_epoch": 2}')
        lines = [f'{{"epoch": {epoch}, "kl": {{"mean": {kl}}}}}' for epoch, kl in
                 ((1, 9), (2, kept), (3, 9))]  # fmt: skip
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    rows = [{"backbone": "mf", "method": "advinfonce"}]
    found = zoo.with_kl({"rows": rows, "seeds": [0, 1]}, tmp_path)["rows"]
    assert found == [{"backbone": "mf", "method": "advinfonce", "kl": pytest.approx(0.2)}]


def test_searches_are_joined_only_if_they_are_of_one_kind(zoo: ModuleType) -> None:
    both = zoo.joined([preset("bpr"), preset("infonce", backbones=["lightgcn"])])
    assert [row["for_loss"] for row in both["row"]] == ["bpr", "infonce"]
    assert both["backbones"] == ["lightgcn", "mf"]
    assert both["source"] == "tune bpr\ntune infonce"
    with pytest.raises(SystemExit, match=r"searched twice: .*'bpr'"):
        zoo.joined([preset("bpr", "sl"), preset("bpr")])
    with pytest.raises(SystemExit, match="not of one kind"):
        zoo.joined([preset("bpr"), preset("sl", tuned={"monitor": "ndcg@20"})])


def test_the_page_is_what_the_files_say(zoo: ModuleType) -> None:
    zoo.main(["--check"])
