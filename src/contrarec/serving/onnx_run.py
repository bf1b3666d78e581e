"""The ONNX graph of a run, checked against the run itself."""

from pathlib import Path
from typing import Any

import numpy as np

from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError
from contrarec.foldin import STEPS
from contrarec.losses import Loss
from contrarec.model import Model
from contrarec.recommender import Recommender
from contrarec.serving.export import Exported, load_package
from contrarec.serving.onnx_graph import fold_in_graph, to_onnx

_CHECKED = 64  # histories


def export_fold_in(exported: Exported, folder: Path, run: Path) -> dict[str, Any]:
    """Write the graph that scores histories, and how far it is from torch.

    Raises:
        ConfigError: the loss ranks by more than the vectors of users and items.
        BackendError: a package is not installed.
        DataError: the folder is not empty, or cannot be written.
    """
    runtime = load_package("onnxruntime", "onnx", "checking an ONNX graph")
    recommender = Recommender.load(run, device="cpu")
    model = recommender.model
    if not isinstance(model, Model) or type(model.loss).final_vectors is not Loss.final_vectors:
        raise ConfigError(
            f"{run}: {recommender.settings.loss_name!r} ranks by more than the vectors of users "
            "and items, which the ONNX graph does not have."
        )
    tau = getattr(model.loss.config, "tau", None)
    settings: dict[str, Any] = {"cosine": model.cosine, "tau": tau, "steps": STEPS}
    difference = _difference(runtime, exported, model, settings)
    return to_onnx(exported, folder, **settings) | {"largest_difference": difference}


def _difference(runtime: Any, exported: Exported, model: Model, settings: dict[str, Any]) -> float:
    """Return the largest difference of a score between ONNX and torch, over some histories."""
    history = exported.history
    users = np.flatnonzero(history.user_counts)[:_CHECKED]
    width = int(history.user_counts[users].max(initial=1))
    padded = np.full((len(users), width), -1, np.int64)
    for row, user in enumerate(users):
        items = history.indices[history.indptr[user] : history.indptr[user + 1]]
        padded[row, : len(items)] = items
    graph = fold_in_graph(exported.items, **settings)
    session = runtime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    k = np.array([history.n_items])
    found, scores = session.run(["items", "scores"], {"history": padded, "k": k})
    filled = padded >= 0
    few = Interactions.from_pairs(
        filled.nonzero()[0],
        padded[filled],
        users=Vocabulary.of(range(len(users))),
        items=history.items,
    )
    want = model.fold_in_scorer(few)(np.arange(len(users))).numpy()
    ranked = ~np.isneginf(scores)
    return float(np.abs(np.take_along_axis(want, found, 1) - scores)[ranked].max(initial=0.0))
