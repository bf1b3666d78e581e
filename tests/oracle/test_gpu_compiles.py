"""The Triton kernels compile for a real GPU, which the interpreter says nothing about.

Triton's compiler needs no GPU. It runs in a process of its own, since here the kernels belong to
the interpreter.
"""

import os
import subprocess
import sys

import pytest

CODE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from contrarec.kernels.gpu import budget, draws, rows, scores

TILE = {"BLOCK": 32, "DIM": 64}
CASES = [  # kernel, types of its arguments, what is known when it is compiled
    (scores._forward, "*T *T *i64 *i64 *T i32 i32 i32 i32",
     {"COSINE": True, "DOUBLE": False} | TILE),
    (rows._window_sums, "*i64 *i64 *T *T *fp32 i32 i32 i32 i32",
     {"UNIT": True, "SPLIT": 128} | TILE),
    (rows._row_sums, "*i64 *i32 *fp32 *T *fp32 *T *T i32 i32 i32",
     {"UNIT": True, "BASE": True, "TANGENT": False, "SPLIT": 128} | TILE),
    (rows._row_sums, "*i64 *i64 *T *T *fp32 *T *T i32 i32 i32",
     {"UNIT": False, "BASE": False, "TANGENT": True, "SPLIT": 128} | TILE),
    (draws._draw, "*i64 *i32 *i64 *i64 *i64 i32 u64 i32 i32 i32 i32 i32 i32",
     {"BY_USER": False, "BLOCK": 128}),
    (draws._draw, "*i64 *i32 *i64 *i64 *i64 i32 u64 i32 i32 i32 i32 i32 i32",
     {"BY_USER": True, "BLOCK": 128}),
    (budget._solve, "*T *fp64 i32", {"ETA": 0.02, "MAXIMUM": 1.0, "FREE": False, "WIDTH": 128}),
    (budget._solve, "*T *fp64 i32",
     {"ETA": 0.02, "MAXIMUM": float("inf"), "FREE": True, "WIDTH": 128}),
    # tables stored in bfloat16, the rest in float32: scores, and the gradients of items and users
    (scores._forward, "*bf16 *bf16 *i64 *i64 *fp32 i32 i32 i32 i32",
     {"COSINE": True, "DOUBLE": False} | TILE),
    (rows._row_sums, "*i64 *i64 *fp32 *bf16 *fp32 *bf16 *fp32 i32 i32 i32",
     {"UNIT": True, "BASE": False, "TANGENT": True, "SPLIT": 128} | TILE),
    (rows._row_sums, "*i64 *i32 *fp32 *fp32 *fp32 *bf16 *fp32 i32 i32 i32",
     {"UNIT": False, "BASE": False, "TANGENT": True, "SPLIT": 128} | TILE),
]
for number, (kernel, types, known) in enumerate(CASES):
    names = [name for name in kernel.arg_names if name not in known]
    types = types.replace("T", "fp32" if number % 2 else "bf16").split()
    signature = dict(zip(names, types, strict=True))
    if number % 2:  # sizes of 1 are built into the kernel
        ones = [name for name, kind in signature.items() if kind == "i32" and name != "first_row"]
        known |= dict.fromkeys(ones, 1)
        signature |= dict.fromkeys(ones, "constexpr")
    source = ASTSource(
        fn=kernel,
        signature={name: signature.get(name, "constexpr") for name in kernel.arg_names},
        constexprs={(kernel.arg_names.index(name),): value for name, value in known.items()},
    )
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
    print(kernel.__name__, len(compiled.asm["cubin"]) > 0)
"""


@pytest.mark.usefixtures("gpu")
def test_every_kernel_compiles(tmp_path):
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.split("\n")[:-1]
    assert lines == [f"{name} True" for name in (
        "_forward", "_window_sums", "_row_sums", "_row_sums", "_draw", "_draw", "_solve", "_solve",
        "_forward", "_row_sums", "_row_sums",
    )]  # fmt: skip
