"""Which twin of a kernel is chosen, and what is said when the one asked for is not there."""

import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from contrarec.errors import BackendError, ConfigError
from contrarec.kernels import dispatch
from contrarec.kernels.dispatch import resolve

CPU = torch.empty(0)
CUDA = SimpleNamespace(device=torch.device("cuda", 0))  # only its device is looked at


@pytest.fixture(autouse=True)
def _everything_is_installed(monkeypatch):
    monkeypatch.setattr(dispatch, "HAS_NUMBA", True)
    monkeypatch.setattr(dispatch, "HAS_TRITON", True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    dispatch._without_triton.cache_clear()


@pytest.mark.parametrize(
    ("tensors", "gpu", "twin"),
    [
        ([], False, "numba"),
        ([CPU, CPU], True, "numba"),
        ([CUDA, CUDA], True, "triton"),
        ([CUDA, CUDA], False, "reference"),
        ([CPU, CUDA], True, "reference"),
        ([torch.empty(0, device="meta")], True, "reference"),
    ],
)
def test_auto(tensors, gpu, twin):
    assert resolve("auto", *tensors, gpu=gpu) == twin


def test_auto_says_once_that_triton_is_missing(monkeypatch, caplog):
    monkeypatch.setattr(dispatch, "HAS_TRITON", False)
    with caplog.at_level(logging.WARNING, "contrarec"):
        assert [resolve("auto", CUDA, gpu=True) for _ in range(3)] == ["reference"] * 3
    assert [record.getMessage().count("pip install triton") for record in caplog.records] == [1]


def test_auto_without_numba(monkeypatch):
    monkeypatch.setattr(dispatch, "HAS_NUMBA", False)
    assert resolve("auto", CPU, gpu=True) == "reference"


def test_a_name_is_taken_where_it_runs(monkeypatch):
    assert resolve("reference", CUDA, gpu=True) == "reference"
    assert resolve("numba", CPU, gpu=True) == "numba"
    assert resolve("triton", CUDA, gpu=True) == "triton"
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert resolve("triton", CPU, gpu=True) == "triton"
    assert resolve("auto", CPU, gpu=True) == "numba"


@pytest.mark.parametrize(
    ("backend", "tensor", "gpu", "message"),
    [
        ("numba", CUDA, True, "backend 'numba' runs on the CPU, got tensors on cuda"),
        ("triton", CPU, True, "backend 'triton' runs on CUDA devices, got tensors on cpu"),
        ("triton", CUDA, False, "backend 'triton' was asked for and this kernel has none"),
    ],
)
def test_a_name_is_never_replaced(backend, tensor, gpu, message):
    with pytest.raises(BackendError, match=message):
        resolve(backend, tensor, gpu=gpu)


@pytest.mark.parametrize(("backend", "flag"), [("numba", "HAS_NUMBA"), ("triton", "HAS_TRITON")])
def test_a_name_that_is_not_installed(backend, flag, monkeypatch):
    monkeypatch.setattr(dispatch, flag, False)
    with pytest.raises(BackendError, match=f"{backend} is not installed: pip install {backend}"):
        resolve(backend, CUDA if backend == "triton" else CPU, gpu=True)


def test_an_unknown_name():
    with pytest.raises(ConfigError, match="did you mean 'triton'"):
        resolve("tritton", CPU)


def test_the_command_line_and_training_on_the_cpu_import_no_gpu_kernel():
    code = """if True:
        import sys
        sys.modules["contrarec.kernels.gpu"] = None  # whoever imports it fails
        import polars as pl
        import contrarec as cr
        from contrarec.cli import main
        assert "triton" not in sys.modules
        log = pl.DataFrame({"user": [0, 0, 1, 1, 2], "item": [0, 1, 1, 2, 3]})
        data = cr.Dataset.from_parts(train=log, tests={"t": log}, user="user", item="item")
        cr.Recommender("lightgcn", "advinfonce-budget", device="cpu", epochs=3, n_neg=2,
                       adv_interval=3).fit(data)
        sys.argv = ["contrarec", "train", "--help"]
        main()
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--loss" in done.stdout
