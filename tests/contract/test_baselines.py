"""What every baseline in the table has to do, from settings to a loaded run."""

import json

import numpy as np
import polars as pl
import pytest
import torch

from contrarec import Dataset, Recommender
from contrarec.baselines import BASELINES
from contrarec.config import BackboneConfig, TrainingConfig
from contrarec.errors import ConfigError, DataError
from contrarec.presets import preset_names
from contrarec.settings import Settings, resolve_settings, without_idle
from contrarec.training.loop import Hooks

MEASURES = {"ks": (5,), "monitor": "recall@5"}


@pytest.fixture(autouse=True)
def _library(request):
    if "name" in request.fixturenames and request.getfixturevalue("name") == "als":
        request.getfixturevalue("implicit")


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


@pytest.mark.parametrize("name", BASELINES)
class TestEveryBaseline:
    def test_settings_survive_a_round_trip(self, name):
        for preset in (None, *preset_names()):
            settings = resolve_settings(loss=name, preset=preset, seed=5)
            assert settings.backbone == BackboneConfig(name="none")
            assert Settings.from_toml(settings.to_toml()) == settings
            # of a preset's values none has a meaning but those of the measurement
            assert settings == resolve_settings(loss=name, seed=5)

    def test_a_run_survives_saving(self, checkerboard, name, tmp_path):
        lines, evaluated = [], []
        hooks = Hooks(on_epoch=lines.append, on_eval=lambda *given: evaluated.append(given))
        rec = Recommender(loss=name, device="cpu", seed=3, **MEASURES)
        rec.fit(checkerboard, out=tmp_path / "run", hooks=hooks)
        result = rec.result
        wanted = {"backbone": "none", "loss": name, "best_epoch": 0, "epochs": 0, "device": "cpu"}
        assert result | wanted | {"stopped": "fitted"} == result
        log = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        expected = {"epoch": 0, "metrics": result["metrics"], "seconds": result["seconds"]}
        assert [json.loads(line) for line in log] == lines == [expected]
        assert evaluated == [(0, result["metrics"], True)]

        again = Recommender.load(tmp_path / "run", device="cpu")
        assert again.result == result
        assert again.settings == rec.settings
        for key, tensor in rec._trained().weights().items():
            assert torch.equal(tensor, again._trained().weights()[key]), key
        for call in (
            lambda r: r.recommend([3, 8], k=4),
            lambda r: r.fold_in([[1, 3], [2]], k=4),
            *([lambda r: r.similar_items([5], k=4)] if name != "popularity" else []),
        ):
            assert call(again).equals(call(rec))
        found = again.evaluate(checkerboard, bootstrap=0)["diagonal"].metrics()
        assert found == result["metrics"]["diagonal"]

        rec.save(tmp_path / "copy")
        saved = Recommender.load(tmp_path / "copy", device="cpu").recommend([3], k=4)
        assert saved.equals(rec.recommend([3], k=4))
        # resuming a finished run, or one that was stopped, comes to the same
        (tmp_path / "run" / "model.safetensors").unlink()
        Recommender(loss=name, device="cpu", seed=3, **MEASURES).fit(
            checkerboard, out=tmp_path / "run", resume=True
        )
        third = Recommender.load(tmp_path / "run", device="cpu")
        for key, tensor in rec._trained().weights().items():
            assert torch.equal(tensor, third._trained().weights()[key]), key
        assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 1

    def test_a_backbone_is_refused(self, name):
        message = f"'{name}' is fitted .* goes with no backbone, got 'mf'"
        with pytest.raises(ConfigError, match=message):
            Recommender("mf", name)
        with pytest.raises(ConfigError, match=message):
            resolve_settings(config={"backbone": {"name": "mf"}, "loss": {"name": name}})
        assert resolve_settings(backbone="none", loss=name).backbone.name == "none"

    @pytest.mark.parametrize("key", ["lr", "training.epochs", "dim", "backbone.n_layers"])
    def test_settings_without_a_meaning_are_refused(self, name, key):
        with pytest.raises(ConfigError, match=rf"{key.split('.')[-1]}': means nothing to '{name}'"):
            resolve_settings(loss=name, overrides={key: 3})

    def test_names_are_not_those_of_other_sections(self, name):
        others = {*vars(BackboneConfig()), *vars(TrainingConfig())}
        assert set(vars(BASELINES[name].config())) & others == set()

    def test_another_model_is_refused(self, checkerboard, name, tmp_path):
        rec = Recommender(loss=name, device="cpu", **MEASURES).fit(checkerboard)
        other = next(kind for kind in BASELINES if kind not in (name, "als"))
        rec.save(tmp_path / "run")
        Recommender(loss=other, device="cpu").fit(checkerboard).save(tmp_path / "other")
        (tmp_path / "other" / "model.safetensors").replace(tmp_path / "run" / "model.safetensors")
        with pytest.raises(DataError, match="the weights do not fit its settings"):
            Recommender.load(tmp_path / "run")


@pytest.mark.parametrize("name", [name for name in BASELINES if name != "popularity"])
class TestEveryBaselineThatLearns:
    def test_the_diagonal_comes_first(self, checkerboard, name):
        rec = Recommender(loss=name, device="cpu", **MEASURES).fit(checkerboard)
        # item u is the only item of its colour that user u has not seen
        assert rec.result["metrics"]["diagonal"]["recall@5"] == 1
        assert rec.result["metrics"]["diagonal"]["mrr@5"] == 1
        assert rec.recommend([3], k=1)["item_id"].to_list() == [3]

    def test_a_user_never_seen_gets_what_its_like_get(self, checkerboard, name):
        rec = Recommender(loss=name, device="cpu", **MEASURES).fit(checkerboard)
        likes = [i for i in range(24) if i % 2 == 0 and i != 6]
        odd = [i for i in range(24) if i % 2 and i != 9]
        folded = rec.fold_in([likes, odd], k=1)
        assert folded["item_id"].to_list() == [6, 9]
        assert folded["user_id"].to_list() == [0, 1]
        trained = rec.recommend([6, 9], k=1)
        tolerance = 0.1 if name == "als" else 1e-6  # its library does not solve exactly
        np.testing.assert_allclose(folded["score"], trained["score"], rtol=tolerance)

    def test_similar_items_have_the_same_colour_and_not_the_item_itself(self, checkerboard, name):
        rec = Recommender(loss=name, device="cpu", **MEASURES).fit(checkerboard)
        frame = rec.similar_items([4, 7], k=11)
        for item in (4, 7):
            own = frame.filter(pl.col("item_id") == item)["similar_item_id"].to_list()
            assert sorted(own) == [i for i in range(24) if i % 2 == item % 2 and i != item]


def test_popularity_recommends_by_count():
    pairs = [("a", "x"), ("b", "x"), ("c", "x"), ("a", "y"), ("b", "y"), ("a", "z")]
    frame = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    rec = Recommender(loss="popularity").fit(Dataset.from_frame(frame))
    assert rec.recommend(["c", "b"], k=2).rows() == [
        ("c", "y", 2.0, 1), ("c", "z", 1.0, 2), ("b", "z", 1.0, 1)
    ]  # fmt: skip
    assert rec.fold_in([["y"]], k=1).rows() == [(0, "x", 3.0, 1)]
    with pytest.raises(ConfigError, match="'popularity' knows no similar items"):
        rec.similar_items(["x"])


def test_too_large_a_catalogue_leaves_no_run_behind(tmp_path, checkerboard):
    rec = Recommender(loss="ease", max_gb=1e-6)
    with pytest.raises(ConfigError, match="`max_gb` must be at least"):
        rec.fit(checkerboard, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_baseline_stays_on_the_cpu(monkeypatch):
    monkeypatch.setattr("contrarec.recommender.resolve_device", lambda _: torch.device("cuda"))
    assert Recommender(loss="ease").device.type == "cpu"
    assert Recommender("mf", "infonce").device.type == "cuda"


def test_a_baseline_is_found_where_losses_are():
    with pytest.raises(ConfigError, match=r"unknown loss 'eaze'.*did you mean 'ease'.*itemknn"):
        Recommender(loss="eaze")
    with pytest.raises(ConfigError, match="unknown backbone 'none'"):
        Recommender("none", "infonce")
    with pytest.raises(ConfigError, match="`loss` must be a EASEConfig for 'ease'"):
        Settings(loss_name="ease", loss=BASELINES["als"].config())


def test_shared_overrides_keep_what_means_something_to_a_baseline():
    shared = {"lr": 0.1, "training.epochs": 3, "dim": 8, "ks": (5,), "training.monitor": "ndcg@5"}
    assert without_idle(shared | {"lam": 2.0}, "ease") == {
        "ks": (5,), "training.monitor": "ndcg@5", "lam": 2.0
    }  # fmt: skip
    assert without_idle(shared, "infonce") == shared
    with pytest.raises(ConfigError, match="unknown setting 'lrr'"):
        without_idle({"lrr": 1}, "ease")


@pytest.mark.parametrize(
    ("name", "recall", "ndcg"),
    [("popularity", 0.169, 0.081), ("itemknn", 0.214, 0.134), ("ease", 0.214, 0.137)],
)
def test_on_coat_they_reach_what_was_measured_with_other_code(data_dir, name, recall, ndcg):
    data = Dataset.load(data_dir("coat"))
    found = Recommender(loss=name, preset="coat").fit(data).result["metrics"]["ood"]
    assert found["recall@20"] == pytest.approx(recall, abs=0.01)
    assert found["ndcg@20"] == pytest.approx(ndcg, abs=0.01)
