from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from ssd.data import Dataset, Sample, make_dataset
from ssd.data.base import empty_boxes
from ssd.utils.errors import UserError


class Mine(Dataset):
    """What a user would write."""

    classes = ("thing",)

    def __init__(self, folder: str, sizes: list[int]) -> None:
        if folder == "bad":
            raise UserError("folder is bad")
        if folder == "bug":
            raise ZeroDivisionError
        assert isinstance(sizes, list)
        self.folder = Path(folder)

    def split(self, name: str) -> list[Sample]:
        return [Sample(name, self.folder / "a.jpg", 10, 20, empty_boxes())]


def cfg(**values):
    return OmegaConf.create({"_target_": f"{__name__}.Mine", "folder": "x", "sizes": [1], **values})


def test_a_format_is_one_class():
    dataset = make_dataset(cfg())
    assert dataset.classes == ("thing",)
    assert dataset.split("val")[0].id == "val"


def test_a_sample_is_frozen_and_reads_its_file(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"123")
    sample = make_dataset(cfg(folder=str(tmp_path))).split("val")[0]
    assert sample.read() == b"123"
    assert sample.boxes.shape == (0, 6)
    assert sample.boxes.dtype == np.float32
    with pytest.raises(AttributeError):
        sample.width = 3
    with pytest.raises(UserError, match="x/a.jpg: cannot read the image: No such file"):
        make_dataset(cfg()).split("val")[0].read()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"folder": "bad"}, "^folder is bad$"),
        ({"color": 3}, "dataset '.*Mine': .*unexpected keyword argument 'color'"),
        ({"_target_": "ssd.data.datasets.voc.VOX"}, "dataset 'ssd.data.datasets.voc.VOX': .*VOX"),
        ({"_target_": "no.such.module"}, "dataset 'no.such.module'"),
    ],
)
def test_wrong_descriptions(values, message):
    with pytest.raises(UserError, match=message) as error:
        make_dataset(cfg(**values))
    assert "\n" not in str(error.value)


def test_a_target_that_is_no_dataset():
    with pytest.raises(UserError, match="'pathlib.Path' is not a class derived from ssd.data.Dataset"):
        make_dataset(OmegaConf.create({"_target_": "pathlib.Path"}))


def test_bugs_keep_their_traceback():
    with pytest.raises(Exception, match="ZeroDivisionError"):
        make_dataset(cfg(folder="bug"))


def test_a_class_gets_of_the_common_keys_what_it_takes():
    common = {"name": "x", "classes": ["thing"], "holdout": {"val": 0.1}, "unknown_classes": "error",
              "keep_empty": False, "max_images": None, "download": False, "mirror": None, "archives": {}}  # fmt: skip
    assert make_dataset(cfg(**common)).classes == ("thing",)


@pytest.mark.parametrize("target", [None, "", 3])
def test_no_target(target):
    with pytest.raises(UserError, match="dataset._target_ is not set"):
        make_dataset({"_target_": target})
