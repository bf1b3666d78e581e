"""Published settings: one TOML file per data set, with their source; or a file of one's own.

A file has values for every loss and backbone (`[backbone]`, `[loss]`, `[training]`) and rows of
values for those whose names match the patterns `for_backbone` and `for_loss`; later rows win. What
`contrarec tune` writes is such a file; its `[tuned]` tables say how the values were found.
"""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from contrarec.config import NO_BACKBONE, field_names, read_toml
from contrarec.errors import ConfigError, unknown

_FOLDER = Path(__file__).parent
_SECTIONS = ("backbone", "loss", "training")
_TABLES = (*_SECTIONS, "tuned")
_TEXTS = ("source", "for_backbone", "for_loss")


def preset_names() -> list[str]:
    """Return the names of the presets, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def preset_values(
    preset: str | Path, backbone: str, loss: str, config: type[Any]
) -> dict[str, dict[str, Any]]:
    """Return a preset's values for a backbone and a loss, by section.

    Of the loss's values only those count that its config has a field for.

    Args:
        preset: a name among `preset_names()`, or a `.toml` file.
        backbone: name of the backbone, or `none`.
        loss: name of the loss.
        config: the loss's config class.

    Raises:
        ConfigError: there is no such preset, it is none, or it has no values for the backbone.
    """
    tables = _read(str(preset))
    if backbone not in (*tables["backbones"], NO_BACKBONE):
        raise ConfigError(
            f"preset {str(preset)!r}: {unknown('backbone', backbone, tables['backbones'])}"
        )
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    for row in [tables, *tables["row"]]:
        applies = fnmatchcase(backbone, row.get("for_backbone", "*"))
        if applies and fnmatchcase(loss, row.get("for_loss", "*")):
            for section in _SECTIONS:
                values[section] |= row.get(section, {})
    fields = field_names(config)
    return values | {"loss": {key: v for key, v in values["loss"].items() if key in fields}}


def _read(preset: str) -> dict[str, Any]:
    if not preset.endswith(".toml"):
        if preset not in preset_names():
            raise ConfigError(unknown("preset", preset, preset_names()))
        return read_toml(_FOLDER / f"{preset}.toml")
    tables = {"row": []} | read_toml(Path(preset))
    if not isinstance(tables["row"], list):
        raise ConfigError(f"{preset}: `row` must be tables, [[row]], got {tables['row']!r}.")
    _check(tables, ("source", "backbones", "row", *_TABLES), preset)
    for row in tables["row"]:
        _check(row, ("for_backbone", "for_loss", *_TABLES), f"{preset} [[row]]")
    if not isinstance(tables.get("backbones"), list):
        raise ConfigError(
            f"{preset}: `backbones` must list the backbones that it has values for, got "
            f"{tables.get('backbones')!r}."
        )
    return tables


def _check(table: Any, known: Iterable[str], where: str) -> None:
    if not isinstance(table, dict):
        raise ConfigError(f"{where}: must be a table, got {table!r}.")
    for key, value in table.items():
        if key not in known:
            raise ConfigError(f"{where}: {unknown('key', key, known)}")
        if key in _TABLES and not isinstance(value, dict):
            raise ConfigError(f"{where}: `{key}` must be a table, [{key}], got {value!r}.")
        if key in _TEXTS and not isinstance(value, str):
            raise ConfigError(f"{where}: `{key}` must be a text, got {value!r}.")
