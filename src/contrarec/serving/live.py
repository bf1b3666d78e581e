"""The model that is being served, and its exchange for another without a pause."""

import ctypes
import gc
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from contrarec.errors import ContrarecError
from contrarec.serving.model import ServedModel
from contrarec.serving.schemas import RecommendRequest, SimilarRequest

_LOG = logging.getLogger("contrarec.serving")

Load = Callable[[Path], ServedModel]
Signature = tuple[str, int, int] | None


class Live:
    """Holds the present model; who is answering with the one before keeps that until it is done.

    Args:
        folder: the run, or a link to it that may be made to point to another one.
        load: reads a run.

    Raises:
        DataError: the folder holds no finished run.
        ConfigError: its settings are not understood.
    """

    def __init__(self, folder: Path, load: Load) -> None:
        self._folder, self._load = folder, load
        self._swapping = threading.Lock()
        self._signature = signature(folder)
        self.model = _ready(load(folder))

    def changed(self) -> bool:
        """Whether another finished run is to be found in the folder than was last looked at."""
        now = signature(self._folder)
        return now is not None and now != self._signature

    def reload(self) -> bool:
        """Read the folder again and put its model in the place of the present one.

        Whatever is wrong with it is logged, and the present model stays.

        Returns:
            Whether the model was exchanged.
        """
        with self._swapping:
            self._signature = signature(self._folder)
            try:
                self.model = _ready(self._load(self._folder))
            except (ContrarecError, OSError) as error:
                _LOG.error("%s stays: %s", self.model.run, error)
                return False
            except Exception:
                _LOG.exception("%s stays", self.model.run)
                return False
            gc.collect()  # a model of torch modules may be a cycle
            _give_back()
            _LOG.warning("now serving %s", self.model.run)
            return True


def signature(folder: Path) -> Signature:
    """Return what changes when the folder comes to hold another finished run; None without one."""
    result = folder.resolve() / "result.json"  # a run's last file
    try:
        state = result.stat()
    except OSError:
        return None
    return str(result), state.st_ino, state.st_mtime_ns


def _give_back() -> None:
    """Let the system have the memory of what was read and of the last model, where libc can.

    glibc keeps what was freed between blocks that are still used: about as much as a model.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim:
        trim(0)


def _ready(model: ServedModel) -> ServedModel:
    """Answer once before it counts: compiled code is loaded and memory is touched."""
    users, items = model.users.ids[:1], model.items.ids[:1]
    model.recommend([RecommendRequest(users=users, k=10)])
    if not model.no_similar:
        model.similar([SimilarRequest(items=items, k=10)])
    return model
