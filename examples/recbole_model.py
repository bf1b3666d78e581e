"""A loss of contrarec in RecBole, on a log that is made up: AdvInfoNCE beside RecBole's own BPR.

Both come near what the log allows: which items of their taste a user takes is chance.

RecBole 1.2.1 needs packages of its own age, so it is tried in an environment of its own:

    pip install recbole==1.2.1 'setuptools<81' 'numpy<2' 'scipy<1.13' 'pandas<3'
    TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD=1 python examples/recbole_model.py
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import BPR
from recbole.utils import get_trainer, init_seed

from contrarec.integrations.recbole import ContrarecMF

OPTIONS = {
    "load_col": {"inter": ["user_id", "item_id"]},
    "embedding_size": 16,
    "epochs": 15,
    "learning_rate": 0.01,
    "train_batch_size": 4096,
    "train_neg_sample_args": {"distribution": "uniform", "sample_num": 8},
    "topk": [20],
    "metrics": ["Recall", "NDCG"],
    "valid_metric": "NDCG@20",
    "use_gpu": False,
    "show_progress": False,
    "state": "ERROR",
    "contrarec_loss": "advinfonce",
    "contrarec_settings": {"tau": 0.3},
}


def make_log(folder: Path) -> None:
    """Write the log of 300 users, each with one of ten tastes, as RecBole reads it."""
    rng = np.random.default_rng(0)
    lines = ["user_id:token\titem_id:token"]
    for user in range(300):
        liked = np.arange(user % 10, 200, 10)
        lines += [f"u{user}\ti{item}" for item in rng.choice(liked, 12, replace=False)]
    (folder / "toy").mkdir()
    (folder / "toy" / "toy.inter").write_text("\n".join(lines) + "\n")


def train(model: Any, folder: Path) -> float:
    """Train a model class with RecBole's trainer; return NDCG@20 on its test set."""
    paths = {"data_path": str(folder), "checkpoint_dir": str(folder)}
    config = Config(model=model, dataset="toy", config_dict=OPTIONS | paths)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train_data, valid_data, test_data = data_preparation(config, dataset)
    made = model(config, train_data.dataset)
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, made)
    trainer.fit(train_data, valid_data, verbose=False, show_progress=False)
    return float(trainer.evaluate(test_data, show_progress=False)["ndcg@20"])


def main() -> None:
    """Train both, and say how good they are."""
    for name, model in (("BPR", BPR), ("AdvInfoNCE", ContrarecMF)):
        with tempfile.TemporaryDirectory() as folder:
            make_log(Path(folder))
            print(f"{name}: NDCG@20 {train(model, Path(folder)):.3f}")


if __name__ == "__main__":
    main()
