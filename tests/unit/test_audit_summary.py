"""What an audit says in words, of results that are made up."""

from typing import Any

import pytest

from audits import audit, method, set_info
from contrarec.audit.contrast import KEPT, SHIFTED
from contrarec.audit.result import MethodResult
from contrarec.audit.summary import summarise

A = method("infonce", 0.30, 0.20, 0.10)
B = method("advinfonce", 0.28, 0.22, 0.14)
POP = method("popularity", 0.05, 0.045, 0.045)
POP_BEATEN = {
    (m, "popularity", where): 0.0002 for m in ("infonce", "advinfonce") for where in ("id", SHIFTED)
}


def test_honest_when_nothing_is_significant() -> None:
    text = " ".join(summarise(audit([A, B], {})))
    assert (
        "In distribution (id), infonce has the highest recall@20, .3000 [.2900, .3100]; no" in text
    )
    assert text.count("no difference between the methods is significant there") == 2
    assert "Under shift (mean of g2, uniform), advinfonce has the highest recall@20, .1800" in text
    assert "advinfonce loses least, but not significantly less than infonce: it keeps 64 %" in text
    assert "infonce 50 % [10, 90], not significant (corrected p 1.000)" in text
    assert "Its cost in distribution is within chance: recall@20 .0200 [.0050, .0350] below" in text
    for said in ("no difference between the methods is significant", "not significantly"):
        text = text.replace(said, "")
    assert "significantly" not in text


def test_what_is_significant_is_called_so() -> None:
    sure = {("infonce", "advinfonce", where): 0.004 for where in ("id", SHIFTED, KEPT)}
    text = " ".join(summarise(audit([A, B], sure)))
    assert ".1800 [.1700, .1900], significantly above every other method." in text
    assert "advinfonce loses least: it keeps 64 % [10, 90] of its recall@20 in dist" in text
    assert "(infonce 50 % [10, 90], significant (corrected p .004))" in text
    assert "Its cost in distribution: recall@20 .0200 [.0050, .0350] below infonce, sign" in text
    assert "Under shift it is .0300 [.0150, .0450] above that one, significant" in text
    assert "Under shift it is .0300 [.0150, .0450] above that one, significant" in text


def test_one_with_little_to_lose_is_no_winner() -> None:
    text = " ".join(summarise(audit([A, B, POP], POP_BEATEN)))
    assert "advinfonce loses least" in text
    assert "popularity 90 %" in text
    assert "popularity keeps a larger share of less: significantly below under shift." in text
    assert "infonce cannot be told from it, the others are significantly below" in text
    # not beaten, it would have lost least
    assert "popularity loses least" in " ".join(summarise(audit([A, B, POP], {})))


def test_no_cost_where_it_is_the_best_everywhere() -> None:
    best = method("advinfonce", 0.31, 0.22, 0.14)
    text = " ".join(summarise(audit([A, best], {})))
    assert "It costs nothing in distribution: advinfonce is the best there, too." in text


def test_the_direction_of_a_difference_does_not_depend_on_the_order() -> None:
    sure = {("advinfonce", "infonce", where): 0.004 for where in ("id", SHIFTED, KEPT)}
    text = " ".join(summarise(audit([B, A], sure)))
    assert "advinfonce loses least" in text
    assert "Its cost in distribution: recall@20 .0200 [.0050, .0350] below infonce" in text


def test_a_single_method() -> None:
    text = " ".join(summarise(audit([A], {})))
    assert "infonce keeps 50 % [10, 90] of its recall@20 in distribution under shift." in text
    assert "cannot be told" not in text


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({}, "One seed each"),
        ({"settings": {"preset": None}}, "tuned for none of them"),
        ({"reference": "valid"}, "valid stands for it"),
    ],
)
def test_cautions(more: dict[str, Any], says: str) -> None:
    if "reference" in more:
        sets = (set_info("valid", "in distribution"), set_info("g2"), set_info("uniform"))
        moved = MethodResult(
            **vars(A) | {"metrics": {"valid" if k == "id" else k: v for k, v in A.metrics.items()}}
        )
        text = summarise(audit([moved], {}, sets=sets, **more))
    else:
        text = summarise(audit([A], {}, **more))
    assert any(says in sentence for sentence in text)


def test_without_an_in_distribution_set() -> None:
    text = " ".join(
        summarise(audit([A, B], {}, reference=None, sets=(set_info("g2"), set_info("uniform"))))
    )
    assert "Under shift" in text
    assert "loses least" not in text
    assert "In distribution" not in text


def test_who_was_still_improving() -> None:
    run = {**A.runs[0], "stopped": "epochs", "best_epoch": 9}
    hurried = MethodResult(**vars(A) | {"runs": (run,)})
    at_the_end = " ".join(summarise(audit([hurried, B], {})))
    assert "infonce was still improving on validation when the epochs ran out" in at_the_end
    assert "still improving" not in " ".join(summarise(audit([hurried, B], {}, kind="runs")))
    past = MethodResult(**vars(A) | {"runs": ({**run, "best_epoch": 8},)})
    assert "still improving" not in " ".join(summarise(audit([past, B], {})))


def test_an_adversary_that_never_moved() -> None:
    """Its method is the one without an adversary, which nobody should take for a finding."""
    for passes, said in ((0, True), (3, False), (None, False)):
        run = {**B.runs[0], "adversary_passes": passes}
        text = " ".join(summarise(audit([A, MethodResult(**vars(B) | {"runs": (run,)})], {})))
        assert ("advinfonce was trained as good as without its adversary" in text) == said
