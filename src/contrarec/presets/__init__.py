"""Published settings: one TOML file per data set, with their source.

A file has values for every loss and backbone (`[backbone]`, `[loss]`, `[training]`) and rows of
values for those whose names match the patterns `for_backbone` and `for_loss`; later rows win.
"""

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from contrarec.config import NO_BACKBONE, field_names, read_toml
from contrarec.errors import ConfigError, unknown

_FOLDER = Path(__file__).parent
_SECTIONS = ("backbone", "loss", "training")


def preset_names() -> list[str]:
    """Return the names of the presets, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def preset_values(
    preset: str, backbone: str, loss: str, config: type[Any]
) -> dict[str, dict[str, Any]]:
    """Return a preset's values for a backbone and a loss, by section.

    Of the loss's values only those count that its config has a field for.

    Args:
        preset: a name among `preset_names()`.
        backbone: name of the backbone, or `none`.
        loss: name of the loss.
        config: the loss's config class.

    Raises:
        ConfigError: there is no such preset, or it has no values for the backbone.
    """
    if preset not in preset_names():
        raise ConfigError(unknown("preset", preset, preset_names()))
    tables = read_toml(_FOLDER / f"{preset}.toml")
    if backbone not in (*tables["backbones"], NO_BACKBONE):
        raise ConfigError(
            f"preset {preset!r}: {unknown('backbone', backbone, tables['backbones'])}"
        )
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for row in [tables, *tables["row"]]:
        applies = fnmatchcase(backbone, row.get("for_backbone", "*"))
        if applies and fnmatchcase(loss, row.get("for_loss", "*")):
            for section in _SECTIONS:
                values[section] |= row.get(section, {})
    fields = field_names(config)
    return values | {"loss": {key: v for key, v in values["loss"].items() if key in fields}}
