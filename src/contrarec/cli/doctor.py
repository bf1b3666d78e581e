"""`contrarec doctor`: what is installed, what will be used, and whether the kernels are right."""

import os
import platform
import re
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from contrarec.cli.console import Json, output, table

_TOLERANCE = 1e-5


def doctor(as_json: Json = False) -> None:
    """Show what is installed and used, and test the kernels.

    Each compiled kernel is compared with its plain reference. The first time after installation
    this compiles them, which takes some 15 seconds.
    """
    with output(as_json) as out:
        report = examine()
        if not report["numba_cache"]["writable"]:
            out.note("numba cannot write its cache: kernels are compiled anew by every process.")
        out.finish(report, lambda: _text(report))
        if not report["ok"]:
            raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Return the report of `contrarec doctor`."""
    import torch

    from contrarec.kernels.dispatch import HAS_NUMBA, usable_cores
    from contrarec.model import resolve_device

    tests = _test_kernels() if HAS_NUMBA else {}
    threads: dict[str, Any] = {
        "cores": usable_cores(),
        "torch": torch.get_num_threads(),
        "wait_policy": os.environ.get("OMP_WAIT_POLICY", ""),
    }
    cache: dict[str, Any] = {"path": None, "writable": True}
    if HAS_NUMBA:
        from contrarec.kernels.cpu import topk

        # numba chooses its threading layer when the first parallel kernel runs
        numba: Any = import_module("numba")
        threads |= {"numba": numba.get_num_threads(), "numba_layer": numba.threading_layer()}
        kernel: Any = topk.merge
        folder = Path(kernel.stats.cache_path)
        cache = {"path": str(folder), "writable": any(folder.glob("topk.merge-*.nbi"))}
    device = resolve_device("auto")
    return {
        "ok": all(test["ok"] for test in tests.values()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": _versions(),
        "device": device.type,
        "device_name": torch.cuda.get_device_name()
        if device.type == "cuda"
        else platform.machine(),
        "backend": "numba" if HAS_NUMBA else "reference",
        "threads": threads,
        "extras": _extras(),
        "numba_cache": cache,
        "kernels": tests,
    }


def _versions() -> dict[str, str | None]:
    names = {"contrarec", *_requirements()[""]}
    return {name: _version(name) for name in sorted(names)}


def _version(name: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # brings email along

    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _requirements() -> dict[str, list[str]]:
    """Return the packages that contrarec asks for, by extra; the base is under ''."""
    from importlib.metadata import requires

    found: dict[str, list[str]] = {"": []}
    for requirement in requires("contrarec") or []:
        extra = re.search(r"extra == ['\"]([\w.-]+)['\"]", requirement)
        name = re.match(r"[\w.-]+", requirement)
        if name:
            found.setdefault(extra[1] if extra else "", []).append(name[0])
    return found


def _extras() -> dict[str, dict[str, Any]]:
    asked = _requirements()
    del asked[""]
    extras = {}
    for extra, names in sorted(asked.items()):
        missing = [name for name in names if _version(name) is None]
        extras[extra] = {"installed": not missing, "missing": missing}
    return extras


def _test_kernels() -> dict[str, dict[str, Any]]:
    """Compare the compiled twin of each kernel that a run needs with its reference."""
    import numpy as np
    import torch

    from contrarec.kernels import budget, draws, propagate, scores, topk

    rng = np.random.default_rng(0)
    n_users, n_items, dim, n_rows, n_neg = 40, 60, 16, 64, 8
    U, V = (torch.from_numpy(rng.normal(size=(n, dim)).astype("f4")) for n in (n_users, n_items))
    users = torch.from_numpy(rng.integers(n_users, size=n_rows))
    items = torch.from_numpy(rng.integers(n_items, size=(n_rows, n_neg)))
    lengths = np.full(n_users, 5)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    rows = [np.sort(rng.choice(n_items, n, replace=False)) for n in lengths]
    indices = np.concatenate(rows).astype(np.int32)
    graph = propagate.bipartite_graph(indptr, indices, n_items)
    everyone = np.arange(n_users)

    def sampled(backend: Any) -> list[Any]:
        u, v = (table.clone().requires_grad_() for table in (U, V))
        out = scores.sampled_scores(u, v, users, items, cosine=True, backend=backend)
        return [out.detach(), *torch.autograd.grad(out.square().sum(), (u, v))]

    runs: dict[str, Callable[[Any], Any]] = {
        "sampled_scores": sampled,
        "draw_batch": lambda backend: draws.draw_batch(
            indptr, indices, everyone, range(n_rows), n_items=n_items, n_neg=n_neg,
            by_user=False, key=1, backend=backend,
        ),
        "propagate": lambda backend: propagate.propagate(graph, U, V, 2, backend=backend),
        "budget_multiplier": lambda backend: [
            budget.budget_multiplier(U @ V.T, 0.05, backend=backend)
        ],
        "masked_top_k": lambda backend: topk.masked_top_k(
            U @ V.T, 5, mask=(indptr, indices), rows=everyone, backend=backend
        ),
        "in_rows": lambda backend: [
            topk.in_rows(items.numpy().astype("i4"), users.numpy(), (indptr, indices),
                         backend=backend)
        ],
    }  # fmt: skip
    results = {}
    for name, run in runs.items():
        started = time.perf_counter()
        pairs = zip(run("numba"), run("reference"), strict=True)
        difference = max(
            float(np.abs(np.asarray(a, "f8") - np.asarray(b, "f8")).max()) for a, b in pairs
        )
        results[name] = {
            "ok": difference <= _TOLERANCE,
            "difference": difference,
            "seconds": time.perf_counter() - started,
        }
    return results


def _text(report: dict[str, Any]) -> str:
    threads = report["threads"]
    layer = f", numba {threads['numba']} ({threads['numba_layer']})" if "numba" in threads else ""
    lines = [
        f"Python {report['python']} on {report['platform']}",
        ", ".join(f"{name} {version or 'missing'}" for name, version in report["versions"].items()),
        f"device: {report['device']} ({report['device_name']})",
        f"threads: torch {threads['torch']}{layer}; usable cores: {threads['cores']}"
        f"; waiting: {threads['wait_policy'] or 'as OpenMP does by itself'}",
        f"kernels: {report['backend']}",
        f"numba caches in: {report['numba_cache']['path']}",
    ]
    for extra, state in report["extras"].items():
        missing = ", ".join(state["missing"])
        hint = f"missing {missing}: pip install 'contrarec[{extra}]'"
        lines.append(f"extra {extra}: {'installed' if state['installed'] else hint}")
    if report["kernels"]:
        rows = [["kernel", "compiled against reference", "seconds"]]
        for name, test in report["kernels"].items():
            verdict = "agrees" if test["ok"] else f"DIFFERS by {test['difference']:.2g}"
            rows.append([name, verdict, test["seconds"]])
        lines += ["", table(rows)]
    return "\n".join(lines)
