"""Where things lie in VOC folders of other tools, and which image and annotation belong together."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ssd.data.coverage import (
    BROKEN_LINKS,
    HIDDEN,
    IN_NO_LIST,
    SAME_FILE,
    SECOND_IMAGES,
    TOOL_COPIES,
    UNLISTED,
    Coverage,
)
from ssd.data.datasets import voc_xml
from ssd.data.datasets.voc import VOC
from ssd.data.datasets.voc_folder import ANNOTATION_FOLDERS, IMAGE_FOLDERS, cleaned, read_ids
from ssd.data.datasets.voc_xml import VOCObject
from ssd.utils.errors import UserError

NO_HOLDOUT = {"val": 0, "test": 0, "seed": 0}


@pytest.fixture
def tree(tmp_path, jpeg):
    """tree("Annotations/a.xml images/a.jpg") writes images of 60x40 and annotations of one object; "x=text" a text."""

    def write(*names: str) -> Path:
        for name in " ".join(names).split():
            name, _, text = name.partition("=")
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix.lower() == ".xml":
                path.write_bytes(
                    voc_xml.write(text or f"{path.stem}.jpg", 60, 40, [VOCObject("cat", (2, 3, 20, 30), 0)])
                )
            elif path.suffix.lower() == ".txt":
                path.write_text(text.replace(",", "\n").replace("+", " "))
            else:
                path.write_bytes(jpeg(60, 40, seed=sum(map(ord, name))))
        return tmp_path

    return write


def dataset(root: Path, **options) -> VOC:
    defaults = {
        "name": "test",
        "root": str(root),
        "classes": None,
        "splits": {"train": ["train|trainval"], "val": ["val|test"], "test": ["test|val"]},
        "compat": None,
        "out_of_range": "error",
        "holdout": NO_HOLDOUT,
    }
    return VOC(**{**defaults, **options})


def images(data: VOC, split: str = "train") -> list[str]:
    return [sample.path.relative_to(Path(str(data.root))).as_posix() for sample in data.split(split)]


def ids(data: VOC, split: str = "train") -> list[str]:
    return [sample.id for sample in data.split(split)]


def message_of(data: VOC, split: str = "train") -> str:
    with pytest.raises(UserError) as error:
        data.split(split)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("sets", ["", "ImageSets/Main/", "imagesets/main/", "ImageSets/", "root "])
@pytest.mark.parametrize(
    ("xml", "image"),
    [
        ("Annotations", "JPEGImages"),
        ("Annotations", "images"),  # Label Studio
        ("annotations", "img"),
        ("annots", "Images"),
        ("ANNOTATIONS", "imgs"),
        ("annotations/xmls", "images"),  # Oxford-IIIT Pet
        ("xml", "image"),
        ("labels", "images"),
        ("Annotations", "Annotations"),
        ("Annotations", "."),
        (".", "images"),
        (".", "."),  # LabelImg
    ],
)
def test_folders_of_other_tools(tree, xml, image, sets):
    root = tree(f"{xml}/a.xml {xml}/b.xml {image}/a.jpg {image}/b.PNG")
    if sets:
        tree(f"{sets.removeprefix('root ')}train.txt=a,b")
    data = dataset(root)
    assert data.available == ("train",)
    assert [sample.path.resolve() for sample in data.split("train")] == [
        (root / image / "a.jpg").resolve(),
        (root / image / "b.PNG").resolve(),
    ]
    assert data.coverage("train") == Coverage()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("Annotations/a.xml", "JPEGImages: no such folder; a VOC dataset has Annotations, JPEGImages, ImageSets/Main"),
        ("JPEGImages/a.jpg ImageSets/Main/train.txt=a", "Annotations: no such folder; a VOC dataset has"),
        ("JPEGImages/a.jpg", "Annotations: no such folder; a VOC dataset has"),
        ("notes.txt=x", "Annotations: no such folder"),
        ("kit/Annotations/a.xml kit/JPEGImages/a.jpg kit/ImageSets/Main/train.txt=a", "kit has them: dataset.root="),
        ("Annotations/a.xml JPEGImages/b.jpg", "JPEGImages/a.jpg: no such image, nor with .jpeg, .jpe, .jfif"),
        ("Annotations/a.xml images/a.jpg Images/a.jpg", "has Images and images; keep one of them"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named_in_one_line(tree, names, message):
    assert message in message_of(dataset(tree(names)))


def test_ids_with_folders(tree):
    root = tree("Annotations/cam0/a.xml Annotations/cam1/a.xml JPEGImages/cam0/a.jpg JPEGImages/cam1/a.jpg",
                "ImageSets/Main/train.txt=cam0/a,./JPEGImages/cam1/a.jpg")  # fmt: skip
    data = dataset(root)
    assert ids(data) == ["cam0/a", "cam1/a"]
    assert images(data) == ["JPEGImages/cam0/a.jpg", "JPEGImages/cam1/a.jpg"]
    assert data.coverage("train") == Coverage()


@pytest.mark.parametrize(
    ("names", "found"),
    [
        ("Annotations/a.xml JPEGImages/A.JPG", "JPEGImages/A.JPG"),  # another case
        ("Annotations/a.xml=other.jpg JPEGImages/other.jpg", "JPEGImages/other.jpg"),
        ("Annotations/a.xml=C:\\me\\other.jpg JPEGImages/other.jpg", "JPEGImages/other.jpg"),
        ("Annotations/a.xml=cam/other.jpg JPEGImages/cam/other.jpg", "JPEGImages/cam/other.jpg"),
        ("Annotations/a.xml=x.jpg JPEGImages/cam/a.jpg", "JPEGImages/cam/a.jpg"),
        ("Annotations/cam/a.xml=x.jpg JPEGImages/a.jpg ImageSets/Main/train.txt=cam/a", "JPEGImages/a.jpg"),
        ("Annotations/a.xml=b.jpg JPEGImages/a.jpg JPEGImages/b.jpg", "JPEGImages/a.jpg"),  # the id goes first
        ("Annotations/a.xml JPEGImages/a.jpg JPEGImages/a.png", "JPEGImages/a.jpg"),  # named in the XML
        ("Annotations/a.xml=a.png JPEGImages/a.jpg JPEGImages/a.png", "JPEGImages/a.png"),
        ("Annotations/a.xml=A.PNG JPEGImages/a.jpg JPEGImages/a.png", "JPEGImages/a.png"),
        ("Annotations/a.xml JPEGImages/a.png JPEGImages/A.jpg", "JPEGImages/a.png"),  # exactly the id
        ("Annotations/a.b.xml=a.b.jpg JPEGImages/a.b.jpg JPEGImages/a.jpg", "JPEGImages/a.b.jpg"),
    ],
)
def test_the_image_of_an_annotation(tree, names, found):
    assert images(dataset(tree(names))) == [found]


def test_several_images_of_one_id(tree):
    root = tree("Annotations/a.xml=a JPEGImages/a.jpg JPEGImages/a.png")
    assert message_of(dataset(root)) == (
        f"{root}/Annotations/a.xml: its image may be a.jpg or a.png in {root}/JPEGImages; "
        "name it in <filename> (which is 'a')"
    )
    root = tree("Annotations/a.xml=x.jpg JPEGImages/c/a.jpg JPEGImages/d/a.jpg")
    for name in ("a.jpg", "a.png"):
        (root / "JPEGImages" / name).unlink()
    assert "its image may be c/a.jpg or d/a.jpg in" in message_of(dataset(root))


def test_two_annotations_of_one_image(tree):
    root = tree("Annotations/a.xml Annotations/b.xml=a.jpg JPEGImages/a.jpg")
    assert message_of(dataset(root)) == (
        f"{root}/Annotations/b.xml: its image {root}/JPEGImages/a.jpg is that of {root}/Annotations/a.xml; "
        "one of the two is another image's"
    )


def test_ids_in_another_case(tree):
    root = tree("Annotations/a.xml JPEGImages/a.jpg ImageSets/Main/train.txt=A")
    assert images(dataset(root)) == ["JPEGImages/a.jpg"]
    tree("Annotations/B.xml Annotations/b.xml JPEGImages/B.jpg JPEGImages/b.jpg ImageSets/Main/train.txt=b,B")
    assert images(dataset(root)) == ["JPEGImages/b.jpg", "JPEGImages/B.jpg"]
    tree("Annotations/Cc.xml Annotations/cC.xml ImageSets/Main/train.txt=CC")
    assert message_of(dataset(root)).endswith("CC.xml: no such file, but Cc.xml and cC.xml; which of them is meant?")


def test_ids_that_occur_twice(tree):
    root = tree("Annotations/a.xml Annotations/b.xml JPEGImages/a.jpg JPEGImages/b.jpg",
                "ImageSets/Main/train.txt=a,b,a,A.jpg ImageSets/Main/val.txt=b")  # fmt: skip
    data = dataset(root, splits={"train": ["train", "val"]})
    assert ids(data) == ["a", "b"]
    assert data.coverage("train").skipped == {SAME_FILE: ("Annotations/a.xml", "Annotations/b.xml")}


def test_ids_of_two_folders_of_a_devkit(tree):
    names = "Annotations/a.xml JPEGImages/a.jpg ImageSets/Main/train.txt=a"
    root = tree(*(f"{year}/{name}" for year in ("VOC2007", "2024") for name in names.split()), "2024/Annotations/b.xml",
                "2024/JPEGImages/b.jpg 2024/ImageSets/Main/train.txt=a,b")  # fmt: skip
    data = dataset(root, splits={"train": ["VOC2007/train", "2024/train"]})
    assert ids(data) == ["VOC2007/a", "2024/a", "b"]
    assert images(data) == ["VOC2007/JPEGImages/a.jpg", "2024/JPEGImages/a.jpg", "2024/JPEGImages/b.jpg"]


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["a", "b"], ["a", "b"]),
        (["a.jpg", "b.JPEG"], ["a", "b"]),
        (["a.PNG", "b.bmp", "a.webp"], ["a", "b", "a"]),
        (["a.xml", "./b"], ["a", "b"]),
        (["/home/me/VOC/JPEGImages/a.jpg", "C:\\VOC\\JPEGImages\\b.jpg"], ["a", "b"]),
        (["a  1", "b -1", "my photo  0"], ["a", "my photo"]),  # PASCAL's class lists
        (["a.jpg 1", "b.jpg -1"], ["a"]),
        (["my photo", "a"], ["my photo", "a"]),
        (["my photo.jpg"], ["my photo"]),
        (["shot 1", "shot 0"], ["shot 1", "shot 0"]),  # blanks in ids, not columns
        (["a\t1", "b\t1"], ["a", "b"]),
        (["JPEGImages/a.jpg Annotations/a.xml", "JPEGImages/x.jpg Annotations/b.xml"], ["a", "b"]),  # PaddleDetection
        (["x.jpg"], ["x"]),  # what is not there is kept, so that it is named
        (["x y"], ["x y"]),
        (["v1.2"], ["v1.2"]),
        (["d.jpg"], ["d.jpg"]),
    ],
)
def test_lists(tmp_path, lines, found):
    file = tmp_path / "list.txt"
    for text in ("\n".join(lines), "\r\n\r\n".join(["", *lines, ""])):
        file.write_bytes(text.encode())
        assert read_ids(file, {"a", "b", "my photo", "shot 1", "shot 0", "shot", "d.jpg"}.__contains__) == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the split is empty, it must hold one image id per line"),
        ("a -1\nb -1\n", "the split is empty, every image has -1"),
        ("a 1\nb 7\n", "line 1, 'a 1', has columns; a list holds one id per line, or an id and 1, 0 or -1"),
        ("a 10,10,20,20,0\n", "line 1, 'a 10,10,20,20,0', has columns"),
        ("b\na 1 2\n", "line 2, 'a 1 2', has columns"),
    ],
)
def test_lists_that_cannot_be_read(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(UserError) as error:
        read_ids(tmp_path / "list.txt", {"a", "b"}.__contains__)
    assert message in str(error.value)


NAME = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="/\\."), min_size=1, max_size=8)


@given(st.lists(NAME, min_size=1, max_size=4), st.sampled_from(["", ".jpg", ".JPEG", ".Png", ".bmp", ".webp", ".xml"]))
def test_ids_are_kept_but_for_the_suffix(parts, suffix):
    if not any(part.lower() in IMAGE_FOLDERS + ANNOTATION_FOLDERS for part in parts):
        identifier = "/".join(parts)
        assert cleaned(identifier + suffix) == identifier
        assert cleaned(f"/data/JPEGImages/{identifier}{suffix}") == identifier


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gbk"])
def test_encodings_of_lists(tree, encoding):
    root = tree("Annotations/圆形.xml JPEGImages/圆形.jpg ImageSets/Main/train.txt")
    (root / "ImageSets/Main/train.txt").write_bytes("圆形\r\n".encode(encoding))
    if encoding == "gbk":
        assert message_of(dataset(root)).endswith(
            "train.txt: not a list of image ids (byte 2 is no UTF-8 text); save it as UTF-8"
        )
    else:
        assert ids(dataset(root)) == ["圆形"]


@pytest.mark.parametrize(
    ("train", "val"),
    [
        ("Annotations/train/a.xml JPEGImages/train/a.jpg", "Annotations/val/b.xml JPEGImages/val/b.jpg"),
        ("annotations/train2017/a.xml images/train2017/a.jpg", "annotations/val2017/b.xml images/val2017/b.jpg"),
        ("train/a.xml train/a.jpg", "valid/b.xml valid/b.jpg"),  # Roboflow
        ("Train/Annotations/a.xml Train/images/a.jpg", "Validation/Annotations/b.xml Validation/images/b.jpg"),
        ("Annotations/a.xml Annotations/b.xml images/a.jpg train.txt=a", "images/b.jpg val.txt=b"),
    ],
)
def test_splits_without_image_sets(tree, train, val):
    data = dataset(tree(train, val), holdout={"val": 0.5, "test": 0, "seed": 0})
    assert data.available[:2] == ("train", "val")
    assert [ids(data, split)[0][-1] for split in ("train", "val")] == ["a", "b"]
    assert [len(data.split(split)) for split in ("train", "val")] == [1, 1]
    assert data.coverage("train") == data.coverage("val") == Coverage()


@pytest.mark.parametrize(
    ("names", "folders", "entries"),
    [
        ("Annotations/cam1/a.xml Annotations/cam2/b.xml images/cam1/a.jpg images/cam2/b.jpg",
         "Annotations/cam1, Annotations/cam2", ["Annotations/cam1", "Annotations/cam2"]),
        ("Annotations/train/a.xml Annotations/holdout/b.xml images/train/a.jpg images/holdout/b.jpg",
         "Annotations/holdout (beside Annotations/train)", ["Annotations/train"]),
        ("day1/a.xml day1/a.jpg day2/b.xml day2/b.jpg", "day1, day2", ["day1", "day2"]),
    ],
)  # fmt: skip
def test_folders_of_other_names_are_never_trained_on(tree, names, folders, entries):
    root = tree(names)
    message = message_of(dataset(root))
    assert message.startswith(f"{root}: the folders of images {folders} are not named after a split (train, val, test)")
    assert f"'dataset.splits.train=[{','.join(entries)}]'" in message
    splits = {"train": entries, "val": ["val|test"], "test": ["test|val"]}
    assert len(dataset(root, splits=splits).split("train")) == len(entries)
    if len(entries) > 1:
        data = dataset(root, splits=splits, holdout={"val": 0.5, "test": 0, "seed": 0})
        assert [len(data.split(split)) for split in ("train", "val", "test")] == [1, 1, 1]


def test_annotations_beside_folders_of_splits(tree):
    root = tree("Annotations/a.xml Annotations/val/b.xml images/a.jpg images/val/b.jpg")
    assert message_of(dataset(root)).startswith(
        f"{root}/Annotations/a.xml: lies beside Annotations/val, which are named"
    )


def test_lists_elsewhere(tree):
    root = tree("Annotations/a.xml Annotations/b.xml images/a.jpg images/b.jpg my/lists/train.txt=a my/b.txt=b")
    data = dataset(root, splits={"train": ["my/lists/train.txt"], "val": ["my/b"]})
    assert (ids(data), ids(data, "val")) == (["a"], ["b"])


def test_a_split_that_is_named_and_not_there(tree):
    root = tree("Annotations/cam/a.xml images/cam/a.jpg")
    data = dataset(root, splits={"train": ["Annotations/cam"], "val": ["Annotations/other"]})
    assert message_of(data, "val").endswith(
        "dataset.splits.val is ['Annotations/other'], and there is no such list or folder"
    )


def test_images_and_annotations_without_each_other_are_named(tree):
    root = tree("Annotations/a.xml images/a.jpg images/cam/b.jpg Annotations/c.xml=other.jpg images/other.jpg")
    data = dataset(root)
    assert ids(data) == ["a", "c"]
    assert data.coverage("train") == Coverage(("images/cam/b.jpg",), (), ("Annotations/cam/b.xml",))
    tree("ImageSets/Main/train.txt=a ImageSets/Main/val.txt=a ImageSets/Main/cat_all.txt=c+1,a+-1")
    data = dataset(root)
    assert data.coverage("train") == Coverage(skipped={UNLISTED: ("images/cam/b.jpg",)})
    assert data.coverage("val") == Coverage()
    (root / "ImageSets/Main/cat_all.txt").unlink()
    assert dataset(root).coverage("train").skipped[IN_NO_LIST] == ("images/other.jpg",)
    (root / "images/other.jpg").unlink()
    assert dataset(root).coverage("train").orphans == ("Annotations/c.xml",)


def test_images_beside_the_annotated_ones_are_named(tree):
    root = tree("Annotations/a.xml JPEGImages/a.jpg JPEGImages/a.png JPEGImages/masks/a.png")
    skipped = {SECOND_IMAGES: ("JPEGImages/a.png",)}
    assert dataset(root).coverage("train") == Coverage(
        ("JPEGImages/masks/a.png",), (), ("Annotations/masks/a.xml",), skipped
    )
    tree("ImageSets/Main/train.txt=a")
    assert dataset(root).coverage("train").skipped == {**skipped, UNLISTED: ("JPEGImages/masks/a.png",)}


def test_what_is_left_out_of_a_held_out_split_is_named_once(tree):
    root = tree(*(f"Annotations/{name}.xml images/{name}.jpg" for name in "abcd"), "images/e.jpg")
    data = dataset(root, holdout={"val": 0.5, "test": 0, "seed": 0})
    assert data.coverage("train").unlabeled == ("images/e.jpg",)
    assert data.coverage("val") == data.coverage("test") == Coverage()


def test_hidden_files_copies_of_tools_and_links(tree):
    root = tree("Annotations/a.xml Annotations/._a.xml Annotations/.b.xml images/a.jpg images/@eaDir/a.jpg/SYNO.jpg",
                "images/.c.jpg store/x/d.jpg store/y/d.xml")  # fmt: skip
    (root / "Annotations/cam").symlink_to("../store/y")
    (root / "images/cam").symlink_to("../store/x")
    (root / "images/gone.jpg").symlink_to("/no/such/disk/gone.jpg")
    tree("ImageSets/Main/train.txt=a,cam/d")
    data = dataset(root)
    assert images(data) == ["images/a.jpg", "images/cam/d.jpg"]
    assert data.coverage("train") == Coverage(
        skipped={
            TOOL_COPIES: ("Annotations/._a.xml", "images/@eaDir"),
            HIDDEN: ("Annotations/.b.xml", "images/.c.jpg"),
            BROKEN_LINKS: ("images/gone.jpg",),
        }
    )


def test_objects_that_cannot_be_read_are_not_called_missing(tree):
    root = tree("Annotations/a.xml images/a.jpg")
    text = (root / "Annotations/a.xml").read_text()
    (root / "Annotations/a.xml").write_text(text.replace("<difficult>0<", "<difficult>perhaps<"))
    assert message_of(dataset(root)).endswith("a.xml: object 1 (cat): <difficult> is 'perhaps', it must be 0 or 1")
