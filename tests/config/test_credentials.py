"""A password in an address reaches the server and nothing else."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from ssd.config import credentials
from ssd.config.credentials import (
    KEPT,
    bare,
    bare_values,
    environment,
    guard,
    scrubbed,
    take,
    take_config,
    whole,
    whole_values,
)
from ssd.config.overrides import take_overrides
from ssd.config.targets import SAID
from ssd.config.text import load_yaml
from ssd.runs.saved import read_config, read_overrides
from ssd.tracking.events import Writer, make_writers
from ssd.utils.errors import UserError

SECRET = "pw-s3cr3t"
URI = "logger.mlflow.tracking_uri"


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (KEPT, credentials.TRACKING, *credentials.OWN):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(KEPT, "{}")  # which is taken back afterwards


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://bob:pw@host:5000", "http://host:5000"),
        ("HTTPS://bob:pw@host/ml/", "HTTPS://host/ml/"),
        ("https://token@host", "https://host"),
        ("https://bob:p@w@host", "https://host"),
        ("https://bob:p/w?#@host/x", "https://host/x"),
        ("https://bob:p w@host", "https://host"),
        ("https://[::1]:5000/a@b", "https://[::1]:5000/a@b"),
        ("https://host?token=abc&page=2", "https://host?page=2"),
        ("https://host/?a=1&X-Amz-Signature=ab&X-Amz-Credential=c&sig=d#access_token=e", "https://host/?a=1"),
        ("https://host/?pass%77ord=abc", "https://host/"),
        ("postgresql://bob:pw@host/runs", "postgresql://host/runs"),
        ("postgresql+psycopg2://bob:p/w@host/runs?sslmode=require", "postgresql+psycopg2://host/runs?sslmode=require"),
        ("postgresql://host/runs?user=bob&password=pw", "postgresql://host/runs?user=bob"),
        ("postgresql://bob@host/runs", "postgresql://bob@host/runs"),
        ("mysql+pymysql://bob:pw@host:3306/runs", "mysql+pymysql://host:3306/runs"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dpw", "mssql+pyodbc:///"),
        ("sqlite:///runs/a:b@c;token=1.db", "sqlite:///runs/a:b@c;token=1.db"),
        ("sqlite:///a.db?mode=ro&password=pw", "sqlite:///a.db?mode=ro"),
        ("sqlite:///a.db?key=pw", "sqlite:///a.db"),
        ("file:///runs/a?password=1", "file:///runs/a?password=1"),
        ("https://host/x?jwt=a&session=b&code=c&session_id=d&page=2", "https://host/x?page=2"),
        ("https://host/x;token=abc;v=1/y?a=b", "https://host/x;v=1/y?a=b"),
        ("https://host/;jsessionid=abc", "https://host/"),
        ("http://host:5000", "http://host:5000"),
        ("no address", "no address"),
    ],
)
def test_an_address_without_its_credentials(address: str, expected: str) -> None:
    assert bare(address) == expected
    assert bare(expected) == expected


PASSWORD = st.text(st.characters(codec="ascii", categories=("L", "N", "P", "S")), min_size=8, max_size=20)


@given(password=PASSWORD, scheme=st.sampled_from(["http", "postgresql", "mysql+pymysql"]))
def test_any_password_goes(password: str, scheme: str) -> None:
    address = f"{scheme}://bob:q{password}q@host/runs"
    assert f"q{password}q" not in bare(address)
    assert bare(address).endswith("host/runs") or "?" in password or "@" in password


@pytest.mark.parametrize(
    "override",
    [
        f"{URI}=http://bob:{SECRET}@host:5000",
        f"++{URI}='http://bob:{SECRET}, x@host:5000'",
        f'{URI}="http://bob:{SECRET}@host:5000"',
        f"{URI}=http://bob:{SECRET},x@host:5000",
        f"{URI}=http://bob:${{oc.env:PW}}@host:5000",
        f"{URI}=${{oc.env:WHOLE}}",
    ],
)
def test_an_override_is_stored_without_and_used_with_them(override: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", SECRET)
    monkeypatch.setenv("WHOLE", f"http://bob:{SECRET}@host:5000")
    (taken,) = take_overrides([override])
    assert taken.lstrip("+") == f"{URI}=http://host:5000"
    assert SECRET in whole("http://host:5000")


def test_overrides_with_several_addresses() -> None:
    given = ["a=http://b:c1@h1,http://b:c2@h2", "+b=[http://b:c3@h3]", "+c={uri: 'http://b:c4@h4'}"]
    given += ["+d={uri:http://b:c5@h5,experiment:e}"]
    expected = ["a=http://h1,http://h2", "+b=[http://h3]", "+c={uri: 'http://h4'}", "+d={uri:http://h5,experiment:e}"]
    assert take_overrides(given) == expected
    assert [whole(f"http://h{number}") for number in range(1, 6)] == [f"http://b:c{n}@h{n}" for n in range(1, 6)]


@pytest.mark.parametrize("mark", [",", " ", "]", "}", ">", ":", "\\'", '"', "\\\\", "/", "?"])
def test_passwords_in_quotes_within_lists_and_mappings(mark: str) -> None:
    address = f"'http://bob:x{mark}{SECRET}@h{mark * (mark == '?')}'"
    for item in (f"+x=[{address},b]", f"+x={{uri: {address}}}", f"+x={address},http://other"):
        (taken,) = take_overrides([item])
        assert SECRET not in taken
        assert "'http://h" in taken
    assert take_overrides(["+x=['a,b', \"c\", 'http://h/x y']"]) == ["+x=['a,b', \"c\", 'http://h/x y']"]


@pytest.mark.parametrize("mark", [",", " ", "]", "}"])
def test_a_password_that_needs_quotes_is_refused_without_them(mark: str) -> None:
    with pytest.raises(UserError, match="put it in quotes") as error:
        take_overrides([f"+x=[http://bob:{SECRET}{mark}x@h]"])
    assert SECRET not in str(error.value)
    assert take_overrides(["+x=[http://h:5000/a,s3://bucket/x]"]) == ["+x=[http://h:5000/a,s3://bucket/x]"]


def test_overrides_without_credentials_stay_letter_for_letter() -> None:
    overrides = ["data_shape=512", f"{URI}='sqlite:///a@b.db'", "+x=http://host/a", "dataset.root=${oc.env:HOME}", "-m"]
    assert take_overrides(overrides) == overrides
    assert environment().get(KEPT) is None
    assert json.loads(os.environ[KEPT]) == {}


def test_credentials_beside_other_keys_are_refused_in_a_line_without_them() -> None:
    with pytest.raises(UserError, match="references to other keys") as error:
        take_overrides([f"{URI}=http://bob:{SECRET}@${{host}}"])
    assert SECRET not in str(error.value)


def test_an_address_without_its_scheme_is_not_repeated() -> None:
    with pytest.raises(UserError, match="expected the address of a store") as error:
        take_overrides([f"{URI}=bob:{SECRET}@host:5000"])
    assert SECRET not in str(error.value)


class Mine(Writer):
    def __init__(self, uri: str) -> None:
        self.uri = uri


def test_a_writer_of_the_users_own_gets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SAID, raising=False)
    uri = take(f"http://bob:{SECRET}@host")
    (writer,) = make_writers({"mine": {"_target_": f"{__name__}.Mine", "uri": uri}}).values()
    assert isinstance(writer, Mine)
    assert writer.uri == f"http://bob:{SECRET}@host"


def test_a_study_connects_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import optuna

    from ssd.sweeps.study import open_study

    seen = {}
    monkeypatch.setattr(optuna, "create_study", lambda **options: seen.update(options) or optuna.study.Study)
    storage = take(f"mysql+pymysql://bob:{SECRET}@host/studies")
    with pytest.raises(AttributeError):  # of what is no study
        open_study(OmegaConf.create({"study_name": "s", "storage": storage}), [])
    assert seen["storage"] == f"mysql+pymysql://bob:{SECRET}@host/studies"


def test_yaml_files_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", SECRET)
    text = f"a: http://bob:{SECRET}@h1\nb: ['postgresql://bob:${{oc.env:PW}}@h2/runs']\nc: 3\nd: ${{oc.env:PW}}\n"
    loaded = OmegaConf.to_container(load_yaml(text))
    assert loaded == {"a": "http://h1", "b": ["postgresql://h2/runs"], "c": 3, "d": "${oc.env:PW}"}
    assert whole_values(loaded)["a"] == f"http://bob:{SECRET}@h1"
    assert whole("postgresql://h2/runs") == f"postgresql://bob:{SECRET}@h2/runs"


def test_what_interpolations_become() -> None:
    cfg = OmegaConf.create({"user": "bob", "pw": SECRET, "logger": {"uri": ["http://${user}:${pw}@h"]}, "x": "${none}"})
    take_config(cfg)
    assert cfg.logger.uri == ["http://h"]
    assert whole("http://h") == f"http://bob:{SECRET}@h"


def test_credentials_are_for_their_own_server_only() -> None:
    take(f"http://bob:{SECRET}@host/voc")
    assert whole("http://host/voc/a.tar") == f"http://bob:{SECRET}@host/voc/a.tar"
    for other in ("http://host", "http://host/vocal", "http://host2/voc", "https://host/voc", "http://host:80/voc"):
        assert whole(other) == other


def test_the_environment_gives_them_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(credentials.TRACKING, f"http://bob:{SECRET}@host")
    assert whole("http://host") == f"http://bob:{SECRET}@host"
    assert whole("http://other") == "http://other"


def test_files_of_runs_are_read_without(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(f"logger: {{m: {{uri: 'http://bob:{SECRET}@host'}}}}\n")
    (tmp_path / "overrides.yaml").write_text(f"- {URI}=http://bob:{SECRET}@host\n- 7\n")
    assert read_config(tmp_path / "config.yaml") == {"logger": {"m": {"uri": "http://host"}}}
    assert read_overrides(tmp_path / "overrides.yaml") == [f"{URI}=http://host", 7]
    assert whole("http://host") == "http://host"  # it is not used either
    assert bare_values({"a": [" http://b:c@h", f"jdbc:postgresql://b:{SECRET}@h/x"]}) == {
        "a": ["http://h", "jdbc:postgresql://h/x"]
    }


def test_messages_of_other_programs() -> None:
    take(f"http://bob:{SECRET}@host")
    take("https://x?token=abc%2Fdef%3D")
    for text in (
        f"API request to http://bob:{SECRET}@host/api failed: HTTPConnectionPool(host='{SECRET}')",
        f"redirected to https://eve:{SECRET}@elsewhere/?token=abc%2Fdef%3D",
        "token abc/def= is wrong",
    ):
        clean = scrubbed(text)
        assert SECRET not in clean
        assert "abc/def=" not in clean
        assert "abc%2F" not in clean
    assert scrubbed("nothing of it: http://host/a?b=c") == "nothing of it: http://host/a?b=c"
    assert scrubbed("h" * 1_000_000) == "h" * 1_000_000


def test_log_lines_and_tracebacks(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = logging.getLogRecordFactory()
    address = f"http://bob:{SECRET}@host"
    try:
        guard()
        guard()
        logging.getLogger("x").error("no answer of %s", address)
        try:
            raise ValueError(address)
        except ValueError:
            logging.getLogger("x").exception("failed")
        assert SECRET not in caplog.text
        assert "no answer of http://host" in caplog.text
        assert "ValueError: http://host" in caplog.text
    finally:
        logging.setLogRecordFactory(before)


def test_a_traceback_of_the_program() -> None:
    code = f"from ssd.config.credentials import guard; guard(); raise ValueError('http://bob:{SECRET}@host')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("ValueError: http://host")


def test_the_package_stays_light() -> None:
    code = "import sys, ssd.run; print(sorted({'numpy', 'mlflow', 'requests'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.stdout.strip() == "[]"


TINY = ["dataset.train=16", "dataset.val=8", "batch_size=8", "epochs=1", "training.samples=1", "device.threads=1",
        "loader.workers=0", "logger.mlflow.flush_seconds=0.1"]  # fmt: skip


def ssd(folder: Path, *overrides: str, module: str = "ssd.run", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *overrides],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=900,
    )


def holding(folder: Path) -> list[Path]:
    """The files below a folder in which the password stands."""
    return [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


def test_a_whole_run_keeps_no_password(tmp_path: Path) -> None:
    """From the command line; the server is down, so that all that can be kept is, and errors are shown."""
    server = "http://127.0.0.1:9"  # where nobody listens
    done = ssd(tmp_path, *TINY, f"{URI}=http://bob:{SECRET}@127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    said = done.stdout + done.stderr
    assert "mlflow does not answer" in said
    (run,) = tmp_path.glob("outputs/train/*/*")
    saved = [run / name for name in ("config.yaml", ".hydra/overrides.yaml", "checkpoints/checkpoints.json",
                                     "mlflow-unsent.json")]  # fmt: skip
    assert all(server in file.read_text() for file in saved)
    again = ssd(tmp_path, f"resume={run}", "epochs=2")
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert f"add {URI}={server}" in again.stderr
    later = ssd(
        tmp_path, str(run), module="ssd.tracking.unsent", MLFLOW_TRACKING_URI=f"http://bob:{SECRET}@127.0.0.1:9"
    )
    assert later.returncode == 2
    assert "does not answer" in later.stderr
    wrong = ssd(tmp_path, f"{URI}=http://bob:{SECRET}@127.0.0.1:9", "no_key=1", HYDRA_FULL_ERROR="1")
    assert "Traceback" in wrong.stderr
    message = ssd(tmp_path, "--cfg", "job", f"{URI}=http://bob:{SECRET}@127.0.0.1:9")
    assert server in message.stdout
    for output in (done, again, later, wrong, message):
        assert SECRET not in output.stdout + output.stderr
    assert holding(tmp_path) == []


def test_a_sweep_over_files_of_the_user_keeps_no_password(tmp_path: Path) -> None:
    (tmp_path / "mine" / "logger").mkdir(parents=True)
    text = "\n".join(
        [
            "mlflow:",
            "  _target_: ssd.tracking.mlflow.writer.MLflow",
            "  tracking_uri: http://bob:${oc.env:PW}@127.0.0.1:9",
            "  artifacts: a",
            "  experiment: e",
            "  register: null",
            "  flush_seconds: 0.1",
            "  retry_seconds: 5",
        ]
    )
    (tmp_path / "mine" / "logger" / "team.yaml").write_text(text)
    done = ssd(tmp_path, "-m", "--config-dir", "mine", "logger=[tensorboard,team]", *TINY, "seed=7", PW=SECRET)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "http://127.0.0.1:9" in done.stdout + done.stderr
    assert holding(tmp_path) == []


def test_a_process_that_connects_to_no_server_has_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (credentials.KEPT, *credentials.OWN):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OTHER", "kept")
    given = credentials.environment()
    assert given["OTHER"] == "kept"
    assert not {credentials.KEPT, *credentials.OWN} & set(given)
