"""What waits in a run directory goes where the user says, and holds nothing but the run: the directory may be somebody
else's."""

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow import MlflowClient

from ssd.config.credentials import KEPT, TRACKING
from ssd.config.targets import confined
from ssd.tracking import unsent
from ssd.tracking.events import RunInfo, Sweep
from ssd.tracking.mlflow.outbox import Entry
from ssd.tracking.mlflow.store import RUN_FILE, Settings, Store
from ssd.utils.errors import UserError

SECRET = "pw-s3cr3t"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.delenv(TRACKING, raising=False)
    monkeypatch.setenv(KEPT, "{}")
    return tmp_path / "work"


def waiting(run: RunInfo, uri: str, *entries: tuple[str, Any], artifacts: str = "a", **changes: Any) -> Path:
    """A run directory in which these wait."""
    found = [Entry("run", None), *(Entry(kind, content) for kind, content in entries)]
    path = unsent.keep(run, Settings(uri, artifacts, "ssd", None), found)
    content = json.loads(path.read_text())
    content["run"] |= changes
    path.write_text(json.dumps(content))
    return run.folder


def artifacts_of(uri: str, folder: Path) -> list[str]:
    run_id = json.loads((folder / RUN_FILE).read_text())["run_id"]
    client = MlflowClient(uri)
    found, paths = [client.list_artifacts(run_id)], []
    while found:
        for one in found.pop():
            paths.append(one.path)
            found += [client.list_artifacts(run_id, one.path)] if one.is_dir else []
    return sorted(paths)


def test_a_server_that_only_the_file_names_is_not_reached(server, run, caplog, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "tok-s3cr3t")
    folder = waiting(run, server.uri)
    before = (folder / unsent.FILE).read_bytes()
    assert unsent.main([str(folder)]) == 2
    assert server.seen.total() == 0
    (line,) = caplog.messages
    assert line.endswith(f"if it is yours, send it with: {unsent.command(folder, server.uri)}")
    assert (folder / unsent.FILE).read_bytes() == before


def test_the_command_of_that_line_sends_it(server, run) -> None:
    folder = waiting(run, server.uri)
    assert unsent.main([str(folder), "--to", server.uri]) == 0
    assert server.seen.total() > 0
    assert not (folder / unsent.FILE).exists()


def test_the_environment_names_it_too(server, run, monkeypatch) -> None:
    monkeypatch.setenv(TRACKING, server.uri)
    folder = waiting(run, f"{server.uri}/")
    assert unsent.main([str(folder)]) == 0
    assert server.seen.total() > 0


def test_the_user_sends_it_elsewhere(server, run, here) -> None:
    folder = waiting(run, "http://evil.invalid:5000")
    assert unsent.main([str(folder), "--to", server.uri]) == 0
    assert json.loads((folder / RUN_FILE).read_text())["tracking_uri"] == server.uri


def test_credentials_that_the_user_gives_are_not_kept(server, run, caplog) -> None:
    server.stop()
    folder = waiting(run, server.uri)
    given = server.uri.replace("http://", f"http://bob:{SECRET}@")
    assert unsent.main([str(folder), "--to", given]) == 2
    assert SECRET not in (folder / unsent.FILE).read_text()
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:////var/lib/x.db",
        "sqlite:///../x.db",
        "sqlite+pysqlite:///file:%2Fvar%2Fx.db?uri=true&mode=rwc",
        "http://[",
        "mssql+pyodbc:///?odbc_connect=x",
        "databricks",
        "file:///etc",
    ],
)
def test_no_other_store_of_the_file_is_opened(uri: str, run, monkeypatch, caplog) -> None:
    monkeypatch.setattr(Store, "send", lambda *_: pytest.fail("opened"))
    folder = waiting(run, uri)
    assert unsent.main([str(folder)]) == 2
    assert len(caplog.messages) == 1
    assert "\n" not in caplog.messages[0]


def test_a_database_below_the_working_directory_gets_it_without_being_named(run, here) -> None:
    uri = f"sqlite:///{here}/outputs/mlflow.db"
    folder = waiting(run, uri, artifacts=str(here / "outputs" / "artifacts"))
    (folder / "report.html").write_text("good")
    waiting(run, uri, ("artifact", [str(folder / "report.html"), ""]), artifacts=str(here / "outputs" / "artifacts"))
    assert unsent.main([str(folder)]) == 0
    assert artifacts_of(uri, folder) == ["report.html"]


def test_a_database_does_not_send_artifacts_elsewhere(run, here, caplog) -> None:
    uri = f"sqlite:///{here}/outputs/mlflow.db"
    (here / "outputs").mkdir()
    MlflowClient(uri).create_experiment(
        "ssd", artifact_location="http://evil.invalid/api/2.0/mlflow-artifacts/artifacts"
    )
    folder = waiting(run, uri, artifacts=str(here / "outputs" / "artifacts"))
    unsent.main([str(folder)])
    assert "this database sends artifacts to http://evil.invalid" in caplog.text
    assert not (folder / RUN_FILE).exists()


def test_files_come_from_the_run_directory_only(server, run, tmp_path, caplog) -> None:
    folder, outside = run.folder, tmp_path / "secret.txt"
    outside.write_text(SECRET)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "secret.txt").write_text(SECRET)
    (folder / "report.html").write_text("good")
    (folder / "link.html").symlink_to(outside)
    (folder / "link").symlink_to(tmp_path / "secrets")
    for name in ("images", "checkpoints"):
        (folder / name).mkdir()
        (folder / name / "deep").mkdir()
    (folder / "images" / "deep" / "a.png").symlink_to(outside)
    (folder / "checkpoints" / "ssd-0001.params").write_bytes(b"x")
    (folder / "checkpoints" / "ssd-symbol.json").symlink_to(outside)
    mean = [outside, folder / ".." / "secret.txt", folder / "link.html", folder / "link" / "secret.txt"]
    mean += [folder / "link", folder / "images", tmp_path]
    mean += [Path("/etc/passwd"), Path("/dev/zero"), Path("../secret.txt")]
    entries = [("artifact", [str(path), ""]) for path in mean]
    model = ("model", [str(folder / "checkpoints" / "ssd-0001.params"), {}, 1, {}])
    waiting(run, server.uri, *entries, model, ("artifact", [str(folder / "report.html"), "report"]))
    assert unsent.main([str(folder), "--to", server.uri]) == 0
    assert artifacts_of(server.uri, folder) == ["report", "report/report.html"]
    assert f"outside of the run directory: {outside} and {len(mean)} more" in caplog.text


def test_a_resumed_run_takes_no_other_files_either(run, tmp_path) -> None:
    (run.folder / "report.html").write_text("good")
    inside = str(run.folder / "report.html")
    waiting(run, "http://evil", ("artifact", ["/etc/passwd", ""]), ("artifact", [inside, ""]))
    assert [entry.content[0] for entry in unsent.pending_entries(run)] == [inside]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content["entries"].append(["artifact", 5]),
        lambda content: content["entries"].append(["artifact", ["a"]]),
        lambda content: content["entries"].append(["artifact", ["a", "../../x"]]),
        lambda content: content["entries"].append(["metrics", [{"a": "b"}, 1, 2]]),
        lambda content: content["entries"].append(["metrics", [[], 1, 2]]),
        lambda content: content["entries"].append(["status", ["finished", {}, "1", {}]]),
        lambda content: content["entries"].append(["model", ["a", {}, 1, {"a": 1}]]),
        lambda content: content["entries"].append(["exec", "id"]),
        lambda content: content["entries"].append("run"),
        lambda content: content["entries"].append(["run", [1]]),
        lambda content: content["settings"].update(tracking_uri=5),
        lambda content: content["settings"].update(artifacts=None),
        lambda content: content["settings"].update(more=1),
        lambda content: content["run"].update(classes=7),
        lambda content: content["run"].update(facts=[]),
        lambda content: content["run"].update(facts={"a": 1}),
        lambda content: content["run"].update(config=[1]),
        lambda content: content["run"].update(folder=None),
        lambda content: content["run"].update(sweep={"folder": "/root", "number": 0, "own": [], "swept": []}),
        lambda content: content["run"].update(sweep=[1]),
        lambda content: content.pop("run"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(damage, run, caplog) -> None:
    folder = waiting(run, "http://evil")
    content = json.loads((folder / unsent.FILE).read_text())
    damage(content)
    (folder / unsent.FILE).write_text(json.dumps(content))
    assert unsent.main([str(folder), "--to", "http://127.0.0.1:9"]) == 2
    (line,) = caplog.messages
    assert "cannot be read" in line
    assert "\n" not in line


def places(node: Any) -> list[list[Any]]:
    """Where the values of JSON are: the keys that lead there."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [[], *([key, *rest] for key, value in items for rest in places(value))]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=5)
    | st.sampled_from(["/", "..", "\0", "a" * 5000, "sqlite:///\0", "sqlite+pysqlite:///%", "http://[", "~"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@given(data=st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_other_value_anywhere_is_read_or_refused_in_a_line(run, tmp_path, data) -> None:
    info = RunInfo(**{**asdict(run), "sweep": Sweep(tmp_path, 0, ["a=1"], ["a=1,2"]), "facts": {"a": "b"}})
    report = str(run.folder / "report.html")
    entries = [("artifact", [report, ""]), ("metrics", [{"a": 1.0}, 1, 2]), ("status", ["finished", {}, 1, {"a": "b"}])]
    path = waiting(info, "http://evil", *entries, ("model", [report, {"a": 0.5}, 1, {}])) / unsent.FILE
    content = json.loads(path.read_text())
    *front, last = data.draw(st.sampled_from(places(content)[1:]))
    node = content
    for key in front:
        node = node[key]
    node[last] = data.draw(JSON)
    path.write_text(json.dumps(content))
    with confined([]), pytest.raises(UserError) as error:
        unsent.send(run.folder)
    assert "\n" not in str(error.value)


def test_a_sweep_stays_where_its_jobs_are(run, tmp_path) -> None:
    info = RunInfo(**{**asdict(run), "sweep": Sweep(tmp_path, 0, [], [])})
    waiting(info, "http://host")
    found, _, _ = unsent.load(run.folder)
    assert found.sweep == Sweep(tmp_path, 0, [], [])
    moved = tmp_path / "other" / "run"
    os.renames(run.folder, moved)
    found, _, _ = unsent.load(moved)
    assert found.sweep is not None
    assert found.sweep.folder == tmp_path / "other"


def test_a_run_that_was_named_by_a_relative_path_and_moved(run, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    report = str(run.folder / "report.html")
    for name in (Path("run"), tmp_path / "link" / "run"):
        info = replace(run, folder=name, sweep=Sweep(tmp_path, 0, [], []))
        waiting(info, "http://host", ("artifact", [report, ""]))
        moved = tmp_path / "other" / "run"
        os.renames(run.folder, moved)
        _, _, entries = unsent.load(moved)
        assert entries[-1].content[0] == str(moved / "report.html")
        os.renames(moved, run.folder)


def test_a_program_of_the_users_own_needs_no_override(server, run) -> None:
    folder = waiting(run, server.uri)
    assert unsent.send(folder) == server.uri
    with confined([]), pytest.raises(UserError, match="nothing of this run waits"):
        unsent.send(folder)
