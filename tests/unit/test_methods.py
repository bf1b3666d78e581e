"""The table of methods, and what `all`, patterns and names stand for."""

import warnings
from dataclasses import replace

import pytest

from contrarec import methods
from contrarec.backbones import BACKBONES
from contrarec.baselines import BASELINES
from contrarec.errors import ConfigError
from contrarec.losses import LOSSES
from contrarec.methods import choose_methods, method_table

BOTH = ("mf", "lightgcn")
ON_MF = [name for name, spec in LOSSES.items() if "mf" in (spec.backbones or BOTH)]
"""Losses that go with MF."""


@pytest.fixture
def _graph_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two more losses in the table, which go with LightGCN alone."""
    graph = replace(LOSSES["bpr"], kind="graph", needs="the graph", backbones=("lightgcn",))
    table = {"gc-one": graph, **LOSSES, "gc-two": graph}
    monkeypatch.setattr(methods, "LOSSES", table)
    monkeypatch.setattr("contrarec.losses.table.LOSSES", table)
    monkeypatch.setattr("contrarec.settings.LOSSES", table)


@pytest.mark.usefixtures("_graph_only")
def test_the_table_says_which_backbones_a_method_goes_with() -> None:
    table = method_table()
    assert list(table) == ["gc-one", *LOSSES, "gc-two", *BASELINES]
    assert (table["ease"].kind, table["ease"].backbones) == ("baseline", ("none",))
    assert table["gc-one"].backbones == ("lightgcn",)
    assert table["bpr"].backbones == tuple(BACKBONES)
    assert (table["gc-two"].kind, table["gc-two"].needs) == ("graph", "the graph")


def test_names_patterns_and_all() -> None:
    assert list(choose_methods(["all"], BOTH)) == [*LOSSES, *BASELINES]
    infonce = [name for name in LOSSES if name.startswith("infonce")]
    assert len(infonce) == 4
    assert list(choose_methods(["infonce*"], ["mf"])) == infonce
    assert list(choose_methods(["infonce-[kr]*", "bpr"], BOTH)) == [
        "infonce-kneg", "infonce-random", "bpr",
    ]  # fmt: skip
    # what is named stands where it is named, and overlapping patterns give a name once
    chosen = list(choose_methods(["infonce-*", "all", "infonce-random"], BOTH))
    assert chosen[:2] == ["infonce-kneg", "infonce-popularity"]
    assert chosen[-1] == "infonce-random"
    assert sorted(chosen) == sorted([*LOSSES, *BASELINES])
    assert next(iter(choose_methods(["advinfonce", "all"], BOTH))) == "advinfonce"


@pytest.mark.usefixtures("_graph_only")
def test_a_method_runs_on_the_backbones_that_it_goes_with() -> None:
    chosen = choose_methods(["gc-two", "bpr", "ease"], BOTH)
    assert chosen == {"gc-two": ("lightgcn",), "bpr": BOTH, "ease": ("none",)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(choose_methods(["all"], BOTH)) == len(LOSSES) + 2 + len(BASELINES)
    with pytest.warns(UserWarning, match="do not go with mf") as caught:
        chosen = choose_methods(["all"], ["mf"])
    assert len(caught) == 1  # one note for all of them
    assert "gc-one (needs lightgcn), " in str(caught[0].message)
    assert list(chosen) == [*ON_MF, *BASELINES]
    assert set(chosen.values()) == {("mf",), ("none",)}


@pytest.mark.usefixtures("_graph_only")
@pytest.mark.parametrize(
    ("names", "backbones", "message"),
    [
        (["gc-one", "bpr"], ["mf"], r"'gc-one' goes with the backbone lightgcn, got mf; see"),
        (["gc-*"], ["mf"], r"none of \['gc-\*'\] goes with mf"),
        (["infonse*"], ["mf"], r"no name matches 'infonse\*'; choices: gc-one, bpr"),
        (["bpr", "infonse"], ["mf"], "did you mean 'infonce'"),
        (["bpr", "bpr"], ["mf"], "`methods` must be different"),
        ([], ["mf"], "`methods` must be different and at least one"),
        (["bpr"], ["mf", "mf"], "`backbones` must be different"),
        (["bpr"], ["lightgnc"], "did you mean 'lightgcn'"),
    ],
)
def test_what_cannot_be_chosen(names: list[str], backbones: list[str], message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigError, match=message):
            choose_methods(names, backbones)
