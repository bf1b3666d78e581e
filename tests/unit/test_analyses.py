"""Known false negatives, analyses over training, studies of variants, and their sections."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contrarec import runs
from contrarec.audit.ablation import run_study
from contrarec.audit.source import open_run, train_traced
from contrarec.audit.trace import FILE, joined, read_trace
from contrarec.audit.truth import known_false_negatives
from contrarec.audit.variants import ABLATION, INTENSITY, choose_variants
from contrarec.data.dataset import Dataset
from contrarec.data.folder import write_false_negatives
from contrarec.data.synthetic import SyntheticConfig, synthesize
from contrarec.errors import ConfigError, DataError
from contrarec.losses.advinfonce import AdvInfoNCEConfig
from contrarec.recommender import Recommender
from contrarec.settings import Settings, resolve_settings
from contrarec.training.loop import Hooks
from planted import interactions

WORLD = synthesize(SyntheticConfig(n_users=30, n_items=24, n_preferred=8), seed=1)
FAST = {
    "dim": 4, "n_neg": 4, "batch_size": 32, "epochs": 4, "eval_every": 2, "tau": 0.5,
    "adv_interval": 2, "adv_lr": 0.05,
}  # fmt: skip


def settings(**more: Any) -> Settings:
    return resolve_settings(backbone="mf", loss="advinfonce", overrides=FAST | more)


def dataset(**parts: list[tuple[int, int]]) -> Dataset:
    logs = {name: interactions(pairs, 3, 5) for name, pairs in parts.items()}
    train, valid = logs.pop("train"), logs.pop("valid", None)
    return Dataset.from_parts(train=train, valid=valid, tests=logs, name="toy")


def pairs_of(log) -> set[tuple[int, int]]:
    return set(zip(log.rows.tolist(), log.indices.tolist(), strict=True))


class TestTruth:
    def test_test_positives_are_false_negatives_and_valid_ones_are_left_out(self) -> None:
        data = dataset(
            train=[(0, 0), (1, 1), (2, 2)], valid=[(0, 1), (1, 2)], a=[(0, 3), (0, 1)], b=[(1, 4)]
        )
        truth = known_false_negatives(data)
        assert pairs_of(truth.false) == {(0, 3), (0, 1), (1, 4)}
        assert pairs_of(truth.left_out) == {(0, 0), (1, 1), (2, 2), (1, 2)}
        assert truth.source == "the positives of a and b"

    def test_what_is_in_the_training_history_is_none(self) -> None:
        data = dataset(train=[(0, 0), (1, 1)], ood=[(0, 0), (1, 2)])
        assert pairs_of(known_false_negatives(data).false) == {(1, 2)}
        with pytest.raises(DataError, match="ood are all in the training history"):
            known_false_negatives(dataset(train=[(0, 0)], ood=[(0, 0)]))

    def test_a_log_alone_knows_none(self) -> None:
        with pytest.raises(DataError, match="toy: no false negatives are known"):
            known_false_negatives(dataset(train=[(0, 0)]))

    def test_a_file_of_pairs_wins_over_test_sets(self, tmp_path: Path) -> None:
        data = dataset(train=[(0, 0), (1, 1), (2, 4)], valid=[(0, 4)], ood=[(0, 1), (2, 2)])
        file = tmp_path / "liked.csv"
        rows = {"user_id": ["u0", "u1", "stranger"], "item_id": ["i1", "i2", "i1"]}
        pl.DataFrame(rows).write_csv(file)
        truth = known_false_negatives(data, file)
        assert pairs_of(truth.false) == {(0, 1), (1, 2)}
        # neither a negative nor known to be false: what is held out and not in the file
        assert pairs_of(truth.left_out) == {(0, 0), (1, 1), (2, 4), (0, 4), (2, 2)}
        with pytest.raises(DataError, match=r"gone\.csv: no such file"):
            known_false_negatives(data, tmp_path / "gone.csv")
        pl.DataFrame({"user_id": ["x"], "item_id": ["y"]}).write_csv(file)
        with pytest.raises(DataError, match="none of its pairs"):
            known_false_negatives(data, file)

    def test_a_worlds_folder_knows_all_of_them(self, tmp_path: Path) -> None:
        WORLD.dataset.save(tmp_path / "world")
        write_false_negatives(tmp_path / "world", WORLD.false_negatives)
        data = Dataset.load(tmp_path / "world")
        assert not any("false_negatives" in step for step in data.steps)
        truth = known_false_negatives(data)
        ids = set(
            zip(
                truth.false.users.take(truth.false.rows),
                truth.false.items.take(truth.false.indices),
                strict=True,
            )
        )
        liked, train = WORLD.preferred, WORLD.dataset.train
        seen = {part: pairs_of(WORLD.dataset.parts[part]) for part in ("train", "valid", "id")}
        assert ids == pairs_of(liked) - set.union(*seen.values())
        assert truth.left_out.nnz == len(set.union(*seen.values()))
        assert train.nnz < truth.left_out.nnz


class _Stop(Exception):
    pass


class TestTrace:
    def run(self, folder: Path, **about: Any) -> list[dict[str, Any]]:
        truth = known_false_negatives(WORLD.dataset)
        source = train_traced(WORLD.dataset, settings(), folder, truth, limit=20, **about)
        return source.trace

    def test_a_line_before_the_first_step_and_at_every_evaluation(self, tmp_path: Path) -> None:
        lines = self.run(tmp_path / "run")
        assert [line["epoch"] for line in lines] == [0, 2, 4]
        assert lines[0]["hardness"]["users"] == 20
        assert {"adversary", "score"} <= set(lines[1]["false_negatives"]["detectors"])
        assert lines[1]["metrics"]["uniform"]["recall@20"] > 0
        # the adversary has moved between epochs 0 and 4, and so has the model
        assert lines[0]["hardness"]["kl"] != lines[-1]["hardness"]["kl"]
        assert lines[0]["geometry"]["alignment"] != lines[-1]["geometry"]["alignment"]

    def test_looking_on_changes_nothing(self, tmp_path: Path) -> None:
        self.run(tmp_path / "run")
        plain = Recommender.from_settings(settings()).fit(WORLD.dataset, out=tmp_path / "plain")
        ours, theirs = (runs.read_weights(tmp_path / name) for name in ("run", "plain"))
        assert all((ours[name] == theirs[name]).all() for name in ours)
        assert plain.result["epochs"] == 4

    def test_stopped_and_gone_on_it_has_the_same_lines(self, tmp_path: Path) -> None:
        whole = self.run(tmp_path / "whole")

        def stop(epoch: int, *_: Any) -> None:
            if epoch == 2:
                raise _Stop

        config = settings(checkpoint_seconds=0)
        truth = known_false_negatives(WORLD.dataset)

        def again(**about: Any) -> list[dict[str, Any]]:
            run = tmp_path / "stopped"
            return train_traced(WORLD.dataset, config, run, truth, limit=20, **about).trace

        from contextlib import nullcontext

        with pytest.raises(_Stop):
            again(watch=lambda: nullcontext(Hooks(on_epoch=lambda line: stop(line["epoch"]))))
        assert [line["epoch"] for line in read_trace(tmp_path / "stopped")] == [0, 2]
        with (tmp_path / "stopped" / FILE).open("a") as file:  # what no checkpoint knows of
            file.write(json.dumps({"epoch": 3}) + "\n")
        assert again() == whole

    def test_a_finished_run_is_not_trained_again(self, tmp_path: Path) -> None:
        first = self.run(tmp_path / "run")

        def refuse() -> Any:
            raise AssertionError

        assert self.run(tmp_path / "run", watch=refuse) == first
        truth = known_false_negatives(WORLD.dataset)
        other = settings(adv_lr=0.1)
        with pytest.raises(ConfigError, match="run: holds a run with other settings"):
            train_traced(WORLD.dataset, other, tmp_path / "run", truth, limit=20)
        data = synthesize(SyntheticConfig(n_users=30, n_items=24, n_preferred=8), seed=2).dataset
        with pytest.raises(ConfigError, match="was trained on other data"):
            train_traced(data, settings(), tmp_path / "run", truth, limit=20)

    def test_a_loss_without_weights_has_its_geometry_alone(self, tmp_path: Path) -> None:
        own = {key: value for key, value in FAST.items() if not key.startswith("adv")}
        config = resolve_settings(backbone="mf", loss="infonce", overrides=own)
        truth = known_false_negatives(WORLD.dataset)
        source = train_traced(WORLD.dataset, config, tmp_path / "run", truth, limit=20)
        assert all(set(line) <= {"epoch", "metrics", "best", "geometry"} for line in source.trace)
        assert len(source.trace) == 3

    def test_a_baseline_is_refused(self, tmp_path: Path) -> None:
        config = resolve_settings(loss="popularity")
        with pytest.raises(ConfigError, match="`loss` must not be a baseline, got 'popularity'"):
            train_traced(WORLD.dataset, config, tmp_path / "run", None, limit=20)
        Recommender.from_settings(config).fit(WORLD.dataset, out=tmp_path / "run")
        with pytest.raises(ConfigError, match="baseline 'popularity'"):
            open_run(tmp_path / "run")

    def test_hooks_are_called_one_after_the_other(self) -> None:
        calls: list[str] = []
        hooks = joined(
            None,
            Hooks(on_epoch=lambda _: calls.append("a"), on_eval=lambda *_: calls.append("e")),
            Hooks(on_epoch=lambda _: calls.append("b")),
        )
        assert hooks.on_step is None
        hooks.on_epoch({})
        hooks.on_eval(1, {}, True)
        assert calls == ["a", "b", "e"]


class TestVariants:
    def test_what_they_change(self) -> None:
        base = AdvInfoNCEConfig(adv_passes=18, adv_epochs=2, adv_lr=0.01)
        changes = {v.name: v.changes(base) for v in (*ABLATION, *INTENSITY)}
        assert changes["advinfonce-few"] == {"adv_passes": 4}
        assert changes["advinfonce-many"] == {"adv_passes": 72, "adv_epochs": 8}
        assert changes["passes-0"] == {"adv_passes": 0}
        assert changes["lr-tenth"] == {"adv_lr": pytest.approx(0.001)}
        assert changes["lr-tenfold"] == {"adv_lr": pytest.approx(0.1)}
        assert changes["eta-0.2"] == {"eta": 0.2}
        assert changes["advinfonce"] == changes["infonce"] == {}
        single = AdvInfoNCEConfig(adv_passes=1)
        assert next(v for v in ABLATION if v.name == "advinfonce-few").changes(single) == {
            "adv_passes": 1
        }

    def test_some_of_them_by_name(self) -> None:
        names = [v.name for v in choose_variants("ablation", ["infonce", "advinfonce"])]
        assert names == ["advinfonce", "infonce"]  # in the order of the study
        assert choose_variants("intensity", None) == INTENSITY
        with pytest.raises(ConfigError, match=r"unknown variant 'infonc' \(did you mean"):
            choose_variants("ablation", ["infonc"])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    out = tmp_path_factory.mktemp("study")
    return out, make_study(out)


def make_study(out: Path, seen: list[Any] | None = None, **more: Any) -> Any:
    from contextlib import nullcontext

    def watch(job: Any) -> Any:
        if seen is not None:
            seen.append(job)
        return nullcontext()

    own = {f"advinfonce.{key}": FAST[key] for key in FAST if key.startswith("adv")}
    own |= {key: value for key, value in FAST.items() if not key.startswith("adv")}
    wanted = ["advinfonce", "infonce", "advinfonce-many"]
    variants = choose_variants("ablation", wanted)
    overrides = own | {"advinfonce-many.adv_lr": 0.1} | more
    return run_study(
        "ablation", WORLD.dataset, variants, ["mf"], [0, 1], out=out, overrides=overrides,
        device="cpu", watch=watch,
    )  # fmt: skip


class TestStudy:
    def test_every_variant_is_run_with_its_own_settings(self, study: tuple[Path, Any]) -> None:
        out, _ = study
        losses = {}
        for name, method in (
            ("advinfonce", "advinfonce"), ("infonce", "infonce"), ("advinfonce-many", "advinfonce")
        ):  # fmt: skip
            found = [runs.read_settings(out / name / f"mf-{method}-{seed}")[0] for seed in (0, 1)]
            assert [one.seed for one in found] == [0, 1]
            losses[name] = found[0].loss
        base = losses["advinfonce"]
        assert (base.adv_passes, base.adv_epochs, base.adv_lr) == (12, 1, 0.05)
        many = losses["advinfonce-many"]
        assert (many.adv_passes, many.adv_epochs, many.adv_lr) == (48, 4, 0.1)
        assert type(losses["infonce"]).__name__ == "InfoNCEConfig"

    def test_rows_contrasts_and_kl(self, study: tuple[Path, Any]) -> None:
        _, made = study
        found = made.to_dict()
        assert found["methods"] == ["advinfonce", "infonce", "advinfonce-many"]
        assert [row["method"] for row in found["rows"]] == found["methods"]
        pairs = {(c["method"], c["against"]) for c in found["contrasts"]}
        assert len(pairs) == 6
        kl = {row["name"]: row["kl"] for row in found["variants"]}
        assert kl["infonce"] is None
        assert kl["advinfonce-many"] > kl["advinfonce"] > 0
        folders = [study[0] / "infonce" / f"mf-infonce-{seed}" for seed in (0, 1)]
        values = [
            Recommender.load(folder).evaluate(WORLD.dataset, bootstrap=0)["uniform"].metrics()
            for folder in folders
        ]
        mean = np.mean([one["recall@20"] for one in values])
        row = next(row for row in found["rows"] if row["method"] == "infonce")
        assert row["metrics"]["uniform"]["recall@20"]["mean"] == pytest.approx(mean)

    def test_a_second_call_trains_nothing(self, study: tuple[Path, Any]) -> None:
        out, made = study
        jobs: list[Any] = []
        again = make_study(out, jobs)
        assert all(job.finished for job in jobs)
        assert [(job.number, job.total) for job in jobs] == [(n, 6) for n in range(1, 7)]
        assert jobs[-1].method == "advinfonce-many"
        assert again.to_dict() == made.to_dict()

    def test_files(self, study: tuple[Path, Any], tmp_path: Path) -> None:
        _, made = study
        made.save(tmp_path)
        text = (tmp_path / "ablation.json").read_text()
        assert json.loads(text) == json.loads(json.dumps(made.to_dict()))
        text = (tmp_path / "ablation.md").read_text()
        assert "| mf       | advinfonce-many |" in text
        assert "adv_epochs 4, adv_passes 48" in text
        assert (tmp_path / "ablation.csv").read_text().count("\n") > 10

    def test_every_setting_is_looked_at_before_the_first_run(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="adv_passe"):
            make_study(tmp_path / "out", **{"advinfonce-many.adv_passe": 3})
        assert not (tmp_path / "out").exists()

    def test_without_a_test_set(self, tmp_path: Path) -> None:
        data = dataset(train=[(0, 0), (1, 1)])
        with pytest.raises(DataError, match="no test set"):
            run_study("ablation", data, ABLATION, out=tmp_path)
