import pytest

from ssd.data.datasets.files import existing_root, picture_sizes, pictures_in
from ssd.data.headers import FIRST_BYTES
from ssd.utils.errors import UserError
from ssd.utils.text_files import read_text


def test_text(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffÄ\n".encode())
    assert read_text(tmp_path / "a", 6, "a list") == "Ä\n"
    for data, message in (
        (b"\xff", r"a: not a list \(byte 0 is no UTF-8 text\)"),
        (b"x\0", r"a: not a list \(it holds binary data\)"),
        (b"1234567", "a: more than 6e-06 MB are too many for a list"),
    ):
        (tmp_path / "a").write_bytes(data)
        with pytest.raises(UserError, match=message):
            read_text(tmp_path / "a", 6, "a list")
    with pytest.raises(UserError, match="cannot read a list: Is a directory"):
        read_text(tmp_path, 6, "a list")


def test_pictures_below_a_folder_and_their_sizes(tmp_path, jpeg):
    for number, name in enumerate(("b.JPG", "deep/a.jpeg", "c.txt", "deep/d.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg(20 + number, 30))
    found = pictures_in(tmp_path)
    assert [path.name for path in found] == ["b.JPG", "a.jpeg", "d.png"]
    assert [size.result() for size in picture_sizes(found)] == [(20, 30), (21, 30), (23, 30)]


def test_a_size_behind_much_else(tmp_path, jpeg):
    data = jpeg(20, 30)
    profile = b"\xff\xe2\xff\xff" + b"\0" * 65533
    (tmp_path / "a.jpg").write_bytes(data[:2] + profile * 2 + data[2:])
    assert (tmp_path / "a.jpg").stat().st_size > 2 * FIRST_BYTES
    assert [size.result() for size in picture_sizes([tmp_path / "a.jpg"])] == [(20, 30)]


def test_what_is_no_picture(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"<html>")
    with pytest.raises(UserError, match="a.jpg: the image file is no JPEG"):
        [size.result() for size in picture_sizes([tmp_path / "a.jpg"])]
    with pytest.raises(UserError, match="b.jpg: cannot read the image: No such file"):
        [size.result() for size in picture_sizes([tmp_path / "b.jpg"])]


def test_root(tmp_path):
    assert existing_root(str(tmp_path), "x") == tmp_path
    with pytest.raises(UserError, match="it must be the folder that holds pictures"):
        existing_root(None, "pictures")
    with pytest.raises(UserError, match="dataset.root nowhere: no such folder; it must hold pictures"):
        existing_root("nowhere", "pictures")
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="is a file; name the folder that holds pictures"):
        existing_root(str(tmp_path / "data.zip"), "pictures", (".yaml",))
    assert existing_root(str(tmp_path / "data.zip"), "pictures", (".zip",)) == tmp_path / "data.zip"
