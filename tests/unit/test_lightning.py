"""Under Lightning the same seed gives the same model as the library's own loop."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from contrarec.data.dataset import Dataset
from contrarec.data.synthetic import SyntheticConfig, synthesize
from contrarec.errors import ConfigError
from contrarec.recommender import Recommender
from contrarec.settings import resolve_settings

L = pytest.importorskip("lightning", reason="the package lightning is not installed")
SMALL = {"epochs": 5, "eval_every": 5, "batch_size": 64, "dim": 8, "n_neg": 4, "lr": 0.01}
CASES = [
    ("mf", "bpr", {}),
    ("lightgcn", "infonce", {}),
    ("mf", "advinfonce", {"adv_interval": 2, "adv_epochs": 2, "warm_up_epochs": 0}),
    ("mf", "bc", {}),  # it learns beside the model
    ("mf", "adap-tau", {}),  # it looks at the vectors that an epoch begins with
    ("lightgcn", "infonce", {"fidelity": "published"}),
]


@pytest.fixture(scope="module")
def data() -> Dataset:
    config = SyntheticConfig(n_users=60, n_items=40, n_preferred=10)
    return synthesize(config, seed=0).dataset


def test_it_is_the_loop_with_given_vectors_too(data: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "items.npy"  # of two items that are in no log, too
    np.save(path, np.random.default_rng(0).standard_normal((data.n_items + 2, 6)))
    path.with_suffix(".txt").write_text("".join(f"{item}\n" for item in range(data.n_items + 2)))
    more = {"features": str(path), "adv_interval": 2, "warm_up_epochs": 0}
    test_it_is_the_loop(data, tmp_path, "alpharec", "advinfonce-mlp", more)


def trainer(folder: Path, **more: Any) -> Any:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"accelerator": "cpu", "check_val_every_n_epoch": 5, "num_sanity_val_steps": 0}
    return L.Trainer(default_root_dir=folder, **quiet, **options, **more)


def fit(one: Any, module: Any, **more: Any) -> None:
    with warnings.catch_warnings():  # of workers, of a step without a result, of slow tensor cores
        warnings.simplefilter("ignore")
        one.fit(module, **more)


@pytest.mark.parametrize(("backbone", "loss", "more"), CASES)
def test_it_is_the_loop(
    data: Dataset, tmp_path: Path, backbone: str, loss: str, more: dict[str, Any]
) -> None:
    from contrarec.integrations.lightning import RecommenderModule

    settings = resolve_settings(backbone=backbone, loss=loss, overrides=SMALL | more, seed=3)
    module = RecommenderModule(data, settings)
    one = trainer(tmp_path, max_epochs=5, enable_checkpointing=False)
    fit(one, module)
    native = Recommender.from_settings(settings).fit(data)
    ours = native._model.weights()
    assert ours.keys() == module.model.weights().keys()
    for name, value in module.model.weights().items():
        assert torch.equal(value, ours[name]), name
    metrics = native.result["metrics"]["valid"]
    assert float(one.callback_metrics["valid/recall@20"]) == pytest.approx(metrics["recall@20"])
    if loss == "advinfonce":
        assert module.adversary_passes == 4  # two in each of epochs 1 and 3


def test_a_checkpoint_goes_on_where_it_was(data: Dataset, tmp_path: Path) -> None:
    from contrarec.integrations.lightning import RecommenderModule

    overrides = SMALL | {"adv_interval": 2, "warm_up_epochs": 0}
    settings = resolve_settings(backbone="mf", loss="advinfonce", overrides=overrides, seed=3)
    whole, first, second = (RecommenderModule(data, settings) for _ in range(3))
    fit(trainer(tmp_path, max_epochs=5, enable_checkpointing=False), whole)
    part = trainer(tmp_path, max_epochs=3)
    fit(part, first)
    part.save_checkpoint(tmp_path / "three.ckpt")
    rest = trainer(tmp_path, max_epochs=5, enable_checkpointing=False)
    fit(rest, second, ckpt_path=tmp_path / "three.ckpt", weights_only=False)
    assert second.adversary_passes == whole.adversary_passes == 2
    for name, value in second.model.weights().items():
        assert torch.equal(value, whole.model.weights()[name]), name


def test_what_the_loop_alone_can_do_is_refused(data: Dataset) -> None:
    from contrarec.integrations.lightning import RecommenderModule

    settings = resolve_settings(loss="infonce", overrides={"negatives": "in_batch"})
    with pytest.raises(ConfigError, match=r"must be 'sampled' .* got 'in_batch'"):
        RecommenderModule(data, settings)
