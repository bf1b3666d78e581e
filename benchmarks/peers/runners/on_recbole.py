"""Runner of RecBole: BPR, LightGCN and SimpleX."""

from typing import Any

import numpy as np
import recbole
import torch
import torch.nn.functional as F
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
from turns import Job, Turns


def main() -> None:
    """Train until the driver has had enough."""
    turns = Turns()
    job = turns.job
    torch.set_num_threads(job.threads)
    config = Config(model=job.model, dataset="log", config_dict=_settings(job))
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, _, _ = data_preparation(config, dataset)
    init_seed(config["seed"], config["reproducibility"])
    model = get_model(job.model)(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], job.model)(config, model)
    # row 0 is RecBole's padding
    users = dataset.field2id_token["user_id"][1:].astype(np.int64)
    items = dataset.field2id_token["item_id"][1:].astype(np.int64)

    @torch.no_grad()
    def vectors() -> tuple[np.ndarray, np.ndarray]:
        model.eval()
        U = np.zeros((job.n_users, job.dim), np.float32)
        V = np.zeros((job.n_items, job.dim), np.float32)
        their_users, their_items = _vectors(model, job.model)
        U[users], V[items] = their_users[1:].numpy(), their_items[1:].numpy()
        return U, V

    @torch.no_grad()
    def scores(user: int) -> np.ndarray:
        out = np.zeros(job.n_items, np.float32)
        index = torch.tensor([dataset.token2id("user_id", str(user))])
        out[items] = model.full_sort_predict({"user_id": index}).reshape(-1)[1:].numpy()
        if hasattr(model, "restore_user_e"):  # LightGCN's cache; training clears it as well
            model.restore_user_e = model.restore_item_e = None
        return out

    turns.begin(
        version=recbole.__version__, negatives=config["train_neg_sample_args"]["sample_num"]
    )
    epoch = 0
    while True:
        trainer._train_epoch(train, epoch)
        turns.trained(vectors, scores)
        epoch += 1


def _settings(job: Job) -> dict[str, Any]:
    """Write the training set as RecBole's files, and return the settings."""
    folder = job.folder / "log"
    folder.mkdir(exist_ok=True)
    lines = [f"{user}\t{item}" for user, item in zip(job.users, job.indices, strict=True)]
    for part, content in (("train", lines), ("held", lines[:1])):  # it insists on held-out parts
        text = "\n".join(["user_id:token\titem_id:token", *content])
        (folder / f"log.{part}.inter").write_text(text + "\n", encoding="utf-8")
    return {
        "data_path": str(job.folder),
        "checkpoint_dir": str(job.folder),
        "benchmark_filename": ["train", "held", "held"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "embedding_size": job.dim,
        "seed": job.seed,
        "use_gpu": False,
        "show_progress": False,
        "state": "WARNING",
        **job.options,
    }


def _vectors(model: Any, name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the vectors that the model's scores are dot products of, padding included."""
    if name == "BPR":
        return model.user_embedding.weight, model.item_embedding.weight
    if name == "LightGCN":
        users, items = model.forward()
        return users, items
    history = model.item_emb(model.history_item_id)
    users = model.get_UI_aggregation(model.user_emb.weight, history, model.history_item_len)
    return F.normalize(users), F.normalize(model.item_emb.weight)


if __name__ == "__main__":
    main()
