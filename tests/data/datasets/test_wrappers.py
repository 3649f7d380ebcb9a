from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from ssd.data.base import Dataset, Sample
from ssd.data.coverage import OTHER_CLASSES
from ssd.data.datasets.build import make_dataset
from ssd.utils.errors import UserError


class Fixed(Dataset):
    """Images with given class names as objects; "crowd dog" is a crowd."""

    def __init__(
        self,
        classes: list[str] | None,
        images: Mapping[str, list[list[str]]],
        found: list[str],
        image_ids: list | None = None,
    ) -> None:
        self.image_ids = image_ids
        self.classes = tuple(classes or found)
        self.images = images
        self.available = tuple(images)
        if "dog" in found:
            self.category_ids = tuple(10 * (found.index(name) + 1) if name in found else 99 for name in self.classes)

    def split(self, name: str) -> list[Sample]:
        samples = []
        for number, objects in enumerate(self.images[name]):
            parts: tuple[list, list] = ([], [])
            for item in objects:
                label = self.classes.index(item.removeprefix("crowd "))
                parts[item.startswith("crowd ")].append([label, 0, 0, 5, 5, 0])
            boxes, crowds = (np.array(rows, np.float32).reshape(-1, 6) for rows in parts)
            rows = np.column_stack([boxes[:, 0], np.tile([0, 0, 5, 5, 25, 0], (len(boxes), 1))])
            ids = {"image_id": self.image_ids[number], "annotated": rows} if self.image_ids else {}
            samples.append(Sample(f"{name}{number}", Path(f"{number}.jpg"), 10, 10, boxes, crowds, **ids))
        return samples


def node(images=None, found=("bird", "cat", "dog"), **keys) -> dict:
    default = {"train": [["dog", "cat"], ["bird"], [], ["cat", "crowd dog"], ["bird", "crowd dog"]], "val": [["dog"]]}
    target = {"_target_": f"{__name__}.Fixed", "classes": None, "images": images or default, "found": list(found)}
    return {**target, **keys}


def labels(samples) -> list[list[int]]:
    return [sample.boxes[:, 0].astype(int).tolist() for sample in samples]


def test_a_part_of_the_classes_in_an_order_of_ones_own():
    dataset = make_dataset(node(classes=["dog", "cat"], unknown_classes="drop"))
    assert dataset.classes == ("dog", "cat")
    assert dataset.category_ids == (30, 20)
    samples = dataset.split("train")
    # The image with a bird is gone, the one that never showed anything stays.
    assert [sample.id for sample in samples] == ["train0", "train2", "train3"]
    assert labels(samples) == [[0, 1], [], [1]]
    assert samples[2].crowds[:, 0].tolist() == [0]
    # Nor is it gone without a word.
    assert dataset.coverage("train").skipped == {OTHER_CLASSES: ("1.jpg", "4.jpg")}
    assert dataset.coverage("val").skipped == {}


def test_images_that_become_empty_can_stay():
    dataset = make_dataset(node(classes=["dog"], unknown_classes="drop", keep_empty=True))
    samples = dataset.split("train")
    assert labels(samples) == [[0], [], [], [], []]
    assert [len(sample.crowds) for sample in samples] == [0, 0, 0, 1, 1]


def test_classes_go_by_vocs_and_cocos_names():
    images = {"train": [["motorcycle"], ["couch"], ["tv"]]}
    found = ["couch", "motorcycle", "tv"]
    dataset = make_dataset(node(images, found, classes=["motorbike", "sofa"], unknown_classes="drop"))
    assert dataset.classes == ("motorbike", "sofa")
    assert labels(dataset.split("train")) == [[0], [1]]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["dog", "wolf"], "must hold different ones of the classes there are: bird, cat, dog"),
        (["dog", " dog"], "dataset.classes: names must be different: 'dog' occurs twice"),
    ],
)
def test_classes_that_are_not_there(classes, message):
    with pytest.raises(UserError, match=message):
        make_dataset(node(classes=classes, unknown_classes="drop"))


def test_a_split_without_any_of_them():
    with pytest.raises(UserError, match="the val split has no image with any of bird"):
        make_dataset(node(classes=["bird"], unknown_classes="drop")).split("val")


def test_fewer_images_are_spread_over_the_split():
    dataset = make_dataset(node({"train": [["dog"]] * 10}, max_images=4))
    assert [sample.id for sample in dataset.split("train")] == ["train0", "train2", "train5", "train7"]
    assert len(make_dataset(node(max_images=100)).split("train")) == 5
    assert dataset.category_ids == (10, 20, 30)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"unknown_classes": "ignore"}, "dataset.unknown_classes=ignore"),
        ({"max_images": 0}, "dataset.max_images=0"),
        ({"max_images": 2.5}, "dataset.max_images=2.5"),
        ({"download": True}, "names no archives"),
    ],
)
def test_wrong_common_keys(keys, message):
    with pytest.raises(UserError, match=message):
        make_dataset(node(**keys))


def concat(parts, **keys):
    holdout = {"val": 0.2, "test": 0, "seed": 0}
    return make_dataset(
        {"_target_": "ssd.data.datasets.concat.Concat", "classes": None, "parts": parts, "holdout": holdout, **keys}
    )


def test_joined_datasets_share_classes_by_name():
    voc = node({"train": [["motorbike", "cat"]], "test": [["cat"]]}, ["cat", "motorbike"])
    coco = node({"train": [["dog", "motorcycle"], ["cat"]], "val": [["dog"]]}, ["motorcycle", "cat", "dog"])
    for parts in ([voc, coco], {"a": voc, "b": coco}):
        dataset = concat(parts)
        assert dataset.classes == ("cat", "motorbike", "dog")
        assert labels(dataset.split("train")) == [[1, 0], [2, 1], [0]]
        assert dataset.available == ("train", "val", "test")
        assert labels(dataset.split("val")) == [[2]]
        assert dataset.category_ids == (20, 10, 30)


def test_joined_with_given_classes_and_parts_of_parts():
    first = node({"train": [["cat", "dog"]]}, ["cat", "dog"])
    second = node({"train": [["cow", "dog"], ["cow"]]}, ["cow", "dog"], classes=["dog"], unknown_classes="drop")
    dataset = concat([first, second], classes=["dog", "cat"])
    assert labels(dataset.split("train")) == [[1, 0], [0]]
    dropped = concat([first, second], classes=["dog"], unknown_classes="drop")
    assert labels(dropped.split("train")) == [[0], [0]]
    nested = concat([concat_node([first]), second])
    assert nested.classes == ("cat", "dog")


def test_ids_that_two_parts_have_are_told_apart():
    first, second = node({"train": [["cat"], ["cat"]]}, ["cat"]), node({"train": [["cat"]]}, ["cat"])
    for parts, names in (({"a": first, "b": second}, "ab"), ([first, second], "12")):
        ids = [sample.id for sample in concat(parts).split("train")]
        assert ids == [f"{names[0]}/train0", "train1", f"{names[1]}/train0"]


def numbered(ids: list, **keys) -> dict:
    return {**node({"train": [["cat"]] * len(ids), "val": [["cat"]]}, ["cat", "dog"], **keys), "image_ids": ids}


def test_ids_of_files_and_objects_as_they_are_written_come_through():
    options = {"classes": ["dog", "cat"], "unknown_classes": "drop", "max_images": 1}
    sample = make_dataset(numbered([60, "b"], **options)).split("train")[0]
    assert sample.image_id == 60
    assert sample.annotated.tolist() == [[1, 0, 0, 5, 5, 25, 0]]
    samples = concat([numbered([60]), numbered([50, 60])], classes=["dog", "cat"]).split("train")
    assert [sample.image_id for sample in samples] == [60, 50, 60]
    assert [sample.annotated[0, 0] for sample in samples] == [1, 1, 1]


def test_numbers_of_classes_hold_for_a_split_where_all_its_parts_agree():
    same = concat([numbered([1]), numbered([2])])
    assert same.split_category_ids("train") == (10, 20) == same.category_ids
    other = concat([numbered([1]), {**numbered([2]), "found": ["dog", "cat"]}])
    assert other.category_ids is not None
    assert other.split_category_ids("train") is None
    assert concat([numbered([1]), node({"train": [["cat"]]}, ["cat"])]).split_category_ids("train") is None
    subset = make_dataset(numbered([1], classes=["dog"], unknown_classes="drop", keep_empty=True, max_images=1))
    assert subset.split_category_ids("train") == (20,)


def concat_node(parts):
    return {"_target_": "ssd.data.datasets.concat.Concat", "classes": None, "parts": parts}


def test_wrong_joins():
    with pytest.raises(UserError, match="dataset.parts is empty"):
        concat({})
    with pytest.raises(UserError, match="dataset.parts: class 'cat' is not in dataset.classes"):
        concat([node({"train": [["cat"]]}, ["cat"])], classes=["dog"])
    with pytest.raises(UserError, match="none of dataset.parts has a test split"):
        concat([node()]).split("test")


def test_ground_truth_tells_crowds():
    sample = make_dataset(node()).split("train")[3]
    np.testing.assert_array_equal(sample.ground_truth(), [[1, 0, 0, 5, 5, 0, 0], [2, 0, 0, 5, 5, 0, 1]])
    assert make_dataset(node()).split("train")[2].ground_truth().shape == (0, 7)
