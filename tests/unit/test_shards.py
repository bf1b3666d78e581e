"""Items in shards: who has which rows, and what is refused before any worker starts."""

import json
from contextlib import contextmanager

import pytest

from contrarec.distributed import launch, torchrec_tables
from contrarec.distributed.checkpoint import check_workers
from contrarec.distributed.cluster import Launch
from contrarec.distributed.torchrec_tables import check_torchrec, shard_rows
from contrarec.distributed.worker import own_tables
from contrarec.errors import BackendError, ConfigError
from contrarec.settings import resolve_settings

SETTINGS = resolve_settings(backbone="mf", loss="infonce")


def test_all_shards_are_equally_long_but_the_last():
    assert [shard_rows(10, 4, rank) for rank in range(4)] == [(0, 3), (3, 6), (6, 9), (9, 10)]
    assert [shard_rows(4, 2, rank) for rank in range(2)] == [(0, 2), (2, 4)]
    assert shard_rows(3, 1, 0) == (0, 3)


def test_a_shard_without_rows_is_refused():
    with pytest.raises(ConfigError, match="where 9 items leave one of 4 workers without any"):
        shard_rows(9, 4, 0)  # 3 each, and none for the last


def test_what_a_worker_has_rows_of_its_own_of():
    assert not any("item" in name for name in own_tables("replicated"))
    both = {"backbone.item_table", "loss.hardness.items"}
    assert set(own_tables("torchrec")) - set(own_tables("replicated")) == both


@pytest.mark.parametrize("missing", ["torchrec", "fbgemm_gpu"])
def test_a_missing_package_is_named_before_anything_starts(monkeypatch, tmp_path, missing):
    there = {"torchrec", "fbgemm_gpu"} - {missing}
    monkeypatch.setattr(torchrec_tables, "find_spec", lambda name: name in there or None)
    says = f"needs {missing}: pip install --no-deps torchrec==.* fbgemm-gpu-cpu=="
    with pytest.raises(BackendError, match=says):
        check_torchrec()
    monkeypatch.setattr(launch, "load_ray", lambda **_: pytest.fail("Ray has been loaded"))
    with pytest.raises(BackendError, match=says):
        launch.train_together(
            SETTINGS, None, tmp_path / "run", Launch(workers=2, tables="torchrec")
        )
    assert not (tmp_path / "run").exists()


def test_gpus_are_refused(monkeypatch, tmp_path):
    @contextmanager
    def cluster(*_):
        yield True

    monkeypatch.setattr(launch, "check_torchrec", lambda: None)
    monkeypatch.setattr(launch, "load_ray", lambda **_: None)
    monkeypatch.setattr(launch, "InMemory", lambda _: None)
    monkeypatch.setattr(launch, "cluster", cluster)
    with pytest.raises(ConfigError, match="`device` must be 'cpu' with `tables` = 'torchrec'"):
        launch.train_together(SETTINGS, None, tmp_path, Launch(workers=2, tables="torchrec"))


def test_other_tables_are_no_setting():
    with pytest.raises(ConfigError, match="`tables` must be 'replicated' or 'torchrec', got 'x'"):
        Launch(workers=2, tables="x")


@pytest.mark.parametrize(
    ("written", "tables", "says"),
    [
        ({"workers": 2}, "torchrec", "checkpoint is of `tables` = 'replicated'"),
        ({"workers": 2, "tables": "torchrec"}, "replicated", "of `tables` = 'torchrec'"),
        ({"workers": 3, "tables": "torchrec"}, "torchrec", "checkpoint is of 3 workers"),
    ],
)
def test_a_checkpoint_of_other_tables_is_refused(tmp_path, written, tables, says):
    path = tmp_path / "state" / "current.json"
    path.parent.mkdir()
    path.write_text(json.dumps(written))
    with pytest.raises(ConfigError, match=says):
        check_workers(tmp_path, 2, tables)
    path.write_text(json.dumps({"workers": 2, "tables": tables}))
    check_workers(tmp_path, 2, tables)
