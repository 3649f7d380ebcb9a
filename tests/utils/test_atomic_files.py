import os
import socket
import subprocess
import sys
import threading
import time

import pytest

from ssd.checkpoint.index import read_index, sha256
from ssd.data.datasets.listing import image_sizes
from ssd.data.images import read_bytes
from ssd.utils import atomic_files
from ssd.utils.atomic_files import (
    BOOT_ID,
    atomic_dir,
    durable_write,
    exclusive_dir,
    is_locked,
    open_regular,
    publish,
    read_limited,
    read_text,
    sweep,
    try_file_lock,
    write_atomically,
)
from ssd.utils.errors import UserError

needs_boot_id = pytest.mark.skipif(not BOOT_ID.exists(), reason="this system does not name its boots")


def test_the_folder_appears_when_all_is_written(tmp_path):
    with atomic_dir(tmp_path / "new" / "x") as draft:
        (draft / "a").write_text("1")
        assert not (tmp_path / "new" / "x").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x"]
    assert (tmp_path / "new/x/a").read_text() == "1"


def test_a_failure_leaves_nothing(tmp_path):
    def fail():
        with atomic_dir(tmp_path / "x") as draft:
            (draft / "a").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_who_comes_second_keeps_what_is_there(tmp_path):
    with atomic_dir(tmp_path / "x") as slow:
        (slow / "a").write_text("slow")
        with atomic_dir(tmp_path / "x") as fast:
            (fast / "a").write_text("fast")
    assert (tmp_path / "x/a").read_text() == "fast"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file/x: Not a directory"), atomic_dir(tmp_path / "file/x"):
        pass


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("ssd.utils.atomic_files.os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_one_at_a_time_and_what_lies_there_stays(tmp_path):
    folder = tmp_path / "deep" / "x.part"
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        with exclusive_dir(folder):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == [1, 1, 1, 1]
    (folder / "half").write_text("done")
    with exclusive_dir(folder):
        assert (folder / "half").read_text() == "done"
        publish(folder, tmp_path / "x")
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["half"]


def test_a_place_where_nobody_can_be_alone(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*file/x"), exclusive_dir(tmp_path / "file" / "x"):
        pass


def test_a_durable_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    happened = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (happened.append("fsync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (happened.append("rename"), rename(*names)))
    with durable_write(tmp_path / "x") as draft:
        draft.write_text("1")
        assert not (tmp_path / "x").exists()
    assert happened == ["fsync", "rename", "fsync"]  # the last one of the folder
    assert (tmp_path / "x").read_text() == "1"
    with pytest.raises(ZeroDivisionError), durable_write(tmp_path / "x") as draft:
        draft.write_text(str(1 / 0))
    assert (tmp_path / "x").read_text() == "1"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_held_file_is_held_once(tmp_path):
    lock = tmp_path / ".lock"
    assert not is_locked(lock)
    assert not lock.exists()
    with try_file_lock(lock, "run 1"):
        assert is_locked(lock)
        with pytest.raises(UserError, match="run 1: another process is at work on it"), try_file_lock(lock, "run 1"):
            pass
    assert not is_locked(lock)
    with try_file_lock(lock, "run 1"):
        pass


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_special_files_are_refused_without_waiting(kind, tmp_path):
    path = tmp_path / "file"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(os.path.relpath(path))
    sized = (lambda path: read_limited(path, 10, "a list"), lambda path: read_text(path, 10, "a list"))
    for read in (*sized, open_regular, read_bytes, lambda path: image_sizes([path])[0].result(), sha256, read_index):
        with pytest.raises(UserError, match=f"file: is a {kind}, expected a regular file"):
            read(path)


def test_large_files_are_refused_before_they_are_read(tmp_path):
    path = tmp_path / "file"
    with open(path, "wb") as file:
        file.truncate(1 << 35)  # takes no room
    with pytest.raises(UserError, match="file: more than 0.001 MB are too many for a list"):
        read_limited(path, 1000, "a list")
    with pytest.raises(UserError, match="too many for an image"):
        read_bytes(path)


DRAFT_THEN_WAIT = """
import sys
from pathlib import Path
from ssd.utils.atomic_files import atomic_write, atomic_dir
with atomic_dir(Path("x")) as folder, atomic_write(Path("y")) as file:
    (folder / "a").write_text("1")
    file.write_text("1")
    print("inside", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def drafting(tmp_path):
    """A process in the middle of a folder and a file, in tmp_path."""
    command = [sys.executable, "-c", DRAFT_THEN_WAIT]
    with subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"inside\n"
        yield process
        process.kill()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@needs_boot_id
def test_what_a_killed_process_left_is_swept_and_what_a_live_one_writes_stays(tmp_path, drafting):
    drafts = names(tmp_path)
    assert [name[:3] for name in drafts] == [".x.", ".y."]
    sweep(tmp_path)
    assert names(tmp_path) == drafts
    drafting.kill()
    drafting.wait()
    sweep(tmp_path)
    assert names(tmp_path) == []


@needs_boot_id
def test_a_live_process_ends_well_beside_a_sweep(tmp_path, drafting):
    write_atomically(tmp_path / "z", b"")  # which looks through the folder
    drafting.communicate()
    assert names(tmp_path) == ["x", "y", "z"]
    assert (tmp_path / "x/a").read_text() == (tmp_path / "y").read_text() == "1"


@needs_boot_id
def test_whoever_writes_there_next_sweeps(tmp_path, drafting):
    drafting.kill()
    drafting.wait()
    with atomic_dir(tmp_path / "other"):
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == ["other"]


def test_nobody_elses_files_are_swept(tmp_path):
    here, elsewhere = BOOT_ID.read_text().replace("-", "")[:8] if BOOT_ID.exists() else "", "0123abcd"
    (tmp_path / "kept").mkdir()
    kept = [f".x.{elsewhere}{'0' * 12}.tmp", f".x.{'0' * 12}.tmp", f"x.{here}{'0' * 12}.tmp", f".x.{here}.part"]
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / f".link.{here}{'1' * 12}.tmp").symlink_to(tmp_path / "kept")
    os.mkfifo(tmp_path / f".pipe.{here}{'2' * 12}.tmp")
    before = names(tmp_path)
    sweep(tmp_path)
    sweep(tmp_path / "missing")
    assert names(tmp_path) == before


def test_a_long_name_has_a_draft(tmp_path):
    for name in ("x" * 250, "\u00e4" * 120):
        write_atomically(tmp_path / name, b"1")
        with atomic_dir(tmp_path / f"{name[:-1]}y"):
            pass
    assert len(names(tmp_path)) == 4


@pytest.mark.parametrize("seen", ["before it is opened", "before it is locked"])
def test_a_draft_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch, seen):
    gone = []

    def remove(draft):
        if not gone:
            gone.append(draft)
            os.rmdir(draft)

    def made(draft):
        draft.mkdir()
        if seen == "before it is opened":
            remove(draft)

    def locked(handle, _):
        if seen == "before it is locked":
            remove(os.readlink(f"/proc/self/fd/{handle}"))

    monkeypatch.setattr(atomic_files, "_new_folder", made)
    monkeypatch.setattr(atomic_files.fcntl, "flock", locked)
    with atomic_dir(tmp_path / "x") as draft:
        (draft / "a").write_text("1")
    assert gone
    assert names(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "damaged, not a list of things"),
        ("[" * 100_000, "damaged"),
        ("[" * 70 + "]" * 70, "nested more than 64 deep"),
        ("9" * 5000, "damaged"),
        ('"\\ud8', "damaged"),
        ("[" + "[]," * 2_000_001 + "1]", "lists and objects"),
        (" " * 20_000_001, "too many for a list of things"),
    ],
)
def test_json_that_is_damaged_or_too_much(text, part, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(UserError, match=part) as caught:
        atomic_files.read_json(path, 20_000_000, "a list of things")
    assert str(caught.value).startswith(str(path))
    with pytest.raises(FileNotFoundError):
        atomic_files.read_json(tmp_path / "b.json", 10, "a list of things")
    path.write_text('{"a": [1, null, "é"]}')
    assert atomic_files.read_json(path, 100, "a list of things") == {"a": [1, None, "é"]}


def test_messages_are_one_line_whatever_names_hold():
    assert str(UserError("class 'a\nb\x1b[2J\u2028\ud83d' is unknown")) == (
        "class 'a b\\x1b[2J\\u2028\\ud83d' is unknown"
    )
    assert len(str(UserError("x" * 100_000))) < 11_000


def test_json_is_written_with_a_line_end_and_without_what_is_no_number(tmp_path):
    content = {"a": [1.5, float("nan"), {"b": float("inf")}], "c": "é", "d": None}
    atomic_files.write_json(tmp_path / "a.json", content)
    atomic_files.write_json(tmp_path / "b.json", content, compact=True)
    assert (tmp_path / "a.json").read_text().startswith('{\n  "a": [\n    1.5,\n    null,')
    assert (tmp_path / "b.json").read_text() == '{"a": [1.5, null, {"b": null}], "c": "\\u00e9", "d": null}\n'
    for name in ("a.json", "b.json"):
        found = atomic_files.read_json(tmp_path / name, 1000, "numbers")
        assert found == {"a": [1.5, None, {"b": None}], "c": "é", "d": None}
