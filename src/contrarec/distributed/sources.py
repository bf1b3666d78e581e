"""Where the workers' blocks come from: a data set in memory, or one that no process holds whole."""

from pathlib import Path
from typing import Any, Protocol

from contrarec import runs
from contrarec.data.dataset import Dataset
from contrarec.distributed.refusals import check_histories
from contrarec.distributed.shards import write_blocks
from contrarec.settings import Settings


class Source(Protocol):
    """What a run by several workers asks of its data."""

    about: runs.RunData
    """What the run remembers of them."""
    notes: tuple[str, ...]
    """What a reader of results should know."""
    account: dict[str, Any]
    """What the result says of the reading."""

    def begin(self, folder: Path, settings: Settings) -> None:
        """Begin a run: settings, ids, history."""

    def write_blocks(self, folder: Path, n_workers: int) -> None:
        """Divide the data among workers; what the folder held is replaced."""


class InMemory:
    """A data set that the driver has read.

    Args:
        data: the data set.

    Raises:
        DataError: no negative can be drawn for a user, or there is nothing to learn from.
    """

    def __init__(self, data: Dataset) -> None:
        check_histories(data)
        self._data = data
        self.notes: tuple[str, ...] = ()  # who has read the data has seen them
        self.account: dict[str, Any] = {}
        self.about = runs.RunData(
            name=data.name, path=data.path, fingerprint=data.fingerprint(), frame=data.frame
        )

    def begin(self, folder: Path, settings: Settings) -> None:
        """Begin a run: settings, ids, history."""
        runs.begin(folder, settings, self.about, self._data.train)

    def write_blocks(self, folder: Path, n_workers: int) -> None:
        """Divide the data among workers; what the folder held is replaced."""
        write_blocks(folder, self._data, n_workers)
