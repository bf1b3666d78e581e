"""The settings of a run: which backbone, under which loss, trained how.

They come in layers, the later ones winning: defaults, what a loss's name stands for, a preset, a
file, single overrides.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contrarec.baselines import BASELINES, BaselineSpec
from contrarec.config import (
    NO_BACKBONE,
    BackboneConfig,
    TrainingConfig,
    build,
    canonical,
    convert,
    dumps_toml,
    field_names,
    loads_toml,
    parse_override,
    read_toml,
    require,
    settle,
    to_mapping,
)
from contrarec.errors import ConfigError, unknown
from contrarec.losses import LOSSES, LossSpec, resolve_loss
from contrarec.presets import preset_values

DEFAULT_LOSS = "advinfonce"

_SECTIONS = ("backbone", "loss", "training")
_ARGUMENTS = ("seed", "backbone", "loss", "preset")
_MEASURES = ("ks", "monitor")  # what a baseline looks at in [training]

Classes = Mapping[str, type[Any]]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides what a run computes from its data."""

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """What turns ids into vectors."""
    loss_name: str
    """A name in `contrarec.losses.LOSSES` or `contrarec.baselines.BASELINES`, or `module:Class`."""
    loss: Any
    """The loss's own config."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How the model is optimised."""
    seed: int = 0
    """Base of every random stream."""

    def __post_init__(self) -> None:
        settle(self)
        require(self.seed >= 0, "seed", "not be negative", self.seed)
        wanted = resolve_method(self.loss_name).config
        rule = f"be a {wanted.__name__} for {self.loss_name!r}"
        require(isinstance(self.loss, wanted), "loss", rule, self.loss)
        fitting = fitting_backbones(self.loss_name)
        if fitting and self.backbone.name not in fitting and self.loss_name not in BASELINES:
            raise ConfigError(
                f"{self.loss_name!r} goes with {' or '.join(fitting)}, got "
                f"{self.backbone.name!r}; see 'contrarec methods'."
            )
        if self.loss_name in BASELINES and self.backbone.name != NO_BACKBONE:
            raise ConfigError(
                f"{self.loss_name!r} is fitted to the interactions themselves and goes with no "
                f"backbone, got {self.backbone.name!r}; leave it out."
            )

    def to_mapping(self) -> dict[str, Any]:
        """Return the tables of a settings file: `seed`, `backbone`, `loss`, `training`."""
        return {
            "seed": self.seed,
            "backbone": to_mapping(self.backbone),
            "loss": {"name": self.loss_name} | to_mapping(self.loss),
            "training": to_mapping(self.training),
        }

    def flat(self) -> dict[str, Any]:
        """Return every setting by its full name: `seed`, `loss.tau`, `training.lr`."""
        tables = self.to_mapping()
        flat = {"seed": tables.pop("seed")}
        for section, values in tables.items():
            flat |= {f"{section}.{key}": value for key, value in values.items()}
        return flat

    def to_toml(self) -> str:
        """Return the text of a settings file; `from_toml` gives back equal settings."""
        return dumps_toml(self.to_mapping())

    @classmethod
    def from_mapping(cls, tables: Mapping[str, Any], *, where: str) -> "Settings":
        """Build settings from the tables of a settings file; what is left out has its default.

        Args:
            tables: as `to_mapping` returns them.
            where: starts every error message, such as the file's path.

        Raises:
            ConfigError: a table or key is unknown, or a value is refused.
        """
        return resolve_settings(config=tables, where=where)

    @classmethod
    def from_toml(cls, text: str, *, where: str = "settings") -> "Settings":
        """Build settings from the text of a settings file; see `from_mapping`."""
        return cls.from_mapping(loads_toml(text, where=where), where=where)


def resolve_method(name: str) -> LossSpec | BaselineSpec:
    """Look up a loss or a baseline by name.

    Raises:
        ConfigError: the name is unknown, or one's own class cannot be had.
    """
    if name in BASELINES:
        return BASELINES[name]
    if ":" not in name and name not in LOSSES:
        raise ConfigError(unknown("loss", name, [*LOSSES, *BASELINES]))
    return resolve_loss(name)


def without_idle(overrides: Mapping[str, Any], loss: str) -> dict[str, Any]:
    """Leave out what means nothing to a baseline, so that it can share overrides with losses.

    Raises:
        ConfigError: a key is unknown or ambiguous.
    """
    classes = _classes(resolve_method(loss).config)
    return {k: v for k, v in overrides.items() if not is_idle(loss, *_locate(k, classes))}


def resolve_settings(
    *,
    backbone: str | None = None,
    loss: str | None = None,
    preset: str | Path | None = None,
    overrides: Mapping[str, Any] | Iterable[str] = (),
    seed: int | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    where: str = "settings",
) -> Settings:
    """Bring together everything that was said about a run.

    Args:
        backbone: its name; if None the file's, or else `mf` or what the loss needs: `none` for a
            baseline, `lightgcn` for a graph contrast.
        loss: its name; the file's or `advinfonce` if None. If both are given they must be the same.
        preset: published values to start from, by name or as a `.toml` file; backbone and loss
            pick the row.
        overrides: single settings, as a mapping or as `key=value` texts; `lr` finds the section
            that has it, `training.lr` names it.
        seed: base of every random stream; the file's or 0 if None.
        config: a settings file, or its tables.
        where: what error messages call the tables.

    Raises:
        ConfigError: a name or key is unknown or ambiguous, or a value is refused.
    """
    if isinstance(config, str | Path):
        where, config = str(config), read_toml(Path(config))
    file_seed, file = _sections(config or {}, where)
    backbone, loss = _names(file, backbone, loss, where)
    spec = resolve_method(loss)
    classes = _classes(spec.config)
    placed = _placed(overrides, classes)
    for section, values in placed.items():
        for name in values:
            if is_idle(loss, section, name):
                raise ConfigError(
                    f"override '{section}.{name}': means nothing to {loss!r}, which takes no "
                    "steps and has no backbone."
                )
    layers: list[tuple[str, Mapping[str, Any]]] = []
    if isinstance(spec, LossSpec):
        layers.append((loss, {"loss": spec.defaults, "backbone": spec.backbone_defaults}))
    if preset is not None:
        published = {
            section: {key: v for key, v in values.items() if not is_idle(loss, section, key)}
            for section, values in preset_values(preset, backbone, loss, spec.config).items()
        }
        layers.append((f"preset {str(preset)!r}", published))
    layers += [(where, file), ("override", placed)]

    built: dict[str, Any] = {}
    for section, cls in classes.items():
        merged: dict[str, Any] = {"name": backbone} if section == "backbone" else {}
        for source, tables in layers:
            merged |= convert(cls, tables.get(section, {}), where=f"{source} [{section}]")
        place = f"{where} with overrides" if placed[section] else where
        built[section] = build(cls, merged, where=f"{place} [{section}]")
    return Settings(**built, loss_name=loss, seed=file_seed if seed is None else seed)


def _classes(loss: type[Any]) -> Classes:
    return {"backbone": BackboneConfig, "loss": loss, "training": TrainingConfig}


def is_idle(loss: str, section: str, name: str) -> bool:
    """Whether a setting means nothing to a loss: a baseline takes no steps and has no backbone."""
    return loss in BASELINES and section != "loss" and name not in _MEASURES


def _sections(tables: Mapping[str, Any], where: str) -> tuple[Any, dict[str, dict[str, Any]]]:
    """Take a file's tables apart: its seed, and a copy of every section."""
    known = ("seed", *_SECTIONS)
    for key, value in tables.items():
        if key not in known:
            raise ConfigError(f"{where}: {unknown('section', key, known)}")
        if key != "seed" and not isinstance(value, Mapping):
            raise ConfigError(f"{where}: `{key}` must be a table, [{key}], got {value!r}.")
    return tables.get("seed", 0), {name: dict(tables.get(name, {})) for name in _SECTIONS}


def _names(
    file: dict[str, dict[str, Any]], backbone: str | None, loss: str | None, where: str
) -> tuple[str, str]:
    """Decide on backbone and loss, and take their names out of the file's sections."""
    file_backbone = file["backbone"].pop("name", None)
    file_loss = file["loss"].pop("name", None)
    for section, name in (("backbone", file_backbone), ("loss", file_loss)):
        if not isinstance(name, str | None):
            raise ConfigError(f"{where} [{section}]: `name` must be a text, got {name!r}.")
    if loss is not None and file_loss is not None and loss != file_loss:
        raise ConfigError(
            f"{where}: its loss is {file_loss!r} and {loss!r} was asked for; its [loss] settings "
            "belong to the first, so ask for that one or remove them."
        )
    if loss is None:
        loss = DEFAULT_LOSS if file_loss is None else file_loss
    backbone = file_backbone if backbone is None else backbone
    usual = (*fitting_backbones(loss), BackboneConfig.name)[0]
    return usual if backbone is None else backbone, loss


def fitting_backbones(loss: str) -> tuple[str, ...]:
    """Return the backbones that a method goes with, the usual one first; none of them if any."""
    return resolve_method(loss).backbones


def _placed(overrides: Mapping[str, Any] | Iterable[str], classes: Classes) -> dict[str, Any]:
    """Sort overrides into sections; of two for the same setting the later one wins."""
    pairs = (
        overrides.items()
        if isinstance(overrides, Mapping)
        else [parse_override(text) for text in overrides]
    )
    placed: dict[str, dict[str, Any]] = {section: {} for section in classes}
    for key, value in pairs:
        section, name = _locate(key, classes)
        placed[section][name] = value
    return placed


def locate_setting(key: str, loss: str) -> str:
    """Return the full name of an override's setting: `lr` is `training.lr`.

    Raises:
        ConfigError: it is unknown or ambiguous for this loss.
    """
    return ".".join(_locate(key, _classes(resolve_method(loss).config)))


def _locate(key: str, classes: Classes) -> tuple[str, str]:
    """Find the section and field of an override's key."""
    fields = {section: set(field_names(cls)) - {"name"} for section, cls in classes.items()}
    section, dot, rest = key.rpartition(".")
    if dot and section not in classes:
        raise ConfigError(f"override {key!r}: {unknown('section', section, classes)}")
    if rest == "name" or key in _ARGUMENTS:
        raise ConfigError(f"override {key!r}: it has an argument of its own, use that.")
    homes = [s for s in ([section] if dot else classes) if canonical(rest, fields[s]) in fields[s]]
    if len(homes) > 1:
        choices = " or ".join(f"`{home}.{rest}`" for home in homes)
        raise ConfigError(f"override {key!r} is ambiguous: write {choices}.")
    if not homes:
        known = fields[section] if dot else set[str]().union(*fields.values())
        raise ConfigError(f"override: {unknown('setting', rest, known)}")
    return homes[0], canonical(rest, fields[homes[0]])
