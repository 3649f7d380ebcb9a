import json
import time
import tracemalloc

import numpy as np
import pytest

from ssd.data.coverage import UNLISTED
from ssd.data.datasets import coco_json
from ssd.data.datasets.coco import COCO
from ssd.data.inspection.problems import WARNING, collecting
from ssd.evaluation import evaluate_coco, evaluate_voc
from ssd.utils.errors import UserError

WHOLE = {
    "info": {"year": 2017},
    "licenses": [],
    "images": [
        {"id": 9, "file_name": "a.jpg", "width": 60, "height": 40, "license": 1},
        {"id": 5, "file_name": "sub/b.jpg", "width": 60, "height": 40},
    ],
    "annotations": [
        {
            "id": 1,
            "image_id": 9,
            "category_id": 90,
            "bbox": [1.5, 2, 10, 20.25],
            "iscrowd": 0,
            "segmentation": [[1, 2]],
        },
        {"id": 2, "image_id": 9, "category_id": 4, "bbox": [0, 0, 60, 40], "iscrowd": 1},
        {"id": 3, "image_id": 9, "category_id": 1, "bbox": [5, 5, 0, 7]},
    ],
    "categories": [
        {"id": 90, "name": "tv", "supercategory": "electronic"},
        {"id": 1, "name": "person"},
        {"id": 4, "name": "motorcycle"},
    ],
}


@pytest.fixture
def folder(tmp_path, jpeg):
    for number, name in enumerate(("a.jpg", "sub/b.jpg", "val.jpg")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(60, 40, seed=number))
    (tmp_path / "train.json").write_text(json.dumps(WHOLE))
    return tmp_path


def dataset(folder, **options) -> COCO:
    defaults = {
        "root": str(folder),
        "classes": None,
        "splits": {"train": {"annotations": "train.json", "images": "photos"}, "val": None, "test": None},
        "out_of_range": "error",
        "holdout": {"val": 0.5, "test": 0.0, "seed": 0},
    }
    return COCO(**{**defaults, **options})


def test_ids_become_classes_in_their_order(folder, caplog):
    coco = dataset(folder, splits={"train": {"annotations": "train.json", "images": "photos"},
                                   "val": [{"annotations": "train.json", "images": "photos"}]})  # fmt: skip
    assert coco.classes == ("person", "motorcycle", "tv")
    assert coco.category_ids == (1, 4, 90)
    first, second = coco.split("train")
    assert (first.id, first.path, first.width, first.height) == ("a", folder / "photos/a.jpg", 60, 40)
    np.testing.assert_array_equal(first.boxes, [[2, 1.5, 2, 11.5, 22.25, 0]])
    np.testing.assert_array_equal(first.crowds, [[1, 0, 0, 60, 40, 0]])
    assert second.path == folder / "photos/sub/b.jpg"
    assert (len(second.boxes), len(second.crowds)) == (0, 0)
    assert "image 9 (a.jpg): object 3, box (5, 5, 5, 12), has no area" in caplog.text


def test_given_classes_by_either_spelling(folder):
    coco = dataset(folder, classes=["tvmonitor", "motorbike", "person"])
    assert coco.classes == ("tvmonitor", "motorbike", "person")
    assert coco.category_ids == (90, 4, 1)
    rows = np.concatenate([sample.ground_truth() for split in ("train", "val") for sample in coco.split(split)])
    assert rows[:, [0, 6]].tolist() == [[0, 0], [1, 1]]
    splits = {name: {"annotations": "train.json", "images": "photos"} for name in ("train", "val")}
    with pytest.raises(UserError, match=r"image 9 \(a.jpg\): class 'tv' is not in dataset.classes"):
        dataset(folder, classes=["motorbike", "person"], splits=splits).split("train")
    # A class that the file does not have gets a number that nothing in it has.
    assert dataset(folder, classes=["tv", "motorbike", "person", "wolf"]).category_ids == (90, 4, 1, 91)


def test_a_split_is_held_out_where_there_is_none(folder):
    coco = dataset(folder)
    assert coco.available == ("train", "val")
    assert sorted(item.id for split in ("train", "val") for item in coco.split(split)) == ["a", "b"]


def test_several_files_make_a_split(folder):
    other = {**WHOLE, "images": [{"id": 1, "file_name": "val.jpg", "width": 60, "height": 40}], "annotations": []}
    (folder / "more.json").write_text(json.dumps(other))
    sources = [{"annotations": name, "images": "photos"} for name in ("train.json", "more.json")]
    samples = dataset(folder, splits={"train": sources, "val": sources[1]}).split("train")
    assert [sample.id for sample in samples] == ["a", "b", "val"]


def test_a_detection_in_a_crowd_counts_neither_way(folder):
    samples = dataset(folder, holdout={"val": 0, "test": 0, "seed": 0})
    truth = [sample.ground_truth() for sample in samples.split("train")]
    found = [
        np.array([[2, 0.8, 1.5, 2, 11.5, 22.25], [1, 0.9, 0, 0, 60, 40], [1, 0.85, 0, 0, 58, 40]]),
        np.zeros((0, 6)),
    ]
    voc = evaluate_voc(truth, found, 3)
    assert voc["map_area"] == 1.0
    assert voc["false_positives"].tolist() == [0, 0, 0]
    assert voc["positives"].tolist() == [0, 0, 1]
    assert evaluate_coco(truth, found, 3)["AP"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda node: node.pop("images"), "has no list 'images'"),
        (lambda node: node.update(images={}), "expected one of ["),
        (lambda node: node["images"][0].pop("width"), "images[0]: width is 'None', it must be a whole number"),
        (lambda node: node["images"][0].update(width=0), "images[0]: the image is said to be 0x40"),
        (lambda node: node["images"][1].update(id=9), "images[1]: image id 9 is used twice"),
        (lambda node: node["images"].append([1]), "images[2] is no object"),
        (lambda node: node["annotations"][0].update(bbox=[1, 2, 3]), "annotations[0]: bbox must be four numbers"),
        (lambda node: node["annotations"][1].update(bbox=[1, 2, 3, float("nan")]), "annotations[1]: bbox must be"),
        (lambda node: node["annotations"][0].update(bbox=[1, 2, 3, 10**400]), "annotations[0]: bbox must be"),
        (lambda node: node["annotations"][0].update(bbox=[1, 2, 3, "4 px"]), "annotations[0]: bbox must be"),
        (lambda node: node["annotations"][0].update(bbox=[]), "annotations[0]: has a segmentation but no bbox"),
        (lambda node: node["annotations"][0].pop("bbox"), "annotations[0]: has a segmentation but no bbox"),
        (lambda node: node["annotations"][1].pop("bbox"), "annotations[1]: bbox must be four numbers"),
        (lambda node: node["annotations"][1].update(iscrowd="maybe"), "annotations[1]: iscrowd is 'maybe', it must be"),
        (lambda node: node["annotations"][1].update(iscrowd=2), "annotations[1]: iscrowd is '2', it must be 0 or 1"),
        (lambda node: node["annotations"][1].update(iscrowd=[0]), "annotations[1]: iscrowd is '[0]', it must be"),
        (lambda node: node["annotations"][2].update(image_id=9.5), "image_id is '9.5', it must be a whole number or"),
        (lambda node: node["images"][1].update(id="9"), "images[1]: image id 9 is used twice, for a.jpg and sub/b.jpg"),
        (lambda node: node["annotations"][2].update(category_id=2), "annotations[2]: category id 2 is not in cate"),
        (lambda node: node["annotations"][2].update(category_id=True), "category_id is 'True'"),
        (lambda node: node["categories"][0].update(name=" "), "categories[0]: name must be a text"),
        (
            lambda node: node["categories"][0].update(name="person"),
            "categories 1 and 90 are both named 'person': rename",
        ),
        (
            lambda node: node["categories"][0].update(id=1),
            "categories[1]: category id 1 is used twice, for 'tv' and 'p",
        ),
        (lambda node: node["categories"][0].update(name="a\nb"), "name 'a\\nb' holds a line break"),
    ],
)
def test_bad_entries_are_named(change, message):
    node = json.loads(json.dumps(WHOLE))
    change(node)
    error = first_error(json.dumps(node))
    assert message in error
    assert error.startswith("x.json: ")
    assert "\n" not in error


def first_error(text: str) -> str:
    try:
        broken = coco_json.parse(text, "x.json").broken
    except UserError as error:
        return str(error)
    return str(next(iter(broken.values()))[0][1])


SPELLINGS = {
    "as it is": "sub/b.jpg",
    "from the folder itself": "./sub/b.jpg",
    "backslashes": "sub\\b.jpg",
    "of another machine": "/home/anna/photos/sub/b.jpg",
    "of Windows": "C:\\photos\\sub\\b.jpg",
    "a URL": "https://host.example/my%20data/sub/b.jpg?size=1",
    "with the folder of images": "photos/sub/b.jpg",
    "there and back": "sub/../sub/b.jpg",
    "capitals": "sub/B.JPG",
    "no suffix": "sub/b",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_names_of_files_in_any_spelling(folder, spelling):
    node = {**WHOLE, "images": [WHOLE["images"][0], {**WHOLE["images"][1], "file_name": SPELLINGS[spelling]}]}
    (folder / "train.json").write_text(json.dumps(node))
    samples = dataset(folder, holdout={"val": 0, "test": 0, "seed": 0}).split("train")
    assert samples[1].path == folder / "photos/sub/b.jpg"
    assert samples[1].image_id == 5


def test_images_that_are_not_there_and_one_file_twice(folder):
    def read(first: str, second: str) -> list:
        images = [{**WHOLE["images"][0], "file_name": first}, {**WHOLE["images"][1], "file_name": second}]
        (folder / "train.json").write_text(json.dumps({**WHOLE, "images": images}))
        return dataset(folder, holdout={"val": 0, "test": 0, "seed": 0}).split("train")

    with pytest.raises(UserError, match=r"train.json: image 9 \(a.png\): .*/photos/a.png: no such image, but a.jpg$"):
        read("a.png", "val.jpg")
    with pytest.raises(UserError, match=r"images 9 \(a.jpg\) and 5 \(x/a.jpg\) are one file; give all"):
        read("a.jpg", "x/a.jpg")
    # Two files of one name in two folders are two images, each with an id of its own.
    (folder / "photos/sub/a.jpg").write_bytes((folder / "photos/a.jpg").read_bytes())
    assert [sample.id for sample in read("a.jpg", "sub/a.jpg")] == ["a", "sub/a"]
    with pytest.raises(UserError, match="no such image; .*/nowhere is no folder"):
        dataset(folder, splits={"train": {"annotations": "train.json", "images": "nowhere"}}).split("train")
    with collecting() as problems:  # neither of the two has all objects of the image
        assert not read("a.jpg", "x/a.jpg")
    assert len(problems) == 2
    with collecting() as problems:
        read("gone.jpg", "sub/b.jpg")
    assert [(problem.kind, problem.what[:19]) for problem in problems] == [("unusable", "image 9 (gone.jpg):")]


def test_an_image_in_two_files_of_a_split_is_refused(folder):
    (folder / "more.json").write_text(json.dumps(WHOLE))
    sources = [{"annotations": name, "images": "photos"} for name in ("train.json", "more.json")]
    with pytest.raises(UserError, match=r"more.json: image 9 \(a.jpg\) is image 9 of train.json, too; join"):
        dataset(folder, splits={"train": sources, "val": sources[0]}).split("train")


def test_an_annotation_that_cannot_be_used_leaves_out_itself_or_its_image(folder):
    node = json.loads(json.dumps(WHOLE))
    node["annotations"][0]["bbox"] = None
    (folder / "train.json").write_text(json.dumps(node))
    for whole, left in ((False, ["a", "b"]), (True, ["b"])):
        with collecting(whole) as problems:
            samples = dataset(folder, holdout={"val": 0, "test": 0, "seed": 0}).split("train")
        assert [sample.id for sample in samples] == left
        first = problems[0]
        assert (first.kind, first.object, first.file) == ("object", 1, str(folder / "train.json"))
        assert first.line.startswith(f"{folder}/train.json: annotations[0]: has a segmentation but no bbox; write")


def test_annotations_of_images_that_are_not_listed_are_named(folder):
    node = {**WHOLE, "annotations": [*WHOLE["annotations"], {**WHOLE["annotations"][0], "image_id": 7}]}
    (folder / "train.json").write_text(json.dumps(node))
    coco = dataset(folder, holdout={"val": 0, "test": 0, "seed": 0})
    assert [len(sample.annotated) for sample in coco.split("train")] == [3, 0]
    assert coco.coverage("train").orphans == ("train.json: annotations[3] of image id 7",)


def test_images_that_no_file_lists_are_named(folder, jpeg):
    (folder / "photos/.hidden.jpg").write_bytes(b"")
    (folder / "photos/sub/new.PNG").write_bytes(b"")
    coco = dataset(folder)
    assert coco.coverage("train").skipped == {UNLISTED: ("photos/sub/new.PNG", "photos/val.jpg")}
    assert coco.coverage("val").skipped == {}


@pytest.mark.parametrize("value", ["0", "false", "0.0", "", False, 0.0, None, "False", " 0 "])
def test_flags_written_as_words_are_none(value):
    node = json.loads(json.dumps(WHOLE))
    node["annotations"][1]["iscrowd"] = value
    assert [box.crowd for box in coco_json.parse(json.dumps(node), "x").boxes[9]] == [0, 0, 0]


@pytest.mark.parametrize("value", ["1", "true", True, 1.0, "1.0", "TRUE"])
def test_flags_written_as_words_are_meant(value):
    node = json.loads(json.dumps(WHOLE))
    node["annotations"][0]["iscrowd"] = value
    assert [box.crowd for box in coco_json.parse(json.dumps(node), "x").boxes[9]] == [1, 1, 0]


def test_numbers_written_as_text_are_read_and_ids_kept():
    node = json.loads(json.dumps(WHOLE))
    node["images"][0].update(id="9", width="60", height=40.0)
    node["images"][1].update(id="left-5")
    node["annotations"][0].update(bbox=["1.5", 2, "10", 20.25], category_id="90", area="7.5")
    node["annotations"][1].update(image_id="9", category_id=4.0)
    node["annotations"][2].update(image_id="left-5")
    node["categories"][0].update(id="90")
    found = coco_json.parse(json.dumps(node), "x")
    assert [image.id for image in found.images] == ["9", "left-5"]
    assert (found.images[0].width, found.images[0].height) == (60, 40)
    assert found.boxes["9"][0] == (90, 1.5, 2, 10, 20.25, 7.5, 0, 0)
    assert found.boxes["left-5"][0].category == 1
    assert found.raw == {90: "90", 1: 1, 4: 4}


def test_a_file_says_that_ids_of_annotations_are_used_twice(caplog):
    node = json.loads(json.dumps(WHOLE))
    node["annotations"][1]["id"] = 1
    with collecting() as problems:
        coco_json.parse(json.dumps(node), "x.json")
    assert "x.json: 1 ids of annotations are used twice, such as 1" in caplog.text
    assert [(problem.kind, problem.severity) for problem in problems] == [("double", WARNING)]


ROOTS = {
    "named as the dataset": ([(0, "shapes", "none"), (1, "cat", "shapes"), (2, "dog", "shapes")], ["cat", "dog"]),
    "named as a class": ([(0, "cat", "none"), (1, "cat", "cat"), (2, "dog", "cat")], ["cat", "dog"]),
    "two of one name, one of them used": ([(1, "cat", "x"), (2, "dog", "x"), (7, "cat", "x")], ["cat", "dog"]),
    "without annotations, and nobody's root": (
        [(1, "cat", "x"), (2, "dog", "x"), (3, "x y", "x")],
        ["cat", "dog", "x y"],
    ),
    "a class that others are below of": ([(1, "cat", "none"), (2, "dog", "cat")], ["cat", "dog"]),
}


@pytest.mark.parametrize("case", ROOTS)
@pytest.mark.parametrize("used", [(1, 2), (1,)])
def test_a_root_category_is_no_class(folder, case, used):
    categories, expected = ROOTS[case]
    rows = [{"id": n, "image_id": 9, "category_id": n, "bbox": [1, 1, 9, 9], "iscrowd": 0} for n in used]
    named = [{"id": number, "name": name, "supercategory": above} for number, name, above in categories]
    text = json.dumps({**WHOLE, "categories": named, "annotations": rows})
    (folder / "train.json").write_text(text)
    coco = dataset(folder)
    assert coco.classes == tuple(expected)
    assert coco.category_ids == (1, 2, 3)[: len(expected)]
    assert coco.split_category_ids("train") == coco.category_ids


def test_a_category_is_a_class_when_another_file_has_objects_of_it(folder):
    categories = [
        {"id": 5, "name": "vehicle", "supercategory": "none"},
        {"id": 6, "name": "car", "supercategory": "vehicle"},
    ]
    rows = [{"id": 1, "image_id": 9, "category_id": 6, "bbox": [1, 1, 9, 9]}]
    (folder / "train.json").write_text(json.dumps({**WHOLE, "categories": categories, "annotations": rows}))
    rows[0]["category_id"] = 5
    (folder / "val.json").write_text(json.dumps({**WHOLE, "categories": categories, "annotations": rows}))
    splits = {name: {"annotations": f"{name}.json", "images": "photos"} for name in ("train", "val")}
    coco = dataset(folder, splits=splits)
    assert coco.classes == ("vehicle", "car")
    assert coco.split("val")[0].boxes[0, 0] == 0


def test_each_split_has_the_numbers_of_its_own_file(folder):
    other = json.loads(
        json.dumps(WHOLE)
        .replace('"category_id": 1,', '"category_id": 12,')
        .replace('{"id": 1, "name"', '{"id": 12, "name"')
    )
    (folder / "val.json").write_text(json.dumps(other))
    train, val = ({"annotations": f"{name}.json", "images": "photos"} for name in ("train", "val"))
    coco = dataset(folder, splits={"train": train, "val": val, "test": [train, val]})
    assert coco.classes == ("person", "motorcycle", "tv")
    assert coco.category_ids == coco.split_category_ids("train") == (1, 4, 90)
    assert coco.split_category_ids("val") == (12, 4, 90)
    assert coco.split_category_ids("test") is None


def test_samples_keep_what_the_file_says(folder):
    first, second = dataset(folder, holdout={"val": 0, "test": 0, "seed": 0}).split("train")
    assert (first.image_id, second.image_id) == (9, 5)
    expected = [[2, 1.5, 2, 10, 20.25, 202.5, 0], [1, 0, 0, 60, 40, 2400, 1], [0, 5, 5, 0, 7, 0, 0]]
    np.testing.assert_array_equal(first.annotated, expected)
    assert second.annotated.shape == (0, 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "x.json: not JSON at line 1, character 0 (it ends too early)"),
        ("[]", "expected one of {"),
        ("{}", "has no list 'images'"),
        ('{"images": [], "annotations": [], "categories": []} x', "something follows the end"),
        ('{"images": [\n{"id": 1,}]}', "not JSON at line 2"),
        ('{"images": [{}', "images[0]"),
        ('{"info": ' + "[" * 100_000, "not JSON at line 1"),
        ('{"info": ' + "9" * 5000 + "}", "not JSON at line 1"),
        ("{1: []}", "expected a name in quotes"),
    ],
)
def test_what_is_no_json(text, message):
    with pytest.raises(UserError) as error:
        coco_json.parse(text, "x.json")
    assert message in str(error.value)


def test_file_errors(folder, monkeypatch):
    with pytest.raises(UserError, match="nothing.json: cannot read a COCO instances file: No such file"):
        coco_json.read(folder / "nothing.json")
    monkeypatch.setattr(coco_json, "MAX_BYTES", 100)
    with pytest.raises(UserError, match="train.json: more than 0.0001 MB are too many for a COCO instances file"):
        coco_json.read(folder / "train.json")
    with pytest.raises(UserError, match="dataset.root is not set"):
        dataset(folder, root=None).split("train")
    with pytest.raises(UserError, match="dataset.splits.train must be"):
        dataset(folder, splits={"train": {"annotation": "x"}})
    with pytest.raises(UserError, match="dataset.splits.train is not set"):
        dataset(folder, splits={"val": {"annotations": "train.json"}}).split("train")


def test_a_large_file_takes_bounded_time_and_memory():
    """Three quarters of it masks, as in the real files; they never exist as objects all at once."""
    masks = ", ".join(["123.45"] * 300)
    rows = ",\n".join(
        f'{{"segmentation": [[{masks}]], "image_id": 1, "bbox": [1, 2, 3, 4], "category_id": 1, "id": {number}}}'
        for number in range(2_000)
    )
    text = f'{{"annotations": [{rows}], "images": [{{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}}], '
    text += '"categories": [{"id": 1, "name": "x"}]}'
    started = time.process_time()
    instances = coco_json.parse(text, "x")
    seconds = time.process_time() - started
    tracemalloc.start()
    coco_json.parse(text, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(instances.boxes[1]) == 2_000
    assert len(text) > 4e6
    assert peak < len(text) / 3
    assert seconds < 60  # of the processor; with a pattern that backtracks it would be hours
