"""Settings in layers, their files, and the presets' values against the published table."""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pytest

import contrarec.presets
from contrarec.config import BackboneConfig, TrainingConfig, dumps_toml
from contrarec.errors import ConfigError
from contrarec.losses import LOSSES, Loss, LossSpec
from contrarec.presets import preset_names
from contrarec.settings import Settings, resolve_settings

FILES = sorted(Path(contrarec.presets.__file__).parent.glob("*.toml"))
TRAINING = {field.name for field in fields(TrainingConfig)}

# The published hyper-parameters, written down a second time:
# (batch, lr, N, tau, adv_lr, adv_interval, T_adv LightGCN, T_adv MF, patience)
PUBLISHED = {
    "coat": (1024, 1e-3, 64, 0.75, 1e-2, 15, 20, 18, 10),
    "yahoo-r3": (1024, 5e-4, 64, 0.28, 1e-4, 5, 13, 12, 10),
    "kuairec": (2048, 3e-5, 128, 2.0, 5e-5, 5, 12, 12, 10),
    "tencent": (2048, 1e-3, 128, 0.09, 5e-5, 5, 7, 8, 20),
}


# presets -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["lightgcn", "mf"])
@pytest.mark.parametrize("preset", PUBLISHED)
def test_a_preset_has_the_published_values(preset: str, backbone: str) -> None:
    batch, lr, n_neg, tau, adv_lr, interval, passes_lightgcn, passes_mf, patience = PUBLISHED[
        preset
    ]
    settings = resolve_settings(preset=preset, backbone=backbone, loss="advinfonce")
    assert settings.backbone == BackboneConfig(name=backbone, dim=64, n_layers=2)
    assert settings.training == TrainingConfig(
        fidelity="published",
        positives="user",
        lr=lr,
        batch_size=batch,
        n_neg=n_neg,
        l2=1e-5,
        epochs=2000,
        eval_every=5,
        patience=patience,
        monitor="recall@20",
    )
    wanted = {
        "tau": tau,
        "k_neg": 64.0,
        "hardness": "embedding",
        "direction": "max",
        "adv_lr": adv_lr,
        "adv_interval": interval,
        "adv_epochs": 1,
        "adv_passes": passes_lightgcn if backbone == "lightgcn" else passes_mf,
        "warm_up_epochs": 0,
        "adv_l2": 0.0,
        "eta": None,
    }
    assert {name: getattr(settings.loss, name) for name in wanted} == wanted


@pytest.mark.parametrize("preset", PUBLISHED)
def test_the_other_losses_get_the_values_that_are_theirs(preset: str) -> None:
    tau = PUBLISHED[preset][3]
    chosen = {name: resolve_settings(preset=preset, loss=name) for name in LOSSES}
    own = {name: spec.config(**spec.defaults) for name, spec in LOSSES.items()}

    assert {s.training for s in chosen.values()} == {chosen["advinfonce"].training}
    assert chosen["bpr"].loss == own["bpr"]
    assert {s.loss.tau for s in chosen.values() if hasattr(s.loss, "tau")} == {tau}
    assert chosen["infonce"].loss.k_neg == 1.0
    for name in ("infonce-kneg", "infonce-random", "infonce-popularity"):
        assert chosen[name].loss.k_neg == 64.0
        assert chosen[name].loss.weights == own[name].weights
    for name in ("advinfonce-mlp", "advinfonce-closed", "advinfonce-budget"):
        loss = chosen[name].loss
        assert (loss.k_neg, loss.adv_lr) == (64.0, PUBLISHED[preset][4])
        assert (loss.hardness, loss.eta, loss.lam) == (
            own[name].hardness,
            own[name].eta,
            own[name].lam,
        )


def test_every_preset_is_tested_and_says_where_it_comes_from() -> None:
    assert preset_names() == sorted(PUBLISHED)
    assert [path.stem for path in FILES] == preset_names()
    for path in FILES:
        assert tomllib.loads(path.read_text())["source"].startswith("https://")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_key_of_a_preset_is_lost(path: Path) -> None:
    table = tomllib.loads(path.read_text())
    loss_fields = {field.name for spec in LOSSES.values() for field in fields(spec.config)}
    sections = {"backbone", "loss", "training"}
    assert set(table) <= sections | {"source", "backbones", "row"}
    for row in table["row"]:
        assert set(row) <= sections | {"for_loss", "for_backbone"}
    for row in [table, *table["row"]]:
        assert set(row.get("loss", {})) <= loss_fields
        assert set(row.get("training", {})) <= TRAINING


def test_an_unknown_preset_or_backbone_names_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'yahoo_r3' \(did you mean 'yahoo-r3'"):
        resolve_settings(preset="yahoo_r3")
    with pytest.raises(ConfigError, match=r"preset 'coat': unknown backbone .* 'lightgcn'"):
        resolve_settings(preset="coat", backbone="lightgnc")


def test_the_later_row_of_a_preset_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.toml").write_text(
        "backbones = ['mf']\nloss.tau = 1\n[[row]]\nloss.tau = 2\n"
        "[[row]]\nfor_loss = 'inf*'\nloss.tau = 3\n[[row]]\nfor_loss = 'adv*'\nloss.tau = 4\n"
    )
    monkeypatch.setattr(contrarec.presets, "_FOLDER", tmp_path)
    assert resolve_settings(preset="mine", loss="infonce").loss.tau == 3.0
    assert resolve_settings(preset="mine", loss="advinfonce").loss.tau == 4.0


# layers ------------------------------------------------------------------------------------------


def test_without_anything_said_it_is_mf_under_advinfonce() -> None:
    settings = resolve_settings()
    assert (settings.backbone, settings.training) == (BackboneConfig(), TrainingConfig())
    assert (settings.backbone.name, settings.loss_name, settings.seed) == ("mf", "advinfonce", 0)


def test_an_override_beats_a_file_beats_a_preset_beats_a_name(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        "seed = 5\n[loss]\nk_neg = 3\ntau = 0.3\n[training]\nlr = 0.3\n"
        "[backbone]\nname = 'lightgcn'\n"
    )
    settings = resolve_settings(
        preset="coat", config=path, loss="infonce-kneg", overrides=["lr=0.4"]
    )
    assert settings.training.batch_size == 1024  # the preset's
    assert settings.loss.k_neg == 3.0  # the file's, over the name's 64
    assert settings.loss.tau == 0.3  # the file's, over the preset's .75
    assert settings.training.lr == 0.4  # the override's
    assert (settings.backbone.name, settings.seed) == ("lightgcn", 5)
    assert resolve_settings(config=path, seed=0, backbone="mf").seed == 0
    assert resolve_settings(config=path, seed=0, backbone="mf").backbone.name == "mf"


def test_the_later_of_two_overrides_wins_whatever_it_is_called() -> None:
    settings = resolve_settings(overrides=["n_neg=3", "training.neg_sample=4"])
    assert settings.training.n_neg == 4


def test_a_file_for_one_loss_is_not_used_for_another() -> None:
    tables = {"loss": {"name": "infonce", "tau": 0.2}}
    assert resolve_settings(config=tables, loss="infonce").loss.tau == 0.2
    with pytest.raises(ConfigError, match="its loss is 'infonce' and 'advinfonce' was asked for"):
        resolve_settings(config=tables, loss="advinfonce")


@pytest.mark.parametrize("key", ["n_neg", "training.n_neg", "neg_sample", "training.neg_sample"])
def test_an_override_finds_its_section(key: str) -> None:
    assert resolve_settings(overrides={key: 7}).training.n_neg == 7
    assert resolve_settings(overrides=[f"{key}=7"]).training.n_neg == 7


def test_overrides_reach_every_section() -> None:
    settings = resolve_settings(
        loss="infonce", overrides={"dim": 8, "tau": 0.5, "ks": (5, 20), "eta": None}
    )
    assert (settings.backbone.dim, settings.loss.tau) == (8, 0.5)
    assert (settings.training.ks, settings.loss.eta) == ((5, 20), None)


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_has_a_setting_called_like_one_of_another_section(name: str) -> None:
    others = {field.name for field in fields(BackboneConfig)} | TRAINING
    assert {field.name for field in fields(LOSSES[name].config)} & others == set()


@dataclass(frozen=True, kw_only=True)
class TwinConfig:
    """A loss of one's own that has a setting called like one of the backbone."""

    dim: int = 3
    margin: float = 1.0


class Twin(Loss):
    """A loss as far as settings look at it."""

    config_class: ClassVar[type] = TwinConfig


@pytest.fixture
def _twin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOSSES, "twin", LossSpec(Twin, "has a dim, too", ""))


@pytest.mark.usefixtures("_twin")
def test_a_key_that_two_sections_have_must_name_its_section() -> None:
    with pytest.raises(
        ConfigError, match=r"'dim' is ambiguous: write `backbone.dim` or `loss.dim`"
    ):
        resolve_settings(loss="twin", overrides=["dim=5"])
    settings = resolve_settings(loss="twin", overrides=["loss.dim=5"])
    assert (settings.loss.dim, settings.backbone.dim) == (5, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overrides": ["taau=1"]}, r"override: unknown setting 'taau' \(did you mean 'tau'\?\)"),
        ({"overrides": ["loss.lr=1"]}, "override: unknown setting 'lr'"),
        ({"overrides": ["los.tau=1"]}, r"'los.tau': unknown section 'los' .*'loss'"),
        ({"overrides": ["a.b.c=1"]}, "unknown section 'a.b'"),
        ({"loss": "bpr", "overrides": ["tau=1"]}, "override: unknown setting 'tau'"),
        ({"overrides": ["seed=1"]}, "'seed': it has an argument of its own"),
        ({"overrides": ["loss=bpr"]}, "'loss': it has an argument of its own"),
        ({"overrides": ["backbone.name=mf"]}, "'backbone.name': it has an argument of its own"),
        ({"overrides": ["name=mf"]}, "'name': it has an argument of its own"),
        ({"overrides": ["tau"]}, "expects key=value, got 'tau'"),
        ({"overrides": ["lr=fast"]}, r"override \[training\]: `lr` must be a number, got 'fast'"),
        ({"overrides": ["lr=-1"]}, r"overrides \[training\]: `lr` must be positive .* got -1.0"),
        ({"loss": "infonse"}, r"unknown loss 'infonse' \(did you mean 'infonce'"),
        ({"loss": ""}, "unknown loss ''"),
        ({"seed": -1}, "`seed` must not be negative, got -1"),
        ({"seed": 0.5}, "`seed` must be an integer, got 0.5"),
        ({"config": {"seed": True}}, "`seed` must be an integer, got True"),
        ({"config": {"trainings": {}}}, r"settings: unknown section 'trainings' .*'training'"),
        ({"config": {"training": 3}}, r"settings: `training` must be a table, \[training\], got 3"),
        ({"config": {"training": {"rl": 3}}}, r"settings \[training\]: unknown setting 'rl'"),
        ({"config": {"training": {"lr": -3}}}, r"^settings \[training\]: `lr` must be positive"),
        ({"config": {"training": {"l2": 0, "regs": 0}}}, r"settings \[training\]: `l2` .* twice"),
        ({"config": {"loss": {"name": 3}}}, r"settings \[loss\]: `name` must be a text, got 3"),
        ({"config": {"backbone": {"name": 3}}}, r"settings \[backbone\]: `name` must be a text"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_settings(**arguments)


def test_names_are_not_suggested_as_overrides() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_settings(overrides=["named=mf"])
    assert "'name'" not in str(caught.value)
    assert ", name," not in str(caught.value)


def test_a_file_is_named_in_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nlr = -1\n")
    with pytest.raises(ConfigError) as caught:
        resolve_settings(config=path)
    assert str(caught.value).startswith(f"{path} [training]: `lr` must be positive")


def test_settings_with_the_config_of_another_loss_are_refused() -> None:
    infonce = resolve_settings(loss="infonce").loss
    with pytest.raises(ConfigError, match="`loss` must be a BPRConfig for 'bpr'"):
        Settings(loss_name="bpr", loss=infonce)


# files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", [None, *PUBLISHED])
@pytest.mark.parametrize("loss", LOSSES)
def test_settings_survive_a_file_exactly(loss: str, preset: str | None) -> None:
    settings = resolve_settings(
        loss=loss,
        backbone="lightgcn",
        preset=preset,
        seed=7,
        overrides={"lr": 0.1 + 0.2, "ks": [20]},
    )
    assert Settings.from_toml(settings.to_toml()) == settings
    assert Settings.from_mapping(settings.to_mapping(), where="here") == settings
    assert list(tomllib.loads(settings.to_toml())) == ["seed", "backbone", "loss", "training"]


def test_none_survives_a_file_although_the_name_stands_for_a_value() -> None:
    assert LOSSES["advinfonce-budget"].defaults["eta"] is not None
    settings = resolve_settings(loss="advinfonce-budget", overrides={"eta": None})
    assert settings.loss.eta is None
    assert Settings.from_toml(settings.to_toml()) == settings


def test_a_file_holds_every_setting_so_that_later_defaults_do_not_change_it() -> None:
    settings = resolve_settings(loss="infonce")
    tables = tomllib.loads(settings.to_toml())
    assert set(tables["training"]) == TRAINING
    assert set(tables["loss"]) == {"name"} | {field.name for field in fields(settings.loss)}


def test_a_broken_text_is_reported_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"^run/config.toml:2: "):
        Settings.from_toml("seed = 1\nloss\n", where="run/config.toml")
    with pytest.raises(ConfigError, match=r"^here: unknown section 'data'"):
        Settings.from_toml(dumps_toml({"data": {"name": "x"}}), where="here")
