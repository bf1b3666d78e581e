"""A model taken over to a longer history: which rows move where, what new ones start as."""

import numpy as np
import polars as pl
import pytest
import torch
import torch.nn.functional as F

import contrarec as cr
from contrarec import Dataset, Recommender
from contrarec.errors import DataError

FAST = {"dim": 4, "n_neg": 4, "batch_size": 32, "epochs": 2, "eval_every": 1, "device": "cpu"}


def frame(pairs: list[tuple[str, str]]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")


def early() -> list[tuple[str, str]]:
    return [(f"u{u}", f"i{i}") for u in range(1, 12) for i in range(1, 9) if (u + i) % 3]


LATER = [("u0", "i1"), ("u0", "i4"), ("u0", "i0"), ("u3", "i0"), ("u5", "i0"), ("u2", "i2")]
"""`u0` and `i0` are new, and first in order, so that every row moves."""


@pytest.fixture(scope="module", params=["mf", "lightgcn"])
def trained(request: pytest.FixtureRequest) -> Recommender:
    return Recommender(request.param, "advinfonce", adv_interval=1, **FAST).fit(
        Dataset.from_frame(frame(early()))
    )


def test_an_empty_log_changes_nothing(trained: Recommender) -> None:
    nothing = Dataset.from_frame(frame([]).cast(pl.String))
    updated = trained.update(nothing)
    old, new = trained.model.weights(), updated.model.weights()
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert updated.result["stopped"] == "nothing new"
    assert updated.result["epochs"] == 0
    users = trained.users.ids
    assert updated.recommend(users, 3).equals(trained.recommend(users, 3))


def test_pairs_that_are_known_change_nothing(trained: Recommender) -> None:
    updated = trained.update(Dataset.from_frame(frame(early()[:3])))
    old, new = trained.model.weights(), updated.model.weights()
    assert all(torch.equal(old[name], new[name]) for name in old)


def test_rows_move_with_their_ids_and_new_ones_are_guessed(
    trained: Recommender, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contrarec import recommender
    from contrarec.training.loop import Outcome

    done = Outcome(best_epoch=0, epochs=0, seconds=0.0, stopped="epochs")
    monkeypatch.setattr(recommender, "fit", lambda *_, **__: done)
    updated = trained.update(Dataset.from_frame(frame(LATER)))
    assert updated.users.ids.to_list() == sorted([*trained.users.ids, "u0"])
    for name in ("backbone.user_table", "loss.adversary.users", "backbone.item_table"):
        if name not in trained.model.weights():
            continue
        old, new = trained.model.weights()[name], updated.model.weights()[name]
        assert torch.equal(new[1:], old)  # the new id is the first
    tables = [updated.model.weights()[f"backbone.{side}_table"] for side in ("user", "item")]
    users, items = (table.detach() for table in tables)
    of = {name: n for n, name in enumerate(updated.users.ids)}
    # the new item: the mean direction of the trained users who have it, u3 and u5
    direction = F.normalize(users[of["u3"]] + 0, dim=0) + F.normalize(users[of["u5"]] + 0, dim=0)
    length = items[1:].norm(dim=1).mean()
    torch.testing.assert_close(items[0], F.normalize(direction, dim=0) * length)
    # the new user: near the items of its history, at the mean length of the others
    torch.testing.assert_close(users[0].norm(), users[1:].norm(dim=1).mean())
    cosines = F.normalize(items) @ F.normalize(users[0], dim=0)
    own = [updated.items.ids.to_list().index(item) for item in ("i0", "i1", "i4")]
    others = [n for n in range(len(items)) if n not in own]
    assert cosines[own].mean() > cosines[others].mean()


def test_an_update_learns_and_counts(trained: Recommender) -> None:
    data = Dataset.from_parts(train=frame(LATER), tests={"t": frame([("u0", "i7"), ("u2", "i7")])})
    updated = trained.update(data, epochs=3)
    result = updated.result
    assert (result["new_interactions"], result["new_users"], result["new_items"]) == (5, 1, 1)
    assert (result["epochs"], result["stopped"]) == (3, "epochs")
    assert "recall@20" in result["metrics"]["t"]
    assert updated.settings.training.epochs == 3
    before, after = trained.model.weights(), updated.model.weights()
    assert not torch.equal(after["backbone.user_table"][1:], before["backbone.user_table"])
    assert set(updated.recommend(["u0"], 3)["item_id"]).isdisjoint({"i0", "i1", "i4"})
    again = trained.update(data, epochs=3).model.weights()
    assert all(torch.equal(again[name], after[name]) for name in after)


def test_an_updated_run_is_a_run(trained: Recommender, tmp_path) -> None:
    updated = trained.update(Dataset.from_frame(frame(LATER)), epochs=1)
    updated.save(tmp_path / "run")
    loaded = Recommender.load(tmp_path / "run", device="cpu")
    assert loaded.recommend(["u0"], 3).equals(updated.recommend(["u0"], 3))
    assert loaded.result["run"] == str(tmp_path / "run")
    assert loaded.update(Dataset.from_frame(frame([("u99", "i1")])), epochs=1).result["new_users"]


def test_what_counts_popularity_is_worked_out_anew() -> None:
    """A loss's state moves; what it derived from the old log does not."""
    old = Recommender("mf", "ips", **FAST).fit(Dataset.from_frame(frame(early())))
    updated = old.update(Dataset.from_frame(frame(LATER)), epochs=1)
    merged = frame(early() + LATER).unique()
    fresh = Recommender("mf", "ips", **FAST).fit(Dataset.from_frame(merged))
    got, want = (rec.model.weights()["loss.weights"] for rec in (updated, fresh))
    torch.testing.assert_close(got, want)


def test_a_state_that_does_not_fit_starts_anew_and_says_so() -> None:
    old = Recommender("mf", "bc", **FAST).fit(Dataset.from_frame(frame(early())))
    with pytest.warns(UserWarning, match="does not fit the longer history and starts anew"):
        old.update(Dataset.from_frame(frame([("u1", f"i{n}") for n in range(20, 40)])), epochs=1)


def test_a_baseline_is_fitted_again() -> None:
    old = Recommender(loss="popularity").fit(Dataset.from_frame(frame(early())))
    more = frame([(f"u{n}", "i0") for n in range(20, 60)])
    assert old.update(Dataset.from_frame(more)).recommend(["u1"], 1)["item_id"].to_list() == ["i0"]


def test_texts_do_not_join_numbers() -> None:
    numbers = pl.DataFrame({"user_id": [1, 1, 2, 2], "item_id": [1, 2, 2, 3]})
    old = Recommender("mf", "bpr", **FAST).fit(Dataset.from_frame(numbers))
    with pytest.raises(DataError, match=r"user ids must be whole numbers, .* got 'u0'"):
        old.update(Dataset.from_frame(frame(LATER)))


def test_the_same_number_of_users_and_items_is_told_apart() -> None:
    """Eight users and eight items, where new ones of each come first."""
    square = [(f"u{u}", f"i{i}") for u in range(1, 9) for i in range(1, 9) if (u + 2 * i) % 3]
    old = Recommender("mf", "advinfonce", adv_interval=1, **FAST).fit(
        Dataset.from_frame(frame(square))
    )
    more = Dataset.from_frame(frame([("u0", "i1"), ("u9", "i1"), ("u1", "i8x"), ("u2", "i0")]))
    updated = old.update(more, epochs=1)
    assert updated.model.weights()["backbone.item_table"].shape == (10, 4)
    assert np.array_equal(updated.items.index(old.items.ids), [1, 2, 3, 4, 5, 6, 7, 8])


class TestParams:
    def test_clone(self) -> None:
        """What scikit-learn's `clone` does: the class, called with copies of `get_params`."""
        rec = cr.Recommender("lightgcn", "infonce", seed=3, device="cpu", tau=0.3, ks=(5, 20))
        params = rec.get_params(deep=False)
        assert params["tau"] == 0.3
        twin = type(rec)(**params)
        assert twin.settings == rec.settings
        got = twin.get_params()
        assert got.keys() == params.keys()
        assert all(got[name] is value for name, value in params.items())

    def test_set(self) -> None:
        rec = cr.Recommender("mf", "infonce", device="cpu", tau=0.3)
        assert rec.set_params(tau=0.5, lr=0.01) is rec
        assert (rec.settings.loss.tau, rec.settings.training.lr) == (0.5, 0.01)
        with pytest.raises(ValueError, match="`tau` must be positive"):
            rec.set_params(tau=-1.0)
        assert rec.get_params()["tau"] == 0.5
        assert rec.set_params() is rec

    def test_of_a_loaded_run(self, trained: Recommender, tmp_path) -> None:
        trained.save(tmp_path / "run")
        loaded = Recommender.load(tmp_path / "run", device="cpu")
        assert type(loaded)(**loaded.get_params()).settings == loaded.settings
        loaded.set_params(seed=5)
        with pytest.raises(ValueError, match="nothing has been trained"):
            loaded.recommend(["u1"])
        baseline = Recommender.from_settings(Recommender(loss="ease", lam=3.0).settings)
        assert type(baseline)(**baseline.get_params()).settings == baseline.settings
