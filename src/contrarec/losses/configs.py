"""Hyper-parameters of the losses that are nothing but a formula: its keyword arguments.

Frozen, checked when made, the formulas' values as defaults.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BPRConfig:
    """BPR has no hyper-parameters."""
