"""What tuning found, and the preset that it makes."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from contrarec.config import dumps_toml
from contrarec.settings import Settings, resolve_settings

_SECTIONS = ("backbone", "loss", "training")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The best trial of a method on a backbone."""

    backbone: str
    method: str
    trial: int
    """Its number, from 0."""
    valid: float
    """The validation metric at its best epoch."""
    best_epoch: int
    values: Mapping[str, Any]
    """What was searched, as it was in this trial."""
    trials: int
    """Trials finished, those given up included."""
    pruned: int
    """Trials given up early, or that failed."""
    seconds: float
    """Time of all trials."""
    settings: Settings
    """All settings of the trial."""

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        plain = {name: value for name, value in vars(self).items() if name != "settings"}
        return plain | {"values": dict(self.values), "settings": self.settings.to_mapping()}

    def row(self) -> dict[str, Any]:
        """Return the row of a preset: what was searched, and all else that is not a default."""
        usual = resolve_settings(backbone=self.backbone, loss=self.method).to_mapping()
        ours = self.settings.to_mapping()
        row: dict[str, Any] = {
            "for_loss": self.method,
            "for_backbone": self.backbone,
            "tuned": {
                name: getattr(self, name)
                for name in ("valid", "best_epoch", "trial", "trials", "pruned", "seconds")
            },
        }
        for section in _SECTIONS:
            row[section] = {
                key: value
                for key, value in ours[section].items()
                if value != usual[section][key] or f"{section}.{key}" in self.values
            }
        return {key: value for key, value in row.items() if value != {}}


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """What `contrarec.tuning.tune` found."""

    data: str
    fingerprint: str
    methods: tuple[str, ...]
    backbones: tuple[str, ...]
    trials: int
    """For each method on each backbone."""
    seed: int
    preset: str | None
    overrides: Mapping[str, Any]
    monitor: str
    """The validation metric that was to be high."""
    findings: tuple[Finding, ...]

    def command(self) -> str:
        """Return the command that does it again."""
        words = ["contrarec", "tune", self.data, "--methods", ",".join(self.methods)]
        words += ["--backbones", ",".join(self.backbones)]
        words += ["--trials", str(self.trials), "--seed", str(self.seed)]
        if self.preset:
            words += ["--preset", self.preset]
        for key, value in self.overrides.items():
            text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            words += ["--set", f"{key}={text}"]
        return shlex.join(words)

    def to_dict(self) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        plain = {name: value for name, value in vars(self).items() if name != "findings"}
        return plain | {
            "overrides": dict(self.overrides),
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def to_preset(self) -> str:
        """Return the text of a preset with a row per method and backbone."""
        about = {name: getattr(self, name) for name in ("data", "fingerprint", "monitor", "seed")}
        names = ("contrarec", "optuna", "torch", "numpy")
        return dumps_toml(
            {
                "source": self.command(),
                "backbones": list(self.backbones),
                "tuned": about | {"versions": {name: version(name) for name in names}},
                "row": [finding.row() for finding in self.findings],
            }
        )
