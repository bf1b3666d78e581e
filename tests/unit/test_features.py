"""Given item vectors: reading and checking them, and recommending items that nobody has had."""

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from contrarec import Dataset, Recommender
from contrarec.backbones import AlphaRec, build_backbone
from contrarec.comparison import compare
from contrarec.config import BackboneConfig, TrainingConfig
from contrarec.data.features import read_features
from contrarec.data.splits import Random
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import ConfigError, DataError
from contrarec.losses import InfoNCE
from contrarec.sampling import Batch, Sampler
from contrarec.settings import resolve_settings
from contrarec.training.loop import Hooks, add_batch_l2
from contrarec.training.negatives import SharedNegatives
from features import SMALL, tastes_data, unseen_of_taste, write_features

# reading -----------------------------------------------------------------------------------------


def write_npy(folder, matrix, ids="a\nb\nc\n"):
    np.save(folder / "items.npy", matrix)
    (folder / "items.txt").write_text(ids)
    return folder / "items.npy"


def test_every_format_gives_the_same(tmp_path):
    matrix = np.array([[1.0, 2.0], [0.0, -1.0], [0.5, 0.0]])
    npy = write_npy(tmp_path, matrix)
    (tmp_path / "elsewhere").write_text("\ufeffa\nb\r\nc", encoding="utf-8")
    lists, arrays, columns = (tmp_path / f"{name}.parquet" for name in ("l", "a", "c"))
    frame = pl.DataFrame({"item_id": ["a", "b", "c"], "x": matrix.tolist()})
    frame.write_parquet(lists)
    frame.with_columns(pl.col("x").list.to_array(2)).write_parquet(arrays)
    pl.DataFrame({"x": matrix[:, 0], "Item": ["a", "b", "c"], "y": [2, -1, 0]}).write_parquet(
        columns
    )
    found = [read_features(path) for path in (npy, lists, arrays, columns)]
    found.append(read_features(npy, tmp_path / "elsewhere"))
    for features in found:
        assert features.ids.to_list() == ["a", "b", "c"]
        assert features.matrix.dtype == np.float32
        np.testing.assert_array_equal(features.matrix, matrix)
    assert len({features.fingerprint() for features in found}) == 1
    assert found[0].of(Vocabulary.of(["c", "a"])).tolist() == [[1.0, 2.0], [0.5, 0.0]]
    others = [write_npy(tmp_path, 2 * matrix), write_npy(tmp_path, matrix, "b\na\nc\n")]
    assert read_features(others[1]).fingerprint() != found[0].fingerprint()


@pytest.mark.parametrize(
    ("matrix", "ids", "says"),
    [
        ([[1, 2], [3, 4], [np.nan, 1]], "a\nb\nc\n", r"finite, got a missing .* number for 'c'\.$"),
        ([[1, 2], [-np.inf, 4], [1, 1]], "a\nb\nc\n", r"finite, got .* for 'b'\.$"),
        ([[1, 2], [1e39, 4], [1, 1]], "a\nb\nc\n", r"finite, got .* for 'b'\.$"),
        ([[0, 0], [3, 4], [0, -0.0]], "a\nb\nc\n", r"not be zero throughout, .* of 'a', 'c'\.$"),
        ([[1, 2], [3, 4], [5, 6]], "a\nb\na\n", r"ids must be unique, got more of 'a'\."),
        ([[1, 2], [3, 4], [5, 6]], "a\nb\n", r"as many as the 3 rows of the matrix, got 2\."),
        ([[1, 2], [3, 4], [5, 6]], "a\n\nc\n", r"items\.txt:2: expected an item id, got an empty"),
        (np.zeros((0, 2)), "", r"at least one row"),
        (np.zeros((3, 0)), "a\nb\nc\n", r"at least one row and one column, got the shape \(3, 0\)"),
        ([1.0, 2.0, 3.0], "a\nb\nc\n", r"must be a matrix .* got the shape \(3,\)"),
        ([["x"], ["y"], ["z"]], "a\nb\nc\n", r"must be numbers, got the type <U1"),
        (np.array([[{}]], object), "a\n", r"not a sound \.npy file of numbers"),
    ],
)
def test_a_matrix_that_is_refused(tmp_path, matrix, ids, says):
    with pytest.raises(DataError, match=says) as caught:
        read_features(write_npy(tmp_path, np.array(matrix), ids))
    assert str(caught.value).startswith(str(tmp_path / "items."))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"item": ["a", "b", "c"], "x": [[1, 2], [3], [5, 6]]}, r"width, got 2 .* for 'b'\.$"),
        ({"item": ["a", "b", "c"], "x": [[1, 2], None, [5, 6]]}, r"width, got 2 .* for 'b'\.$"),
        ({"item": ["a", "b", "c"], "x": [[1, 2], [3, None], [5, 6]]}, r"finite, .* for 'b'\.$"),
        ({"item": ["a", "b"], "x": [[], []]}, r"at least one row and one column"),
        ({"item": ["a", "b", "c"], "x": [1, 2, None]}, r"finite, got a missing .* for 'c'\.$"),
        ({"item": ["a", "b", "a"], "x": [1, 2, 3]}, r"unique, got more of 'a'\."),
        ({"item": ["a", None, "b"], "x": [1, 2, 3]}, r"`item`: ids must not be missing"),
        ({"item": ["a", "b"], "x": [1, 2], "title": ["A", "B"]}, r"numeric .* `title` String"),
        ({"item": ["a", "b"]}, r"beside `item` must be .* got none"),
        ({"thing": ["a", "b"], "x": [1, 2]}, r"no column is called item_id or .*: thing, x\.$"),
    ],
)
def test_a_table_that_is_refused(tmp_path, columns, says):
    path = tmp_path / "items.parquet"
    pl.DataFrame(columns, strict=False).write_parquet(path)
    with pytest.raises(DataError, match=says) as caught:
        read_features(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_files_that_are_none(tmp_path):
    npy, parquet = tmp_path / "items.npy", tmp_path / "items.parquet"
    with pytest.raises(DataError, match=r"must be a \.npy or a \.parquet file"):
        read_features("items.csv")
    for path in (npy, parquet):
        with pytest.raises(DataError, match="no such file"):
            read_features(path)
        path.write_bytes(b"nothing of the kind")
        (tmp_path / "items.txt").write_text("a\n")
        with pytest.raises(DataError, match="not a sound"):
            read_features(path)
    with pytest.raises(DataError, match=r"has a column of ids and takes no list of them, got ids"):
        read_features(parquet, "ids.txt")
    np.save(npy, np.ones((1, 1)))
    with pytest.raises(DataError, match=r"other\.txt: no list of the item ids"):
        read_features(npy, tmp_path / "other.txt")


def test_ids_take_the_type_of_the_data(tmp_path):
    features = read_features(write_npy(tmp_path, np.eye(3), "3\n07\n12\n"))
    numbers = features.matched(Vocabulary.of([7, 12]))
    assert numbers.ids.to_list() == [3, 7, 12]
    assert numbers.of(Vocabulary.of([12, 7])).tolist() == [[0, 1, 0], [0, 0, 1]]
    with pytest.raises(DataError, match=r"no vector for the item '7' of the data"):
        features.matched(Vocabulary.of(["7", "12"]))
    with pytest.raises(DataError, match=r"no vector for the item 0, 1, 2, 4, 5 and 5 more of the"):
        features.matched(Vocabulary.of(range(13)))
    other = read_features(write_npy(tmp_path, np.eye(3), "3\nx7\n12\n"))
    with pytest.raises(DataError, match=r"must be whole numbers, as in the data, unlike 'x7'"):
        other.matched(Vocabulary.of([12]))
    twice = read_features(write_npy(tmp_path, np.eye(3), "7\n07\n12\n"))
    with pytest.raises(DataError, match=r"unique, got more of 7"):
        twice.matched(Vocabulary.of([12]))
    path = tmp_path / "items.parquet"
    pl.DataFrame({"item": [7, 12], "x": [1.0, 2.0]}).write_parquet(path)
    assert read_features(path).matched(Vocabulary.of(["12"])).ids.to_list() == ["7", "12"]


# more items --------------------------------------------------------------------------------------


def test_more_items_leave_everything_else_as_it_is():
    data = tastes_data()
    data = replace(data, candidates=np.arange(3, dtype=np.int32))
    wider = data.with_items(["i1", "z", "a"])
    assert wider.items.ids.to_list() == [*data.items.ids, "z", "a"]
    assert data.n_items == 36
    for name, part in wider.parts.items():
        old = data.parts[name]
        assert part.n_items == 38
        assert part.items is wider.items
        np.testing.assert_array_equal(part.indices, old.indices)
        np.testing.assert_array_equal(part.indptr, old.indptr)
    assert wider.valid.mask.n_items == wider.tests["cold"].mask.n_items == 38
    assert (wider.candidates == data.candidates).all()
    assert wider.fingerprint() != data.fingerprint()
    assert data.with_items(["i1"]) is data
    assert wider.split(tests={"more": Random(0.1)}).tests["more"].truth.n_items == 38


# what is trained ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data():
    return tastes_data()


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("features") / "items.parquet")


def recommender(vectors, loss="infonce", **more):
    return Recommender("alpharec", loss, device="cpu", features=vectors, **SMALL | more)


@pytest.fixture(scope="module")
def run(data, vectors, tmp_path_factory):
    """A run folder whose features are gone."""
    folder = tmp_path_factory.mktemp("runs")
    copy = folder / "items.parquet"
    copy.write_bytes(vectors.read_bytes())
    recommender(copy, n_layers=1).fit(data, out=folder / "run")
    copy.unlink()
    return folder / "run"


@pytest.mark.parametrize(
    ("loss", "n_layers", "kind"),
    [("infonce", 0, "linear"), ("infonce", 2, "mlp"), ("bpr", 2, "linear"), ("bpr", 0, "mlp")],
)
def test_items_that_nobody_has_had_are_ranked_by_what_they_are(data, vectors, loss, n_layers, kind):
    rec = recommender(vectors, loss, n_layers=n_layers, map=kind).fit(data)
    assert rec.result["metrics"]["cold"]["recall@5"] > 0.95
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = rec.recommend([f"u{user}" for user in range(40)], k=4)
    right = [
        len(set(rows["item_id"]) & unseen_of_taste(data, user))
        for (user,), rows in found.group_by("user_id")
    ]
    # of 4, half of which are in no log; lengths of vectors, which count in BPR, tell nothing
    assert np.mean(right) > (3.9 if loss == "infonce" else 3.6)


def test_items_in_no_log_can_be_ranked_and_are_counted_so(data, run):
    rec = Recommender.load(run, device="cpu")
    assert len(rec.items) == 40
    found = rec.evaluate(data)["cold"]
    assert (found.n_unreachable, found.n_candidates) == (0, 40)
    assert found.metrics() == rec.result["metrics"]["cold"]
    free = Recommender("mf", "infonce", device="cpu", **SMALL | {"epochs": 1}).fit(data)
    assert (free.evaluate(data)["cold"].n_candidates, len(free.items)) == (36, 36)


def test_a_run_is_read_without_its_features(data, vectors, run):
    before, after = recommender(vectors, n_layers=1).fit(data), Recommender.load(run, device="cpu")
    assert after._trained().backbone.features is None
    assert before.recommend(["u3"], k=9).equals(after.recommend(["u3"], k=9))
    assert before.similar_items(["i36"], k=5).equals(after.similar_items(["i36"], k=5))
    assert before.fold_in([["i0", "i36"]], k=9).equals(after.fold_in([["i0", "i36"]], k=9))
    near = after.similar_items(["i36"], k=5)["similar_item_id"]
    assert {int(item[1:]) % 4 for item in near} == {0}
    folded = after.fold_in([["i1", "i5"], ["i38"]], k=8)
    for row, taste in ((0, 1), (1, 2)):
        items = folded.filter(user_id=row)["item_id"]
        assert {int(item[1:]) % 4 for item in items} == {taste}
    again = run.with_name("again")
    after.save(again)
    for name, tensor in Recommender.load(again, device="cpu")._trained().weights().items():
        assert torch.equal(tensor, after._trained().weights()[name]), name


class Stop(Exception):
    pass


@pytest.mark.parametrize("loss", ["infonce", "advinfonce-mlp"])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(data, vectors, loss, tmp_path):
    adversary = {} if loss == "infonce" else {"adv_interval": 2, "adv_lr": 0.05}
    more = {"checkpoint_seconds": 0.0, "epochs": 4, "eval_every": 2, "l2": 0.01} | adversary
    copy = tmp_path / "items.parquet"
    copy.write_bytes(vectors.read_bytes())
    whole = recommender(copy, loss, **more).fit(data, out=tmp_path / "whole")

    def on_step(epoch, phase, step, _):
        if (epoch, phase, step) == (1, "min", 3):  # within a pass of the model, not yet saved
            raise Stop

    with pytest.raises(Stop):
        recommender(copy, loss, **more).fit(
            data, out=tmp_path / "cut", hooks=Hooks(on_step=on_step)
        )
    write_features(copy, seed=5)
    with pytest.raises(DataError, match=r"was trained with other item vectors than those in .*now"):
        recommender(copy, loss, **more).fit(data, out=tmp_path / "cut", resume=True)
    copy.write_bytes(vectors.read_bytes())
    resumed = recommender(copy, loss, **more).fit(data, out=tmp_path / "cut", resume=True)
    assert resumed.result["metrics"] == whole.result["metrics"]
    for name, tensor in whole._trained().weights().items():
        assert torch.equal(tensor, resumed._trained().weights()[name]), name


def test_a_comparison_has_its_own_setting_for_features_and_notices_others(data, vectors, tmp_path):
    copy = tmp_path / "items.parquet"
    copy.write_bytes(vectors.read_bytes())
    settings = SMALL | {"epochs": 1, "alpharec.features": str(copy)}
    arguments = (data, ["infonce"], ["mf", "alpharec"], [0])
    found = compare(*arguments, out=tmp_path / "out", overrides=settings)
    assert {row.backbone for row in found.rows} == {"mf", "alpharec"}
    write_features(copy, seed=5)
    with pytest.raises(DataError, match=r"alpharec-infonce-0: holds a run with other item vectors"):
        compare(*arguments, out=tmp_path / "out", overrides=settings)


# what training draws, and L2 ---------------------------------------------------------------------


def test_no_negative_is_an_item_that_nobody_has_had(data):
    train = data.with_items([f"i{item}" for item in range(36, 40)]).train
    seen = set(np.flatnonzero(train.item_counts).tolist())
    assert (len(seen), train.n_items) == (32, 40)
    options = {"batch_size": 60, "n_neg": 20, "positives": "interaction", "drop_last": False}
    drawn = set()
    histories = np.split(train.indices, train.indptr[1:-1])
    for batch in Sampler(train, seen_only=True, seed=3, **options).batches(0):
        drawn |= set(batch.items[:, 1:].flatten().tolist())
        for user, row in zip(batch.users.tolist(), batch.items.tolist(), strict=True):
            assert row[0] in histories[user]
            assert not set(row[1:]) & set(histories[user].tolist())
    assert drawn == seen
    everything = Sampler(train, seed=3, **options).batches(0)
    assert {int(item) for batch in everything for item in batch.items.flatten()} - seen


@pytest.mark.parametrize("kind", ["all", "in_batch"])
def test_no_shared_negative_is_one_either(data, kind):
    train = data.with_items(["new"]).train
    config = TrainingConfig(negatives=kind)
    batch = Batch(
        torch.tensor([0, 1]), torch.tensor([[train.indices[0], 4], [train.indices[6], 5]])
    )
    device = torch.device("cpu")
    given = SharedNegatives(train, config, InfoNCE(), device, seen_only=True).context(batch)
    seen = np.flatnonzero(train.item_counts)
    if kind == "all":
        assert given["neg_items"].tolist() == [seen.tolist()] * 2
        return
    share = train.item_counts[batch.items[:, 0]] / train.nnz
    weights = given["neg_log_weight"]
    for row, column in ((0, 1), (1, 0)):  # as if drawn from the 32 that somebody has had
        assert float(weights[row, column]) == pytest.approx(-np.log(32 * share[column]), rel=1e-5)


def backbone_of(data, **settings):
    config = BackboneConfig(name="alpharec", features="x.npy", dim=3, **settings)
    matrix = np.random.default_rng(0).standard_normal((data.n_items, 6)).astype(np.float32)
    return build_backbone(config, data.train, torch.Generator().manual_seed(0), matrix)


def test_l2_is_on_the_weights_of_the_map(data):
    backbone = backbone_of(data)
    for parameter in backbone.parameters():
        parameter.grad = torch.ones_like(parameter)
    batch = Batch(torch.tensor([0, 1, 1]), torch.tensor([[1, 2], [3, 4], [5, 6]]))
    add_batch_l2(backbone, batch, 0.3, negatives=True)
    for parameter in backbone.parameters():  # that of .3/2 ‖W‖², whatever the batch
        torch.testing.assert_close(parameter.grad, 1 + 0.3 * parameter.detach())


def test_layer_zero_is_constant_and_of_the_latest_pass(data):
    backbone = backbone_of(data, n_layers=0)
    users, items = backbone()
    assert users.requires_grad
    assert not backbone.user_table.requires_grad
    assert not backbone.item_table.requires_grad
    assert torch.equal(backbone.user_table, users)
    with torch.no_grad():
        backbone.map[0].weight.mul_(2)
    assert torch.equal(backbone.item_table, items)
    backbone()
    assert not torch.equal(backbone.item_table, items)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"backbone": "alpharec"}, r"`features` must name a file .* 'alpharec', got ''\."),
        ({"features": "x.npy"}, r"`features` must be left out with the backbone 'mf', got 'x.npy'"),
        ({"feature_ids": "x"}, r"`feature_ids` must be left out with the backbone 'mf'"),
        ({"backbone": "alpharec", "features": "x.npy", "map": "mpl"}, "did you mean 'mlp'"),
        ({"backbone": "alpharec", "features": "x.npy", "hidden": 0}, "`hidden` must be at least 1"),
    ],
)
def test_settings_that_are_refused(settings, says):
    backbone = settings.pop("backbone", "mf")
    with pytest.raises(ConfigError, match=says):
        resolve_settings(backbone=backbone, loss="bpr", overrides=settings)


def test_graph_losses_and_lazy_adam_are_refused(data, vectors):
    with pytest.raises(ConfigError, match="'sgl' goes with lightgcn, got 'alpharec'"):
        recommender(vectors, "sgl")
    with pytest.raises(ConfigError, match=r"`optimizer` must be 'auto' or 'adam'"):
        recommender(vectors, optimizer="lazy_adam").fit(data)


def test_an_item_of_the_data_without_a_vector_is_named_before_a_run_begins(data, tmp_path):
    few = write_features(tmp_path / "few.parquet", n_items=30)
    with pytest.raises(
        DataError, match=r"few\.parquet: no vector for the item 'i30', 'i31', 'i32'"
    ):
        recommender(few).fit(data, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_map_is_drawn_from_the_seed_and_from_nothing_else(data):
    state = torch.get_rng_state()
    one, other = (backbone_of(data).state_dict() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name])
    assert isinstance(backbone_of(data), AlphaRec)
    assert float(one["map.0.weight"].abs().max()) <= 6**-0.5
    assert one["map.0.weight"].shape == (3, 6)  # half as wide
    assert float(one["map.2.bias"].abs().max()) <= 3**-0.5


def test_other_item_ids_than_the_data_s_are_an_error(tmp_path):
    log = pl.DataFrame({"user": [1, 2, 3], "item": [5, 6, 7]})
    path = write_features(tmp_path / "items.parquet")
    with pytest.raises(DataError, match=r"must be whole numbers, as in the data, unlike 'i"):
        recommender(path).fit(Dataset.from_frame(log))
