"""Config dataclasses, built from mappings and from `key=value` overrides.

A key that is not a setting is an error, never ignored. What is written here decides
what a model learns; run options (device, paths) are arguments elsewhere.
"""

import dataclasses
import math
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from contrarec.errors import ConfigError, unknown
from contrarec.toml import dumps_toml as dumps_toml
from contrarec.toml import loads_toml as loads_toml
from contrarec.toml import read_toml as read_toml

T = TypeVar("T")

OptimizerName = Literal["auto", "adam", "lazy_adam"]

NO_BACKBONE = "none"
"""What stands in the place of a backbone's name where there is none."""

FROM_FEATURES = "alpharec"
"""The backbone that is made from given vectors of items."""

ALIASES = {
    "Ks": "ks",
    "embed_size": "dim",
    "epoch": "epochs",
    "eta_epochs": "adv_passes",
    "neg_sample": "n_neg",
    "regs": "l2",
    "verbose": "eval_every",
    "w_embed_size": "adv_dim",
}
"""Published names (of the AdvInfoNCE code's options) that are understood for ours."""

_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """What turns ids into vectors."""

    name: str = "mf"
    """`mf`, `lightgcn` or another name in `contrarec.backbones.BACKBONES`; `none` for a baseline,
    which does not look at what follows."""
    dim: int = 64
    """Length of a vector."""
    n_layers: int = 2
    """Graph layers; a backbone without a graph (`mf`) has none and does not look at it."""
    ego_weight: float | None = None
    """Share of layer 0 in the output, the rest being the mean of the other layers. None is the
    backbone's own: that of every layer, but 0.2 in `lightgcn++` (published 0.1 to 0.5).
    0 leaves layer 0 out, which some graph losses stand for."""
    degree_exponent: float = 0.6
    """`lightgcn++`: what is divided by is a node's own degree to the power of this."""
    neighbour_exponent: float = -0.1
    """`lightgcn++`: likewise for its neighbours' degrees; below 0 the popular ones count more."""
    features: str = ""
    """`alpharec`, which has to have it: a file of item vectors, `.npy` or `.parquet`; see
    `contrarec.data.features`."""
    feature_ids: str = ""
    """`alpharec`: the item ids of a `.npy` file's rows, one a line. If empty, the text file beside
    it: `items.txt` for `items.npy`."""
    map: Literal["mlp", "linear"] = "mlp"
    """`alpharec`: what turns an item's given vector into one of length `dim`."""
    hidden: int | None = None
    """`alpharec`: width of the hidden layer of `mlp`; none: half of that of the given vectors."""

    def __post_init__(self) -> None:
        settle(self)
        require(self.dim >= 1, "dim", "be at least 1", self.dim)
        require(self.n_layers >= 0, "n_layers", "be at least 0", self.n_layers)
        share = self.ego_weight
        require(share is None or 0 <= share <= 1, "ego_weight", "be in [0, 1] or none", share)
        for name in ("degree_exponent", "neighbour_exponent"):
            value = getattr(self, name)
            require(math.isfinite(value), name, "be finite", value)
        given = self.name == FROM_FEATURES
        rule = f"name a file of item vectors with the backbone {self.name!r}"
        require(bool(self.features) or not given, "features", rule, self.features)
        for name in ("features", "feature_ids"):
            value, rule = getattr(self, name), f"be left out with the backbone {self.name!r}"
            require(given or not value, name, rule, value)
        require(self.hidden is None or self.hidden >= 1, "hidden", "be at least 1", self.hidden)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the model is optimised, and when that stops."""

    fidelity: Literal["corrected", "published"] = "corrected"
    """`corrected`: every row of an epoch is used, sampled negatives are under L2 like the users and
    positives, the adversary is under its own L2 (its loss's `adv_l2`). `published` does what the
    authors' code does: the last partial batch is dropped, no L2 on sampled negatives, none on the
    adversary."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    optimizer: OptimizerName = "auto"
    """`adam`; `lazy_adam`, which moves only the rows that a batch touched (for `mf` alone: the
    gradient of the other backbones reaches every row); or `auto`: lazy from 200,000 users and items
    on, where Adam would spend most of a step on rows without a gradient."""
    batch_size: int = 2048
    """Positives a step."""
    negatives: Literal["sampled", "in_batch", "all"] = "sampled"
    """`sampled`: `n_neg` a positive, uniform over the items outside the user's history (with
    `alpharec` only over those that somebody has had, which holds for `all`, too).
    `in_batch`: the positives of the batch's other rows, weighed by one over how often they come up
    (logQ). `all`: every item, for small catalogues. Both leave out the user's history, need a loss
    that weighs negatives, look at no `n_neg`, and put users and positives alone under L2."""
    n_neg: int = 64
    """Negatives a positive, with `sampled` ones."""
    l2: float = 1e-5
    """Weight of `½ ‖·‖²` of the batch's layer-0 vectors, per row of the batch; of the weights of
    the map with `alpharec`, which learns no vectors."""
    epochs: int = 1000
    """Passes over the training interactions at most."""
    eval_every: int = 5
    """Epochs between two evaluations."""
    patience: int = 10
    """Evaluations in a row without a better `monitor` on the validation set that end training."""
    monitor: str = "recall@20"
    """Metric of the validation set that picks the best epoch; its cutoff must be in `ks`."""
    storage: Literal["float32", "bfloat16"] = "float32"
    """What the vectors are rounded to where a batch is scored. With `bfloat16` a GPU reads half the
    bytes there; sums, gradients and the tables that learn stay float32, and so do the graph
    layers, the adversary and evaluation. A CPU computes the same, no faster."""
    positives: Literal["interaction", "user"] = "interaction"
    """`interaction`: each interaction once an epoch. `user`: each user equally often and then one
    of its items uniformly, as in the authors' code."""
    ks: tuple[int, ...] = (10, 20)
    """Cutoffs of the metrics."""
    checkpoint_seconds: float = 30.0
    """Seconds between two checkpoints; 0 writes one after every step."""

    def __post_init__(self) -> None:
        settle(self)
        require(0 < self.lr < math.inf, "lr", "be positive and finite", self.lr)
        for name in ("batch_size", "n_neg", "epochs", "eval_every", "patience"):
            value = getattr(self, name)
            require(value >= 1, name, "be at least 1", value)
        for name in ("l2", "checkpoint_seconds"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, "be non-negative and finite", value)
        require(
            self.negatives == "sampled" or self.storage == "float32",
            "storage",
            "be 'float32' unless `negatives` are 'sampled'",
            self.storage,
        )
        require(bool(self.ks) and min(self.ks) >= 1, "ks", "be cutoffs of at least 1", self.ks)
        cutoffs = ", ".join(f"<metric>@{k}" for k in self.ks)
        metric, _, k = self.monitor.partition("@")
        known = metric != "" and k in map(str, self.ks)
        require(known, "monitor", f"be one of {cutoffs} (`ks` = {list(self.ks)})", self.monitor)


def require(holds: bool, name: str, rule: str, value: object) -> None:
    """Raise unless a rule about a setting holds.

    >>> require(False, "tau", "be positive", -0.1)
    Traceback (most recent call last):
    contrarec.errors.ConfigError: `tau` must be positive, got -0.1.

    Raises:
        ConfigError: `holds` is false.
    """
    if not holds:
        raise ConfigError(f"`{name}` must {rule}, got {value!r}.")


def require_positive(config: Any, *names: str) -> None:
    """Raise unless each of these settings is positive and finite, or None.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        value = getattr(config, name)
        require(value is None or 0 < value < math.inf, name, "be positive", value)


def require_not_negative(config: Any, *names: str) -> None:
    """Raise unless each of these settings is finite and not below zero.

    Raises:
        ConfigError: one is not.
    """
    for name in names:
        value = getattr(config, name)
        require(0 <= value < math.inf, name, "not be negative", value)


def settle(config: Any) -> None:
    """Check a dataclass's values against its annotations, in its `__post_init__`.

    An integer becomes a float where a float is wanted, a list a tuple; nothing else is converted.

    Raises:
        ConfigError: a value is of another type.
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = _convert(hints[field.name], getattr(config, field.name), field.name)
        object.__setattr__(config, field.name, value)


def build(cls: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """Build a config dataclass from a mapping.

    Args:
        cls: the dataclass; fields may be int, float, bool, str, `Literal`, tuples and unions.
        values: by field name or published name (see `ALIASES`).
        where: starts every error message: a file, a section, an option.

    Raises:
        ConfigError: a key is unknown (the nearest is named), given twice or missing, or a value is
            of the wrong type or refused by the class.
    """
    arguments = convert(cls, values, where=where)
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        no_default = field.default is field.default_factory is dataclasses.MISSING
        if no_default and field.name not in arguments:
            raise ConfigError(f"{where}: `{field.name}` is missing.")
    try:
        return cls(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def convert(cls: type[Any], values: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return some of a class's values by field name, each of its field's type.

    Raises:
        ConfigError: a key is unknown or given twice under two names, or a value is of another type.
    """
    hints, fields = get_type_hints(cls), field_names(cls)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        name = canonical(key, fields)
        if name not in fields:
            raise ConfigError(f"{where}: {unknown('setting', key, fields)}")
        if name in arguments:
            raise ConfigError(f"{where}: `{name}` is given twice, under its published name too.")
        try:
            arguments[name] = _convert(hints[name], value, name)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None
    return arguments


def field_names(cls: type[Any]) -> list[str]:
    """Return the names of a dataclass's fields, in order."""
    return [field.name for field in dataclasses.fields(cls)]


def canonical(key: str, fields: Collection[str]) -> str:
    """Return our name for a published one, unless a field is called like that."""
    return key if key in fields else ALIASES.get(key, key)


def _convert(hint: Any, value: Any, name: str) -> Any:
    origin, choices = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin is Literal:
        if isinstance(value, str) and value not in choices:
            raise ConfigError(f"`{name}`: {unknown('choice', value, map(str, choices))}")
        if value in choices:
            return value
    elif origin in (Union, types.UnionType):
        if types.NoneType in choices and (value is None or value == "none"):
            return None
        options = [choice for choice in choices if choice is not types.NoneType]
        for option in options:
            try:
                return _convert(option, value, name)
            except ConfigError:
                if len(options) == 1:  # its own message says more
                    raise
    elif origin is tuple:
        parts = value if isinstance(value, list | tuple) else [value]
        inner = choices[:1] * len(parts) if choices[-1] is Ellipsis else choices
        if len(inner) == len(parts):
            return tuple(_convert(h, v, name) for h, v in zip(inner, parts, strict=True))
    elif hint is bool or isinstance(value, bool):
        if hint is type(value):
            return value
    elif hint is int and isinstance(value, Integral):
        return int(value)
    elif hint is float and isinstance(value, Real):
        return float(value)
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    raise ConfigError(f"`{name}` must be {_describe(hint)}, got {value!r}.")


def _describe(hint: Any) -> str:
    choices = get_args(hint)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, choices))
    if get_origin(hint) is tuple:
        size = "" if choices[-1] is Ellipsis else f" of {len(choices)}"
        return f"a list{size}, each {_describe(choices[0])}"
    if choices:
        return " or ".join(_describe(choice) for choice in choices)
    return "none" if hint is types.NoneType else _WORDS.get(hint, hint.__name__)


def to_mapping(config: Any) -> dict[str, Any]:
    """Return a config dataclass's values, ready for `dumps_toml`; the inverse of `build`.

    TOML has no null: None becomes `"none"`, so that every field is written.
    """
    values = {name: getattr(config, name) for name in field_names(type(config))}
    return {
        name: "none" if value is None else list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
    }


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value` into a key and a Python value.

    The value is an integer, a float, `true`, `false`, `none`, a comma list of these (`20,` is a
    list of one), or else a text; quotes keep a text one.

    >>> parse_override("loss.tau=0.2"), parse_override("ks=10,20")
    (('loss.tau', 0.2), ('ks', [10, 20]))

    Raises:
        ConfigError: there is no `=`, nothing before it or nothing after it.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not (key and equals and value):
        raise ConfigError(f"`--set` expects key=value, got {text!r}.")
    if "," in value and value[0] not in "'\"":
        return key, [_scalar(part.strip()) for part in value.removesuffix(",").split(",")]
    return key, _scalar(value)


def to_override(key: str, value: Any) -> str:
    """Return the text `key=value` that `parse_override` takes apart again.

    >>> to_override("ks", [20]), to_override("eta", None), to_override("name", "1")
    ('ks=20,', 'eta=none', "name='1'")
    """
    if isinstance(value, list | tuple):
        parts = [to_override(key, part).partition("=")[2] for part in value]
        return f"{key}={','.join(parts)}{',' if len(parts) == 1 else ''}"
    if isinstance(value, str):
        plain = value == "none" or (_scalar(value) == value and "," not in value)
        return f"{key}={value}" if plain else f"{key}='{value}'"
    return f"{key}={str(value).lower()}"


def _scalar(text: str) -> Any:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
