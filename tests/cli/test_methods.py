"""`contrarec methods`: the table, as text and as JSON."""

import json
from collections.abc import Callable

from cli.tools import Answer
from contrarec.backbones import BACKBONES
from contrarec.baselines import BASELINES
from contrarec.losses import LOSSES

Call = Callable[..., Answer]


def test_every_method_has_a_row(contrarec: Call) -> None:
    answer = contrarec("methods", "--json")
    assert (answer.status, answer.err, answer.out.count("\n")) == (0, "", 1)
    found = json.loads(answer.out)
    assert set(found) == {"methods", "notes"}
    assert [row["name"] for row in found["methods"]] == [*LOSSES, *BASELINES]
    for row in found["methods"]:
        assert set(row) == {"name", "kind", "summary", "source", "needs", "backbones"}
        assert row["summary"]
        assert set(row["backbones"]) <= {*BACKBONES, "none"}
        assert row["backbones"]
    popularity = next(row for row in found["methods"] if row["name"] == "infonce-popularity")
    assert popularity["needs"] == "item counts"


def test_as_text_it_is_a_line_per_method(contrarec: Call) -> None:
    answer = contrarec("methods")
    head, *lines = answer.out.splitlines()
    assert head.split() == ["name", "kind", "backbones", "needs", "summary", "source"]
    assert [line.split()[0] for line in lines] == [*LOSSES, *BASELINES]
    assert "Rendle et al., UAI 2009" in lines[0]
    assert "mf, lightgcn" in lines[0]
