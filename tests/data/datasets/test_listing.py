import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.coverage import BROKEN_LINKS, HIDDEN, LOOPS, LOST_LINKS, TOOL_COPIES, UNREAD_FORMATS
from ssd.data.datasets.listing import (
    existing_root,
    files_below,
    find_folder,
    image_sizes,
    images_in,
    merged,
    passed_over,
    subfolders,
)
from ssd.data.headers import FIRST_BYTES
from ssd.utils.atomic_files import read_text
from ssd.utils.errors import UserError


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def below(folder: Path) -> tuple[list[str], dict[str, list[str]]]:
    listing = files_below(folder)
    names = [path.relative_to(folder).as_posix() for path in listing.files]
    skipped = {
        reason: sorted(path.relative_to(folder).as_posix() for path in paths)
        for reason, paths in listing.skipped.items()
    }
    return names, skipped


@pytest.mark.parametrize(
    ("name", "reason", "named"),
    [
        (".a.jpg", HIDDEN, ".a.jpg"),
        (".cache/a.jpg", HIDDEN, ".cache"),
        (".thumbnails/a.jpg", HIDDEN, ".thumbnails"),
        ("._a.jpg", TOOL_COPIES, "._a.jpg"),
        ("._a.txt", TOOL_COPIES, "._a.txt"),
        ("._a.xml", TOOL_COPIES, "._a.xml"),
        ("@eaDir/a.jpg/SYNOPHOTO_THUMB_M.jpg", TOOL_COPIES, "@eaDir"),
        (".ipynb_checkpoints/a-checkpoint.jpg", TOOL_COPIES, ".ipynb_checkpoints"),
        ("__MACOSX/._a.jpg", TOOL_COPIES, "__MACOSX"),
        ("deep/.AppleDouble/a.jpg", TOOL_COPIES, "deep/.AppleDouble"),
        ("$RECYCLE.BIN/a.jpg", TOOL_COPIES, "$RECYCLE.BIN"),
        (".@__thumb/a.jpg", HIDDEN, ".@__thumb"),
        ("@__thumb/a.jpg", TOOL_COPIES, "@__thumb"),
        ("b.HEIC", UNREAD_FORMATS, "b.HEIC"),
        ("deep/b.tiff", UNREAD_FORMATS, "deep/b.tiff"),
    ],
)
def test_what_is_passed_over_is_named(tmp_path, name, reason, named):
    put(tmp_path, "a.jpg", name)
    assert below(tmp_path) == (["a.jpg"], {reason: [named]})


def test_hidden_files_that_could_not_count_are_not_worth_a_line(tmp_path):
    put(tmp_path, "a.jpg", ".DS_Store", ".gitkeep", "Thumbs.db")
    assert below(tmp_path) == (["Thumbs.db", "a.jpg"], {})


def test_the_folder_itself_may_be_hidden(tmp_path):
    put(tmp_path / ".data/@eaDir", "a.jpg")
    assert below(tmp_path / ".data/@eaDir") == (["a.jpg"], {})


def test_links_are_followed(tmp_path):
    put(tmp_path, "store/a.jpg", "store/deep/b.jpg", "c.jpg")
    (tmp_path / "data").mkdir()
    (tmp_path / "data/cam").symlink_to("../store")
    (tmp_path / "data/d.jpg").symlink_to(tmp_path / "c.jpg")
    assert below(tmp_path / "data") == (["cam/a.jpg", "cam/deep/b.jpg", "d.jpg"], {})
    real = os.path.realpath(tmp_path)
    assert list(files_below(tmp_path / "data").files.values()) == [
        f"{real}/store/a.jpg",
        f"{real}/store/deep/b.jpg",
        f"{real}/c.jpg",
    ]


def test_links_that_lead_nowhere_or_in_a_circle(tmp_path):
    put(tmp_path, "deep/a.jpg")
    (tmp_path / "deep/gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "gone").symlink_to("/no/such/disk")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "deep/up").symlink_to("..")
    skipped = {BROKEN_LINKS: ["deep/gone.jpg", "gone", "self"], LOOPS: ["deep/up"]}
    assert below(tmp_path) == (["deep/a.jpg"], skipped)


def test_links_that_became_text_files(tmp_path):
    put(tmp_path, "store/a.jpg", "data/b.jpg", "data/README")
    (tmp_path / "data/cam").write_text("../store\n")
    (tmp_path / "data/empty").write_text("")
    assert below(tmp_path / "data") == (["README", "b.jpg", "empty"], {LOST_LINKS: ["cam"]})


def test_a_folder_that_cannot_be_listed(tmp_path):
    put(tmp_path, "a.jpg")
    with pytest.raises(UserError, match=r"a.jpg: cannot list the folder: Not a directory"):
        files_below(tmp_path / "a.jpg")


def test_folders_in_any_case(tmp_path):
    put(tmp_path, "Images/a", "img/a", ".git/a", "file")
    assert [path.name for path in subfolders(tmp_path)] == ["Images", "img"]
    assert find_folder(tmp_path, ["images", "img"]) == tmp_path / "Images"
    assert find_folder(tmp_path, ["img", "images"]) == tmp_path / "img"
    assert find_folder(tmp_path, ["labels"]) is None
    assert find_folder(tmp_path / "nowhere", ["labels"]) is None
    put(tmp_path, "images/a")
    with pytest.raises(UserError, match="has Images and images; keep one of them"):
        find_folder(tmp_path, ["images"])


@given(st.text(min_size=1, max_size=12))
def test_no_usual_name_is_passed_over(name):
    usual = name[0] not in "._@#$" and not name.lower().startswith(("lost", "system"))
    assert not (usual and passed_over(name))


def test_reasons_of_several_listings():
    a, b = Path("a"), Path("b")
    assert merged([{HIDDEN: [b, a]}, {}, {HIDDEN: [a], LOOPS: [a]}]) == {HIDDEN: [a, b], LOOPS: [a]}


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


def test_images_below_a_folder_and_their_sizes(tmp_path, jpeg):
    for number, name in enumerate(("b.JPG", "deep/a.jpeg", "c.txt", "deep/d.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(jpeg(20 + number, 30))
    found = images_in(tmp_path)
    assert [path.name for path in found] == ["b.JPG", "a.jpeg", "d.png"]
    assert [size.result() for size in image_sizes(found)] == [(20, 30), (21, 30), (23, 30)]


def test_a_size_behind_much_else(tmp_path, jpeg):
    data = jpeg(20, 30)
    profile = b"\xff\xe2\xff\xff" + b"\0" * 65533
    (tmp_path / "a.jpg").write_bytes(data[:2] + profile * 2 + data[2:])
    assert (tmp_path / "a.jpg").stat().st_size > 2 * FIRST_BYTES
    assert [size.result() for size in image_sizes([tmp_path / "a.jpg"])] == [(20, 30)]


def test_what_is_no_image(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"<html>")
    with pytest.raises(UserError, match="a.jpg: the image file is no JPEG"):
        [size.result() for size in image_sizes([tmp_path / "a.jpg"])]
    with pytest.raises(UserError, match="b.jpg: cannot read the image: No such file"):
        [size.result() for size in image_sizes([tmp_path / "b.jpg"])]


def test_root(tmp_path):
    assert existing_root(str(tmp_path), "x") == tmp_path
    with pytest.raises(UserError, match="it must be the folder that holds images"):
        existing_root(None, "images")
    with pytest.raises(UserError, match="dataset.root nowhere: no such folder; it must hold images"):
        existing_root("nowhere", "images")
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="is a file; name the folder that holds images"):
        existing_root(str(tmp_path / "data.zip"), "images", (".yaml",))
    assert existing_root(str(tmp_path / "data.zip"), "images", (".zip",)) == tmp_path / "data.zip"
