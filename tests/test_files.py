import pytest

from ssd.errors import UserError
from ssd.files import whole_folder, write_atomically


def test_the_folder_appears_when_all_is_written(tmp_path):
    with whole_folder(tmp_path / "new" / "x") as draft:
        (draft / "a").write_text("1")
        assert not (tmp_path / "new" / "x").exists()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x"]
    assert (tmp_path / "new/x/a").read_text() == "1"


def test_a_failure_leaves_nothing(tmp_path):
    def fail():
        with whole_folder(tmp_path / "x") as draft:
            (draft / "a").write_text("1")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_who_comes_second_keeps_what_is_there(tmp_path):
    with whole_folder(tmp_path / "x") as slow:
        (slow / "a").write_text("slow")
        with whole_folder(tmp_path / "x") as fast:
            (fast / "a").write_text("fast")
    assert (tmp_path / "x/a").read_text() == "fast"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write .*file/x: Not a directory"), whole_folder(tmp_path / "file/x"):
        pass


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_atomically(path, b"old")

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("ssd.files.os.replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
