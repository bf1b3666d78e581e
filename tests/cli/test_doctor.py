"""`contrarec doctor`: what it reports, and that it sees a broken kernel."""

import json
import os
from collections.abc import Callable
from importlib.metadata import version

import pytest
import torch

from cli.tools import Answer
from contrarec.kernels import scores, topk

Call = Callable[..., Answer]


def test_report(contrarec: Call) -> None:
    answer = contrarec("doctor", "--json")
    report = json.loads(answer.out)
    assert answer.status == 0
    assert report["ok"]
    assert report["versions"]["torch"] == version("torch")
    assert report["threads"]["torch"] == torch.get_num_threads()
    assert 1 <= report["threads"]["cores"] <= (os.cpu_count() or 1)
    assert report["threads"]["numba"] == report["threads"]["torch"]
    assert report["threads"]["numba_layer"] in ("omp", "tbb", "workqueue")
    assert set(report["extras"]) >= {"dev"}
    assert {name for name, test in report["kernels"].items() if test["ok"]} == {
        "sampled_scores", "draw_batch", "propagate", "budget_multiplier", "masked_top_k", "in_rows",
    }  # fmt: skip


def test_text(contrarec: Call) -> None:
    answer = contrarec("doctor")
    assert f"torch {version('torch')}" in answer.out
    assert "sampled_scores     agrees" in answer.out


def test_a_wrong_gradient_is_seen(contrarec: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scores.sampled_scores_reference

    def detached(u: torch.Tensor, *rest: torch.Tensor, cosine: bool) -> torch.Tensor:
        return whole(u, *rest, cosine=cosine) + 1e-3 * u.sum()

    monkeypatch.setattr(scores, "sampled_scores_reference", detached)
    answer = contrarec("doctor")
    assert answer.status == 1
    assert "sampled_scores     DIFFERS by" in answer.out
    assert answer.out.count("DIFFERS") == 1


def test_a_wrong_order_is_seen(contrarec: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = topk.merge_top_k_reference

    def reversed_(*arguments: object) -> torch.Tensor:
        return whole(*arguments).flip(1)  # type: ignore[arg-type]

    monkeypatch.setattr(topk, "merge_top_k_reference", reversed_)
    report = json.loads(contrarec("doctor", "--json").out)
    assert [name for name, test in report["kernels"].items() if not test["ok"]] == ["masked_top_k"]


def test_without_numba(contrarec: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrarec.kernels.dispatch.HAS_NUMBA", False)
    report = json.loads(contrarec("doctor", "--json").out)
    assert (report["ok"], report["backend"], report["kernels"]) == (True, "reference", {})
    assert contrarec("doctor").status == 0
