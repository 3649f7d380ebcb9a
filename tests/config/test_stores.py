"""Whose override decides where a run is recorded."""

from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from ssd.config.compose import compose
from ssd.config.credentials import TRACKING
from ssd.config.stores import check_named, check_place, check_places, is_followed, is_named, refused
from ssd.config.targets import confined
from ssd.jobs import run as run_job
from ssd.runs.resume import command
from ssd.runs.saved import allowed_overrides
from ssd.utils.errors import UserError

URI = "logger.mlflow.tracking_uri"
EVIL = "http://evil:5000"
DEFAULT = "sqlite:///outputs/mlflow/mlflow.db"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory, and a user who names no store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(TRACKING, raising=False)
    return tmp_path


def test_a_server_is_named_by_the_user_alone(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with confined([f"resume={here}"]):
        assert not is_named(EVIL)
        assert not is_named("")
        assert not is_named("databricks")
        assert is_named(DEFAULT)
        assert is_named(f"sqlite:///{here}/outputs/mlflow/mlflow.db")
        monkeypatch.setenv(TRACKING, "http://me:pw@evil:5000/")
        assert is_named(EVIL)
        monkeypatch.delenv(TRACKING)
    with confined([f"{URI}={EVIL}/"]):
        assert is_named(EVIL)
        assert not is_named("http://evil:50001")
        assert not is_named("https://evil:5000")
    (here / "mine" / "logger").mkdir(parents=True)
    (here / "mine" / "logger" / "team.yaml").write_text("mlflow: {tracking_uri: 'http://me:pw@evil:5000'}\n")
    with confined(["--config-dir", "mine"]):
        assert is_named(EVIL)
    assert is_named(EVIL)  # in a program of the user's own


def test_databases_below_the_working_directory(here: Path) -> None:
    (here / "out").symlink_to("/")
    run = here / "run"
    with confined([]):
        assert is_followed("sqlite:///runs/a.db", run)
        assert is_followed(f"sqlite:///{here}/runs/a.db", run)
        for elsewhere in ("sqlite:////var/a.db", "sqlite:///../a.db", "sqlite:///out/a.db", "sqlite:///run/a.db",
                          "sqlite+pysqlite:///runs/a.db", "postgresql://evil/a"):  # fmt: skip
            assert not is_followed(elsewhere, run), elsewhere


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (URI, EVIL),
        (URI, f" {EVIL}"),
        (URI, "HTTP://evil:5000"),
        (URI, "postgresql://evil/db"),
        (URI, "sqlite:////home/me/places.sqlite"),
        ("logger.other.endpoint", "https://evil"),
        ("logger.mlflow.artifacts", "/home/me"),
        ("logger.csv.file", "../../.bashrc"),
        ("logger.tensorboard.folder", "/home/me"),
        ("logger.another.file", "/home/me/.bashrc"),
        ("logger.another.folder", "../me"),
        ("logger.another.inner.anything", "/home/me"),
    ],
)
def test_saved_overrides_lead_nowhere(key: str, value: str) -> None:
    override = f"+{key}='{value}'"
    with confined(["resume=run"]):
        with pytest.raises(UserError, match=key) as error:
            allowed_overrides([override], "resume=run")
        assert "\n" not in str(error.value)
        group, _, last = key.rpartition(".")
        with pytest.raises(UserError, match=key):
            allowed_overrides([f"+{group}={{{last}:'{value}'}}"], "resume=run")
    for leave in (f"{key}=another", "logger=[csv]"):
        with confined(["resume=run", leave]):
            assert allowed_overrides([override], "resume=run") == []


def test_what_an_own_run_has_is_kept_without_being_named() -> None:
    overrides = [
        f"{URI}={DEFAULT}",
        "logger.mlflow.artifacts=outputs/a",
        "logger.csv.file=s.csv",
        "logger.mlflow.register=a",
    ]
    with confined(["resume=run"]):
        assert allowed_overrides(overrides, "resume=run") == overrides


@pytest.mark.parametrize("key", ["rerun", "resume"])
def test_a_saved_configuration_leads_nowhere(key: str, here: Path) -> None:
    """Of all of the values: overrides say nothing of it."""
    run = here / "run"
    (run / ".hydra").mkdir(parents=True)
    cfg = compose([])
    cfg.logger.mlflow.tracking_uri = EVIL
    (run / ".hydra" / "overrides.yaml").write_text("[]")
    (run / "config.yaml").write_text(OmegaConf.to_yaml(cfg, resolve=True))
    with confined([f"{key}={run}"]):
        plain = yaml.safe_load((run / "config.yaml").read_text())["logger"]
        with pytest.raises(UserError, match=EVIL):
            check_named(plain, run)
        if key == "rerun":
            with pytest.raises(UserError, match=f"rerun|{EVIL}"):
                run_job(compose([f"rerun={run}"]), here / "new")
            assert not (here / "new").exists()


def test_a_run_with_a_database_of_its_own(here: Path) -> None:
    with confined([]):
        assert refused("sqlite:///run/m.db", URI) is None
        assert refused("sqlite:///run/m.db", URI, here / "run") is not None


def test_the_printed_command_names_the_store_again(here: Path) -> None:
    with confined(["backbone=small", f"{URI}=http://host:5000"]):
        assert command(here / "run").endswith(f"resume=run {URI}=http://host:5000")
    with confined(["backbone=small"]):
        assert command(here / "run").endswith("resume=run")


@pytest.mark.parametrize(
    "location",
    [
        "http://evil:1/a", " http://evil:1/a", "\thttp://evil:1/a", "\x01http://evil:1/a", "ht\ntp://evil:1/a", "s3:a",
        "file://evil/a", "file:///home/me", "FILE:///home/me", "/home/me", "../me", "outputs/%2e%2e/%2e%2e/me",
        "mlflow-artifacts:/a", "file:///home/me?a#b", "dbfs:/a", "C:/a", "outputs/a\0b", "outputs/a%00b",
        "file:outputs/../../me",
    ],
)  # fmt: skip
def test_a_database_sends_artifacts_below_the_working_directory(location: str) -> None:
    with confined(["resume=run"]):
        with pytest.raises(UserError, match="this database sends artifacts to") as error:
            check_place(location, DEFAULT)
        assert "\n" not in str(error.value)
    with confined([f"{URI}={DEFAULT}"]):
        check_place(location, DEFAULT)


def test_places_for_artifacts_that_need_no_override(here: Path) -> None:
    with confined(["resume=run"]):
        for location in (f"{here}/outputs/a", f"file://{here}/outputs/a%20b", "outputs/a"):
            check_place(location, DEFAULT)
        check_place("file:///data/artifacts/1", DEFAULT, "/data/artifacts")


@pytest.mark.parametrize(
    ("key", "value"),
    [("training.records", "/data/records"), ("dataset.holdout.cache", "/data/cache"), ("dataset.root", "../elsewhere")],
)
def test_places_to_write_of_a_run_lie_below_the_working_directory(key: str, value: str, here: Path) -> None:
    cfg = compose([f"{key}={value}"])
    plain = OmegaConf.to_container(cfg, resolve=True)
    with confined(["rerun=run"]), pytest.raises(UserError, match=f"add {key}={value}"):
        check_places(plain, here / "run")
    with confined(["rerun=run", f"{key}={value}"]):
        check_places(plain, here / "run")
        assert f"{key}={value}" in command(here / "run")
    with confined(["rerun=run"]):
        check_places(OmegaConf.to_container(compose(["dataset=voc", "dataset.root=/data/voc"]), resolve=True), here)
