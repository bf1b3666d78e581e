"""What leaves contrarec, read back by the programs that it is for."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import polars as pl
import pytest

import contrarec as cr
from answering import small_history, small_vectors
from contrarec.data.interactions import Interactions
from contrarec.data.vocabulary import Vocabulary
from contrarec.errors import BackendError, ConfigError, DataError
from contrarec.foldin import STEPS
from contrarec.model import Model
from contrarec.serving.ann import KINDS, choose_kind, to_faiss
from contrarec.serving.export import (
    Exported,
    load_package,
    read_exported,
    to_parquet,
    to_safetensors,
)
from contrarec.serving.onnx_graph import to_onnx


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 30 users and 20 items under InfoNCE, whose ids have a quote and a comma."""
    folder = tmp_path_factory.mktemp("export") / "run"
    rng = np.random.default_rng(0)
    pairs = np.argwhere(rng.random((30, 20)) < 0.3)
    log = pl.DataFrame({"user": [f'u"{u}' for u, _ in pairs], "item": [f"i,{i}" for _, i in pairs]})
    data = cr.Dataset.from_frame(log)
    settings = {"dim": 8, "n_neg": 4, "batch_size": 64, "epochs": 3, "device": "cpu"}
    cr.Recommender("lightgcn", "infonce", tau=0.2, **settings).fit(data, out=folder)
    return folder


def many(n_users: int = 50, n_items: int = 600, dim: int = 8) -> Exported:
    rng = np.random.default_rng(1)
    users, items = (rng.normal(size=(n, dim)).astype(np.float32) for n in (n_users, n_items))
    history = Interactions.from_pairs(
        np.arange(n_users - 1),
        rng.integers(n_items, size=n_users - 1),
        users=Vocabulary.of(range(n_users)),
        items=Vocabulary.of(range(n_items)),
    )
    return Exported(run="none", history=history, users=users, items=items)


def test_parquet(run: Path, tmp_path: Path) -> None:
    about = to_parquet(read_exported(run), tmp_path / "out")
    users, items = (pl.read_parquet(tmp_path / "out" / f"{s}s.parquet") for s in ("user", "item"))
    rec = cr.Recommender.load(run, device="cpu")
    assert users["user_id"].to_list() == rec.users.ids.to_list()
    vectors = [np.array(table["vector"].to_list(), np.float32) for table in (users, items)]
    scores = vectors[0] @ vectors[1].T
    user, item = users["user_id"][3], items["item_id"][5]
    assert rec.score(user, item)["score"][0] == pytest.approx(scores[3, 5], abs=1e-6)
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == about
    assert (about["users"], about["items"], about["dim"]) == (len(rec.users), 20, 8)
    with pytest.raises(DataError, match="not an empty folder"):
        to_parquet(read_exported(run), tmp_path / "out")


def test_safetensors(run: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    exported = read_exported(run)
    to_safetensors(exported, tmp_path / "out")
    tables = load_file(tmp_path / "out" / "vectors.safetensors")
    np.testing.assert_array_equal(tables["users"], exported.users)
    np.testing.assert_array_equal(tables["items"], exported.items)
    ids = pl.read_parquet(tmp_path / "out" / "item_ids.parquet")["item_id"]
    assert ids.to_list() == exported.history.items.ids.to_list()


def test_nothing_is_left_of_an_export_that_fails(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(DataError, match="No space left"):
        to_parquet(read_exported(run), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_has_no_vectors(tmp_path: Path) -> None:
    log = pl.DataFrame({"user": [1, 1, 2], "item": [1, 2, 2]})
    cr.Recommender(loss="popularity").fit(cr.Dataset.from_frame(log), out=tmp_path / "run")
    with pytest.raises(ConfigError, match="'popularity' has no vectors"):
        read_exported(tmp_path / "run")


def test_a_missing_package_is_named() -> None:
    with pytest.raises(BackendError, match=r"needs the package no_such: pip install 'contrarec\[a"):
        load_package("no_such", "ann", "an index")


@pytest.mark.skipif(find_spec("faiss") is None, reason="faiss is not installed")
class TestFaiss:
    @pytest.mark.parametrize("kind", KINDS)
    def test_the_recall_beside_it_is_its_recall(self, tmp_path: Path, kind: str) -> None:
        import faiss

        exported = many()
        about = to_faiss(exported, tmp_path / "out", kind)
        written = json.loads((tmp_path / "out" / "export.json").read_text())
        assert written == about
        index = faiss.read_index(str(tmp_path / "out" / "items.faiss"))
        assert index.ntotal == 600
        users = np.flatnonzero(exported.history.user_counts)  # 49: all of them are drawn
        table = pl.read_parquet(tmp_path / "out" / "users.parquet")
        queries = np.array(table["vector"].to_list(), np.float32)[users]
        found = index.search(queries, 20)[1]
        exact = np.argsort(-(queries @ exported.items.T), axis=1, kind="stable")[:, :20]
        hits = [len(set(a) & set(b)) for a, b in zip(found, exact, strict=True)]
        recall = written["recall"]
        assert (recall["k"], recall["users"]) == (20, 49)
        assert recall["recall"] == pytest.approx(np.sum(hits) / (49 * 20), abs=1e-9)
        assert recall["recall"] > {"flat": 0.999, "hnsw": 0.9, "ivfpq": 0.1}[kind]

    def test_the_kind_goes_by_the_size(self) -> None:
        sizes = (1, 19_999, 20_000, 999_999, 1_000_000)
        assert [choose_kind(n) for n in sizes] == ["flat", "flat", "hnsw", "hnsw", "ivfpq"]

    def test_refusals(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="unknown kind of index 'hsnw'"):
            to_faiss(many(), tmp_path / "out", "hsnw")
        with pytest.raises(ConfigError, match="below 256 items"):
            to_faiss(many(n_items=100), tmp_path / "out", "ivfpq")
        assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="onnxruntime is not installed")
class TestOnnx:
    def test_is_what_torch_folds_in(self, run: Path, tmp_path: Path) -> None:
        import onnxruntime

        rec = cr.Recommender.load(run, device="cpu")
        model = rec.model
        assert isinstance(model, Model)
        to_onnx(read_exported(run), tmp_path / "out", cosine=True, tau=0.2, steps=STEPS)
        session = onnxruntime.InferenceSession(str(tmp_path / "out" / "fold_in.onnx"))
        history = np.array([[3, 7, 11], [5, -1, -1], [19, 0, -1]])
        items, scores = session.run(["items", "scores"], {"history": history, "k": np.array([6])})
        ids = pl.read_parquet(tmp_path / "out" / "item_ids.parquet")["item_id"]
        lists = [[ids[int(n)] for n in row if n >= 0] for row in history]
        want = rec.fold_in(lists, 6)
        assert [ids[int(n)] for n in items.ravel()] == want["item_id"].to_list()
        np.testing.assert_allclose(scores.ravel(), want["score"].to_numpy(), atol=1e-5)

    @pytest.mark.parametrize("tau", [None, 0.3])
    @pytest.mark.parametrize("cosine", [True, False])
    def test_every_kind_of_score(self, tmp_path: Path, cosine: bool, tau: float | None) -> None:
        import onnxruntime
        import torch

        from contrarec.foldin import fold_in_vectors

        _, items = small_vectors()
        items = np.random.default_rng(2).normal(size=items.shape).astype(np.float32)
        if cosine:
            items /= np.linalg.norm(items, axis=1, keepdims=True)
        exported = Exported(
            run="none", history=small_history(), users=small_vectors()[0], items=items
        )
        to_onnx(exported, tmp_path / "out", cosine=cosine, tau=tau, steps=STEPS)
        session = onnxruntime.InferenceSession(str(tmp_path / "out" / "fold_in.onnx"))
        history = np.array([[2, 4, 9], [-1, -1, -1], [6, -1, -1]])
        found, scores = session.run(["items", "scores"], {"history": history, "k": np.array([11])})
        vectors = torch.from_numpy(items)
        users = fold_in_vectors(
            vectors, torch.tensor([0, 3, 3, 4]), torch.tensor([2, 4, 9, 6]), cosine=cosine, tau=tau
        )
        want = (users @ vectors.T).numpy()
        want[0, [2, 4, 9]] = want[2, 6] = -np.inf
        np.testing.assert_allclose(np.take_along_axis(want, found, 1), scores, atol=1e-5)
        assert (np.sort(found, 1) == np.arange(11)).all()
        assert (scores[:, 1:] <= scores[:, :-1]).all()


@pytest.mark.skipif(find_spec("psycopg") is None, reason="psycopg is not installed")
class TestPostgres:
    def test_tables_that_pgvector_searches(self, run: Path, pgvector_uri: str) -> None:
        import psycopg

        from contrarec.serving.pgvector import to_postgres

        exported = read_exported(run)
        prefix = 'odd "name"; DROP'
        about = to_postgres(exported, pgvector_uri, prefix)
        assert about["tables"] == [f"{prefix}_users", f"{prefix}_items"]
        assert "password" not in str(about).lower()
        assert pgvector_uri.split(":")[2].split("@")[0] not in str(about)
        to_postgres(exported, pgvector_uri, prefix)  # and again, in their place
        users, items = (psycopg.sql.Identifier(name) for name in about["tables"])
        with psycopg.connect(pgvector_uri) as connection:
            read = connection.execute(
                psycopg.sql.SQL("SELECT item_id, vector::text FROM {}").format(items)
            ).fetchall()
            query = psycopg.sql.SQL(
                "SELECT item_id FROM {} ORDER BY vector <#> "
                "(SELECT vector FROM {} WHERE user_id = %s) LIMIT 5"
            ).format(items, users)
            best = [row[0] for row in connection.execute(query, ['u"3'])]
            kinds = connection.execute(
                "SELECT indexdef FROM pg_indexes WHERE tablename = %s", [about["tables"][1]]
            ).fetchall()
            left = connection.execute(
                "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'odd%%'"
            ).fetchone()
        vectors = {name: np.array(json.loads(text), np.float32) for name, text in read}
        for number, name in enumerate(exported.history.items.ids):
            np.testing.assert_array_equal(vectors[name], exported.items[number])
        rec = cr.Recommender.load(run, device="cpu")
        want = rec.recommend(['u"3'], 5, filter_viewed=False)["item_id"].to_list()
        assert best == want
        assert sum("hnsw" in text and "vector_ip_ops" in text for (text,) in kinds) == 1
        assert left == (2,)

    def test_a_foreign_table_stays(self, run: Path, pgvector_uri: str) -> None:
        import psycopg

        from contrarec.serving.pgvector import to_postgres

        with psycopg.connect(pgvector_uri) as connection:
            connection.execute("CREATE TABLE mine_items (n int)")
        with pytest.raises(DataError, match="'mine_items' is there already"):
            to_postgres(read_exported(run), pgvector_uri, "mine")
        with psycopg.connect(pgvector_uri) as connection:
            found = connection.execute("SELECT to_regclass('mine_users')").fetchone()
        assert found == (None,)  # of the transaction nothing stays

    @pytest.mark.parametrize(
        "dsn",
        [
            "postgresql://me:s3cret@127.0.0.1:1/none",
            "postgresqlx://me:s3cret@127.0.0.1/none",
            "host=127.0.0.1 port=1 password=s3cret passphrase=s3cret",
        ],
    )
    def test_the_password_is_never_shown(
        self, run: Path, dsn: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from contrarec.serving.pgvector import DSN_VARIABLE, to_postgres

        monkeypatch.setenv(DSN_VARIABLE, dsn)
        with pytest.raises(DataError) as error:
            to_postgres(read_exported(run))
        assert "s3cret" not in str(error.value)
        assert error.value.__cause__ is None

    def test_names_that_are_too_long(self, run: Path) -> None:
        from contrarec.serving.pgvector import to_postgres

        with pytest.raises(ConfigError, match="`table` must be 1 to 40 bytes"):
            to_postgres(read_exported(run), "host=nowhere", "n" * 41)
