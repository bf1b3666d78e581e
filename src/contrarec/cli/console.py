"""What the sub-commands share: common options, notes on standard error, one result at the end."""

import json
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on standard output, and nothing else."),
]
Device = Annotated[
    str, typer.Option(help="auto (a GPU if there is one), cpu or cuda.", metavar="NAME")
]
Threads = Annotated[
    int | None, typer.Option(help="CPU threads; all cores if not given.", metavar="N")
]


INTERRUPTED = 130
"""Exit status after Ctrl-C."""


class Output:
    """A command's output: messages and notes as they come, one result at the end.

    Args:
        as_json: whether the result is printed as JSON.
        stream: where the result goes.
    """

    def __init__(self, as_json: bool, stream: TextIO) -> None:
        self.as_json = as_json
        self.notes: list[str] = []
        self._stream = stream

    def say(self, message: str) -> None:
        """Tell the user something, on standard error."""
        print("contrarec:", " ".join(message.split()), file=sys.stderr)  # noqa: T201

    def note(self, message: str) -> None:
        """Tell the user something that belongs to the result: it is in the JSON, too."""
        self.notes.append(" ".join(message.split()))
        self.say(f"note: {message}")

    def finish(self, result: Mapping[str, Any], text: Callable[[], str]) -> None:
        """Print the result, as JSON with the notes in it or as text.

        Args:
            result: values for JSON; NaN and infinities become null.
            text: makes what a person reads.
        """
        if self.as_json:
            values = _plain({**result, "notes": self.notes})
            printed = json.dumps(values, allow_nan=False, ensure_ascii=False)
        else:
            printed = text()
        print(printed, file=self._stream, flush=True)


@contextmanager
def output(as_json: bool) -> Iterator[Output]:
    """Open a command's output. Within it warnings of the library become notes.

    With JSON, whatever else is printed (by a loss of the user's own, say) goes to standard error.
    """
    out = Output(as_json, sys.stdout)

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        out.note(str(message))

    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("always", category=UserWarning, module=r"contrarec(\.|$)")
        # said once by torch about its own sparse tensors, no concern of the user's
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        warnings.showwarning = show
        if as_json:
            stack.enter_context(redirect_stdout(sys.stderr))
        yield out


def table(rows: Sequence[Sequence[object]]) -> str:
    """Lay out rows of cells, the first row being the header: text to the left, numbers right.

    >>> print(table([["set", "users"], ["valid", 290], ["ood", 31]]))
    set    users
    valid    290
    ood       31
    """
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [
        all(isinstance(value, int | float) or value in ("", None) for value in column)
        for column in zip(*rows[1:], strict=True)
    ] or [False] * len(widths)
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ).rstrip()
        for row in cells
    )


def metrics_table(metrics: Mapping[str, Mapping[str, float]]) -> str:
    """Lay out metrics by name: a line per metric, a column per set."""
    names = list(dict.fromkeys(name for values in metrics.values() for name in values))
    rows = [[name, *(values.get(name) for values in metrics.values())] for name in names]
    return table([["metric", *metrics], *rows])


def use_threads(n: int | None) -> int:
    """Let everything use `n` threads, or as many as torch would take by itself; return how many.

    Raises:
        ConfigError: `n` is smaller than 1.
    """
    import torch

    from contrarec.kernels.dispatch import set_threads

    set_threads(torch.get_num_threads() if n is None else n)
    return torch.get_num_threads()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """Make a value ready for JSON."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
