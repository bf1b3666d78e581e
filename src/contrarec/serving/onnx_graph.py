"""Fold-in as an ONNX graph: from a history of items to the best others, anywhere."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contrarec.errors import ConfigError
from contrarec.serving.export import Exported, exporting, load_package, write_ids

MODEL = "fold_in.onnx"
_OPSET, _IR = 18, 10
_MOST_BYTES = 2_000_000_000  # of a protobuf message
_SMALL = 1e-12  # as torch.nn.functional.normalize has it


def to_onnx(
    exported: Exported, folder: Path, *, cosine: bool, tau: float | None, steps: int
) -> dict[str, Any]:
    """Write `fold_in.onnx`, which scores all items for users by their histories.

    Inputs: `history` int64 `[batch, length]`, rows of distinct indices of `item_ids.parquet`,
    filled up with -1; `k` int64 `[1]`. Outputs: `items` int64 and `scores` float32, `[batch, k]`,
    best first; items of the history come last, with -inf.

    Args:
        exported: ids and vectors.
        folder: must not hold anything yet.
        cosine: whether scores are cosines.
        tau: temperature, see `contrarec.foldin.fold_in_vectors`.
        steps: of fold-in.

    Raises:
        ConfigError: the items take more than an ONNX file can hold.
        BackendError: the package is not installed.
        DataError: the folder is not empty, or cannot be written.
    """
    onnx = load_package("onnx", "onnx", "an ONNX graph")
    if exported.items.nbytes > _MOST_BYTES:
        raise ConfigError(
            f"an ONNX file holds at most {_MOST_BYTES / 1e9:g} GB, and the items' vectors take "
            f"{exported.items.nbytes / 1e9:.1f} GB; export them as parquet or safetensors."
        )
    model = fold_in_graph(exported.items, cosine=cosine, tau=tau, steps=steps)
    onnx.checker.check_model(model)
    with exporting(exported, folder, "onnx") as (temporary, about):
        onnx.save(model, str(temporary / MODEL))
        write_ids(exported, temporary, "item")
        about |= {"opset": _OPSET, "cosine": cosine, "tau": tau}
    return about


class _Graph:
    """Nodes by the names of what they compute."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any, dtype: Any = np.float32) -> str:
        array = np.asarray(value, dtype)
        self.constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def add(self, kind: str, *inputs: str, to: str = "", **attributes: Any) -> str:
        name = to or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def unit(self, rows: str) -> str:
        """Divide rows by their length, or by a tiny number where that is smaller."""
        length = self.add("ReduceL2", rows, "last", keepdims=1)
        return self.add("Div", rows, self.add("Max", length, "small"))


def fold_in_graph(
    items: NDArray[np.float32], *, cosine: bool, tau: float | None, steps: int
) -> Any:
    """Build the graph; `items` are those whose dot products with a user are the scores."""
    onnx = load_package("onnx", "onnx", "an ONNX graph")
    n_items = len(items)
    g = _Graph(onnx)
    g.constant("vectors", items)
    g.constant("mean", items.mean(0, dtype=np.float64)[None])
    for name, number in (("zero", 0.0), ("one", 1.0), ("small", _SMALL), ("minus_inf", -np.inf)):
        g.constant(name, number)
    for name, value in (("none", 0), ("behind", n_items)):
        g.constant(name, value, np.int64)
    for name, axes in (("first", [0]), ("middle", [1]), ("last", [-1]), ("width", [n_items])):
        g.constant(name, axes, np.int64)

    padding = g.add("Less", "history", "none")
    counted = g.add("Where", padding, "zero", "one")  # [b, h]
    rows = g.add("Gather", "vectors", g.add("Where", padding, "none", "history"))  # [b, h, d]
    kept = g.add("Mul", rows, g.add("Unsqueeze", counted, "last"))
    count = g.add("ReduceSum", counted, "middle", keepdims=1)  # [b, 1]
    total = g.add("ReduceSum", kept, "middle", keepdims=0)
    liked = g.add("Div", total, g.add("Max", count, "one"))
    users = g.add("Sub", liked, "mean")
    if cosine:
        users = g.unit(users)
    if cosine and tau is not None:
        g.constant("tau", tau)
        g.constant("two", 2.0)
        for _ in range(steps):
            logits = g.add("Div", g.add("Gemm", users, "vectors", transB=1), "tau")
            offered = g.add("MatMul", g.add("Softmax", logits, axis=1), "vectors")
            gradient = g.unit(g.add("Sub", liked, offered))
            users = g.unit(g.add("Add", g.add("Mul", users, "two"), gradient))
    known = g.add("Min", count, "one")  # an empty history has no vector
    scores = g.add("Gemm", g.add("Mul", users, known), "vectors", transB=1)
    wide = g.add("Concat", scores, g.add("Mul", count, "zero"), axis=1)  # one column takes padding
    places = g.add("Where", padding, "behind", "history")
    nothing = g.add("Expand", "minus_inf", g.add("Shape", places))
    masked = g.add("ScatterElements", wide, places, nothing, axis=1)
    ranked = g.add("Slice", masked, "first", "width", "middle")
    g.nodes.append(onnx.helper.make_node("TopK", [ranked, "k"], ["scores", "items"], axis=1))

    types, make = onnx.TensorProto, onnx.helper.make_tensor_value_info
    inputs = [make("history", types.INT64, ["batch", "length"]), make("k", types.INT64, [1])]
    outputs = [
        make("items", types.INT64, ["batch", "k"]),
        make("scores", types.FLOAT, ["batch", "k"]),
    ]
    graph = onnx.helper.make_graph(g.nodes, "fold_in", inputs, outputs, g.constants)
    return onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=_IR
    )
