"""What every loss and every backbone in the tables has to do."""

import numpy as np
import polars as pl
import pytest
import torch

from contrarec import Dataset, Recommender
from contrarec.backbones import BACKBONES
from contrarec.errors import ConfigError
from contrarec.losses import LOSSES
from contrarec.settings import Settings, resolve_settings
from contrarec.training.loop import Hooks

SMALL = {
    "batch_size": 64, "n_neg": 6, "epochs": 30, "eval_every": 30, "lr": 0.02, "backbone.dim": 16,
    "ks": (5,), "monitor": "recall@5", "l2": 0.0,
}  # fmt: skip
OWN = {
    # their weights are for large catalogues, where few negatives come near the margins
    "ccl": {"neg_weight": 5.0},
    "mmcl": {"neg_weights": (1.0, 1.0, 1.0)},
    # pushes the hardest negative alone, which among 6 of 13 is the held-out item half the time
    "simce": {"n_neg": 3},
    # where one map moves all items, hiding popularity soon costs as much as it can
    "pid": {"alpha": 0.95},
    # much uniformity parts users of one colour by the one item that each of them lacks
    "directau": {"gamma": 0.2},
    "mawu": {"gamma_user": 0.1},
    # much contrast or uniformity parts users of one colour by the one item that each of them lacks
    "simgcl": {"view_weight": 0.05},
    "xsimgcl": {"view_weight": 0.05},
    "au-plus": {"gamma": 0.2},
    # its parts are weighed by chance: by halves, so that one epoch's loss compares with another's
    "mixrec": {"concentration": 1000.0},
}
"""What a formula needs on so small a board."""


@pytest.fixture(scope="module")
def checkerboard():
    """User u likes the items of its own colour, all but item u: the held-out diagonal."""
    pairs = [(u, i) for u in range(24) for i in range(24) if (u + i) % 2 == 0]
    train = [(u, i) for u, i in pairs if u != i]
    truth = [(u, i) for u, i in pairs if u == i]
    frames = [pl.DataFrame(part, schema=["user", "item"], orient="row") for part in (train, truth)]
    return Dataset.from_parts(
        train=frames[0], tests={"diagonal": frames[1]}, user="user", item="item", name="board"
    )


@pytest.fixture(scope="module")
def features(tmp_path_factory):
    """Item vectors that tell the colours among much else, as what a backbone has to be given."""
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((24, 40))
    matrix[:, 0] = np.where(np.arange(24) % 2, 1.0, -1.0)
    path = tmp_path_factory.mktemp("features") / "items.npy"
    np.save(path, matrix)
    path.with_suffix(".txt").write_text("".join(f"{item}\n" for item in range(24)))
    return path


FITTING = [(loss, b) for loss, spec in LOSSES.items() for b in spec.backbones or BACKBONES]


@pytest.mark.parametrize(("loss", "backbone"), FITTING)
class TestEveryMethod:
    def test_settings_survive_a_round_trip(self, loss, backbone):
        given = {"features": "items.npy"} if backbone == "alpharec" else {}
        settings = resolve_settings(backbone=backbone, loss=loss, overrides=SMALL | given, seed=5)
        assert Settings.from_toml(settings.to_toml()) == settings

    def test_learns_the_checkerboard_and_survives_saving(
        self, checkerboard, features, loss, backbone, tmp_path
    ):
        losses = []
        given = {"features": features} if backbone == "alpharec" else {}
        hooks = Hooks(on_epoch=lambda line: losses.append(line["loss"]))
        rec = Recommender(backbone, loss, device="cpu", **SMALL | OWN.get(loss, {}) | given)
        rec.fit(checkerboard, out=tmp_path / "run", hooks=hooks)
        assert losses[-1] < losses[0]
        # item u is the only item of its colour that user u has not seen: it must come first,
        # for nearly every user: fixed random weights let one or two through
        assert rec.result["metrics"]["diagonal"]["mrr@5"] > 0.95
        again = Recommender.load(tmp_path / "run", device="cpu")
        for (name, a), (_, b) in zip(
            rec._trained().weights().items(), again._trained().weights().items(), strict=True
        ):
            assert torch.equal(a, b), name
        assert again.recommend([3], k=1)["item_id"].to_list() == [3]


def test_an_unknown_name_is_an_error_with_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'advinfonce'"):
        Recommender("mf", "advinfonse")
