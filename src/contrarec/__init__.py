"""Contrastive collaborative filtering that holds up when popularity or exposure shifts.

The public names are imported when they are first used: `import contrarec` costs next to nothing,
and a part that is not used is never loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contrarec import losses
    from contrarec.audit.config import AuditConfig
    from contrarec.audit.run import audit_log, audit_runs
    from contrarec.data import catalog, cleaning, splits, synthetic
    from contrarec.data.dataset import Dataset, TestSet
    from contrarec.data.interactions import Interactions
    from contrarec.evaluation.protocol import evaluate
    from contrarec.kernels.dispatch import set_threads
    from contrarec.recommender import Recommender

    __version__: str

__all__ = [
    "AuditConfig",
    "Dataset",
    "Interactions",
    "Recommender",
    "TestSet",
    "__version__",
    "audit_log",
    "audit_runs",
    "catalog",
    "cleaning",
    "evaluate",
    "losses",
    "set_threads",
    "splits",
    "synthetic",
]

_MODULES = {
    "AuditConfig": "contrarec.audit.config",
    "Dataset": "contrarec.data.dataset",
    "Interactions": "contrarec.data.interactions",
    "Recommender": "contrarec.recommender",
    "TestSet": "contrarec.data.dataset",
    "audit_log": "contrarec.audit.run",
    "audit_runs": "contrarec.audit.run",
    "catalog": "contrarec.data.catalog",
    "cleaning": "contrarec.data.cleaning",
    "evaluate": "contrarec.evaluation.protocol",
    "losses": "contrarec.losses",
    "set_threads": "contrarec.kernels.dispatch",
    "splits": "contrarec.data.splits",
    "synthetic": "contrarec.data.synthetic",
}
"""Where each public name lives; a module that is itself public ends in its name."""


def _load(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("contrarec")
    if name not in _MODULES:
        raise AttributeError(f"module 'contrarec' has no attribute {name!r}")
    module = import_module(_MODULES[name])
    return module if _MODULES[name].endswith(f".{name}") else getattr(module, name)


if not TYPE_CHECKING:  # a type checker sees the imports above, and that other names do not exist

    def __getattr__(name):
        """Import a public name on first use, and keep it."""
        return globals().setdefault(name, _load(name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
