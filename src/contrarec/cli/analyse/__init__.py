"""`contrarec analyse`: what AdvInfoNCE's adversary does, and what each part of it brings."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

_COMMANDS = {
    "hardness": "model",
    "false-negatives": "model",
    "geometry": "model",
    "dro": "model",
    "ablation": "study",
    "intensity": "study",
}
"""Command → the module that has a function of its name."""


class _Lazy(TyperGroup):
    """Makes a command when it is asked for: their options take a tenth of what --help may take."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"contrarec.cli.analyse.{_COMMANDS[cmd_name]}")
        alone = typer.Typer(rich_markup_mode=None, add_completion=False)
        alone.command(cmd_name)(getattr(module, cmd_name.replace("-", "_")))
        return typer.main.get_command(alone)


app = typer.Typer(
    cls=_Lazy,
    help="What the adversary of AdvInfoNCE does, and what each part of it brings.",
    rich_markup_mode=None,
)
