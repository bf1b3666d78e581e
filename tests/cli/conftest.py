"""A small data set, a run trained on it, and a way to call the command line."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from cli.tools import Answer, settings
from contrarec.cli import main
from contrarec.kernels.dispatch import set_threads


@pytest.fixture(scope="module", autouse=True)
def _threads() -> Iterator[None]:
    """Leave the number of threads as it was: `--threads` is for the whole process."""
    before = torch.get_num_threads()
    yield
    set_threads(before)


@pytest.fixture
def contrarec(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Run a command in this process."""

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        status = main(list(map(str, arguments)))
        return Answer(status, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def log() -> np.ndarray:
    """Pairs of 40 users and 30 items: users like the items of their own parity; [n, 2]."""
    rng = np.random.default_rng(0)
    liked = np.arange(40)[:, None] % 2 == np.arange(30)[None, :] % 2
    return np.argwhere(liked & (rng.random((40, 30)) < 0.8)) + np.array([100, 500])


@pytest.fixture(scope="session")
def folder(log: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder: train, valid and test_ood as adjacency lists; user 139 is in no train row."""
    path = tmp_path_factory.mktemp("data") / "tiny"
    path.mkdir()
    part = np.random.default_rng(1).choice(3, size=len(log), p=[0.6, 0.2, 0.2])
    part[log[:, 0] == 139] = 2
    for number, name in enumerate(("train", "valid", "test_ood")):
        rows = log[part == number]
        lines = [
            " ".join(map(str, [user, *rows[rows[:, 0] == user, 1]]))
            for user in np.unique(rows[:, 0])
        ]
        (path / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="session")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run trained on `folder`."""
    path = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["train", str(folder), "--out", str(path), *settings()]) == 0
    return path
