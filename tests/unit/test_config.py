"""Configs from mappings and overrides, TOML out and in."""

import math
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contrarec.config import (
    ALIASES,
    BackboneConfig,
    TrainingConfig,
    build,
    dumps_toml,
    parse_override,
    read_toml,
    settle,
    to_mapping,
)
from contrarec.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Every:
    """A field of every kind that configs have."""

    needed: str
    whole: int = 1
    real: float = 0.5
    flag: bool = False
    mode: Literal["plain", "fancy"] = "plain"
    limit: float | None = 0.1
    cut: int | float = 1
    sizes: tuple[int, ...] = (1, 2)
    span: tuple[float, float] = (0.0, 1.0)
    n_neg: int = 4


def every(**values: Any) -> Every:
    return build(Every, {"needed": "x", **values}, where="here")


# build -------------------------------------------------------------------------------------------


def test_an_integer_becomes_a_float_and_a_list_a_tuple_and_nothing_else_is_converted() -> None:
    config = every(real=2, limit=3, sizes=[5, 6], span=[1, 2.5])
    assert config == Every(needed="x", real=2.0, limit=3.0, sizes=(5, 6), span=(1.0, 2.5))
    assert type(config.real) is float
    assert type(config.limit) is float
    assert [type(part) for part in config.span] == [float, float]
    assert type(every(cut=2).cut) is int
    assert type(every(cut=2.0).cut) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"whole": 1.0}, "`whole` must be an integer, got 1.0."),
        ({"whole": True}, "`whole` must be an integer, got True."),
        ({"whole": "3"}, "`whole` must be an integer, got '3'."),
        ({"real": "0.1"}, "`real` must be a number, got '0.1'."),
        ({"real": False}, "`real` must be a number, got False."),
        ({"real": None}, "`real` must be a number, got None."),
        ({"flag": 1}, "`flag` must be true or false, got 1."),
        ({"flag": "true"}, "`flag` must be true or false, got 'true'."),
        ({"needed": 3}, "`needed` must be a text, got 3."),
        ({"mode": 3}, "`mode` must be one of 'plain', 'fancy', got 3."),
        ({"limit": "x"}, "`limit` must be a number, got 'x'."),
        ({"cut": "x"}, "`cut` must be an integer or a number, got 'x'."),
        ({"sizes": [1, 2.5]}, "`sizes` must be an integer, got 2.5."),
        ({"span": [1.0]}, "`span` must be a list of 2, each a number, got [1.0]."),
    ],
)
def test_a_value_of_another_type_is_refused_with_place_name_rule_and_value(
    values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        every(**values)
    assert str(caught.value) == f"here: {message}"


def test_a_choice_names_the_nearest_one() -> None:
    with pytest.raises(
        ConfigError, match=r"here: `mode`: unknown .*'plane' \(did you mean 'plain'"
    ):
        every(mode="plane")


def test_none_is_itself_or_the_word_and_only_where_it_may_be() -> None:
    assert every(limit=None).limit is None
    assert every(limit="none").limit is None
    with pytest.raises(ConfigError, match="`real` must be a number, got 'none'"):
        every(real="none")


def test_a_lone_value_is_a_tuple_of_one() -> None:
    assert every(sizes=7).sizes == (7,)


def test_numpy_numbers_become_plain_ones() -> None:
    config = every(whole=np.int64(3), real=np.float32(0.5), cut=np.float64(2.0))
    assert (config.whole, config.real, config.cut) == (3, 0.5, 2.0)
    assert [type(v) for v in (config.whole, config.real, config.cut)] == [int, float, float]


def test_an_unknown_key_names_the_nearest_one_and_the_place() -> None:
    with pytest.raises(ConfigError, match=r"^here: unknown setting 'reel' \(did you mean 'real'"):
        every(reel=1.0)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^here: `needed` is missing"):
        build(Every, {}, where="here")


def test_a_published_name_is_understood_and_not_given_twice() -> None:
    assert every(neg_sample=9).n_neg == 9
    with pytest.raises(ConfigError, match=r"^here: `n_neg` is given twice"):
        every(neg_sample=9, n_neg=9)


def test_a_field_that_is_called_like_a_published_name_is_meant_itself() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Noisy:
        verbose: bool = False
        eval_every: int = 5

    assert build(Noisy, {"verbose": True}, where="here") == Noisy(verbose=True)


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("neg_sample", "n_neg"),
        ("eta_epochs", "adv_passes"),
        ("embed_size", "dim"),
        ("regs", "l2"),
        ("epoch", "epochs"),
        ("verbose", "eval_every"),
        ("Ks", "ks"),
        ("w_embed_size", "adv_dim"),
    ],
)
def test_published_names(published: str, ours: str) -> None:
    assert ALIASES[published] == ours


def test_what_the_class_refuses_is_reported_with_the_place() -> None:
    with pytest.raises(ConfigError, match=r"^\[training\]: `lr` must be positive .*, got -1.0"):
        build(TrainingConfig, {"lr": -1}, where="[training]")


def test_shared_negatives_are_scored_in_float32() -> None:
    with pytest.raises(ConfigError, match="`storage` must be 'float32' unless `negatives`"):
        TrainingConfig(negatives="in_batch", storage="bfloat16")


def test_an_unknown_storage_names_the_choices() -> None:
    message = r"^\[training\]: `storage`: unknown choice 'bf16' \(.*choices: bfloat16, float32$"
    with pytest.raises(ConfigError, match=message):
        build(TrainingConfig, {"storage": "bf16"}, where="[training]")


# the config classes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "name", "value"),
    [
        (BackboneConfig, "dim", 0),
        (BackboneConfig, "n_layers", -1),
        (BackboneConfig, "dim", "64"),
        (TrainingConfig, "fidelity", "exact"),
        (TrainingConfig, "positives", "item"),
        (TrainingConfig, "storage", "bf16"),
        (TrainingConfig, "lr", 0.0),
        (TrainingConfig, "lr", math.inf),
        (TrainingConfig, "lr", math.nan),
        (TrainingConfig, "batch_size", 0),
        (TrainingConfig, "n_neg", 0),
        (TrainingConfig, "l2", -1e-5),
        (TrainingConfig, "l2", math.nan),
        (TrainingConfig, "epochs", 0),
        (TrainingConfig, "eval_every", 0),
        (TrainingConfig, "patience", 0),
        (TrainingConfig, "patience", 2.5),
        (TrainingConfig, "ks", ()),
        (TrainingConfig, "ks", (0, 20)),
        (TrainingConfig, "checkpoint_seconds", -1.0),
        (TrainingConfig, "monitor", "recall"),
        (TrainingConfig, "monitor", "@20"),
        (TrainingConfig, "monitor", "recall@5"),
        (TrainingConfig, "monitor", "recall@020"),
    ],
)
def test_values_out_of_range_are_refused_by_name(config: type, name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"`{name}`"):
        config(**{name: value})


def test_the_edges_of_the_ranges_are_allowed() -> None:
    BackboneConfig(dim=1, n_layers=0)
    TrainingConfig(l2=0, checkpoint_seconds=0, batch_size=1, n_neg=1, epochs=1, patience=1)
    TrainingConfig(ks=(5,), monitor="ndcg@5")


def test_a_class_that_settles_takes_lists_and_integers_too() -> None:
    config = TrainingConfig(lr=1, ks=[20, 50])  # type: ignore[arg-type]
    assert config.ks == (20, 50)
    assert type(config.lr) is float


def test_settle_leaves_class_variables_alone() -> None:
    settle(Every(needed="x"))


# TOML --------------------------------------------------------------------------------------------


def test_to_mapping_is_the_inverse_of_build() -> None:
    config = Every(needed='say "hi"', limit=None, sizes=(), real=1e-5, mode="fancy")
    assert set(to_mapping(config)) == {field.name for field in fields(config)}
    assert build(Every, to_mapping(config), where="here") == config
    assert build(Every, tomllib.loads(dumps_toml(to_mapping(config))), where="here") == config


scalars = (
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.booleans()
)
values = scalars | st.lists(scalars | st.lists(scalars, max_size=2), max_size=3)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
tables = st.recursive(
    st.dictionaries(keys, values, max_size=4),
    lambda inner: st.dictionaries(
        keys, values | inner | st.lists(inner, min_size=1, max_size=2), max_size=3
    ),
    max_leaves=5,
)


@given(tables)
def test_toml_written_is_read_back_exactly(table: dict[str, Any]) -> None:
    read = tomllib.loads(dumps_toml(table))
    assert read == table
    assert repr(sort(read)) == repr(sort(table))  # True is not 1, and 1.0 neither, nor -0.0 0.0


def sort(value: Any) -> Any:
    if isinstance(value, list):
        return [sort(part) for part in value]
    return {key: sort(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


def test_toml_has_no_null_so_none_is_left_out() -> None:
    assert dumps_toml({"a": None, "b": {"c": None, "d": 1}}) == "[b]\nd = 1\n"


def test_numpy_floats_are_written_as_numbers() -> None:
    assert dumps_toml({"a": np.float64(0.1)}) == "a = 0.1\n"


@pytest.mark.parametrize("value", [b"x", {1, 2}, np.zeros(2), [None], 1j, [{"a": 1}, 2]])
def test_what_toml_cannot_hold_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigError, match="`odd`: a TOML file cannot hold"):
        dumps_toml({"odd": value})


def test_a_list_of_tables_comes_back() -> None:
    rows = [{"name": "a", "loss": {"tau": 0.5}}, {}, {"loss": {"k": [1, 2]}}]
    table = {"source": "x", "row": rows, "in": {"it": [{"deep": {"er": 1}}]}, "none": []}
    assert tomllib.loads(dumps_toml(table)) == table
    assert dumps_toml({"row": [{"a": 1}, {"a": 2}]}) == "[[row]]\na = 1\n\n[[row]]\na = 2\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"a = 1\nb = \n", 2),
        (b"a = 1\n\n\nb 2\n", 4),
        (b"a = 1\na = 2\n", 2),
        (b'a = 1\nb = "open', 2),
        (b"a = [1,\n2,\n", 2),
        (b"", None),
        (b"a = 1\nb = '\xff'\n", 2),
    ],
)
def test_a_broken_file_is_reported_in_one_line_with_path_and_line(
    tmp_path: Path, text: bytes, line: int | None
) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(text)
    if line is None:
        assert read_toml(path) == {}
        return
    with pytest.raises(ConfigError) as caught:
        read_toml(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: ")
    assert len(message.splitlines()) == 1
    assert "(at " not in message


def test_a_file_that_is_not_there_or_a_folder_is_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="directory") as caught:
            read_toml(path)
        assert str(caught.value).startswith(f"{path}: ")


# overrides ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("tau=0.2", "tau", 0.2),
        ("loss.tau = .5", "loss.tau", 0.5),
        ("epochs=3", "epochs", 3),
        ("lr=1e-3", "lr", 0.001),
        ("x=-2", "x", -2),
        ("eta=inf", "eta", math.inf),
        ("eta=none", "eta", None),
        ("eta=None", "eta", None),
        ("flag=true", "flag", True),
        ("flag=False", "flag", False),
        ("fidelity=published", "fidelity", "published"),
        ("monitor=ndcg@20", "monitor", "ndcg@20"),
        ("name='1'", "name", "1"),
        ('name="a,b"', "name", "a,b"),
        ("a=b=c", "a", "b=c"),
        ("ks=10,20", "ks", [10, 20]),
        ("ks=10, 20,", "ks", [10, 20]),
        ("ks=20,", "ks", [20]),
        ("xs=0.5,none,a", "xs", [0.5, None, "a"]),
    ],
)
def test_overrides(text: str, key: str, value: Any) -> None:
    parsed = parse_override(text)
    assert parsed == (key, value)
    assert type(parsed[1]) is type(value)  # True is not 1, 3 not 3.0


@pytest.mark.parametrize("text", ["", "tau", "=3", "tau=", " = ", "tau: 3"])
def test_an_override_without_key_or_value_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expects key=value, got"):
        parse_override(text)
