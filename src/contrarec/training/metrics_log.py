"""`metrics.jsonl`: one JSON object per epoch, appended as training goes."""

import json
from pathlib import Path
from typing import Any

from contrarec.files import write_text


class MetricsLog:
    """Append epochs to a file; on resuming, drop those that a checkpoint does not know.

    Args:
        path: the file; its folder must exist.
        finished: epochs that the run being resumed had finished, 0 for a new run.
    """

    def __init__(self, path: Path, finished: int) -> None:
        self._path = path
        kept = [line for line in read_log(path) if line["epoch"] <= finished] if finished else []
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))

    def append(self, line: dict[str, Any]) -> None:
        """Add one epoch."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Read a log; a last line cut short by a crash is left out."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]
