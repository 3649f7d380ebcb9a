"""Names of classes from lists, text files and label maps."""

from pathlib import Path

import pytest

from ssd.importers.caffe.names import class_names
from ssd.utils.errors import UserError

MAP = """
item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "aeroplane" label: 1 display_name: "plane" }
item { name: "bicycle" label: 2 }
"""


def test_lists(tmp_path: Path) -> None:
    assert class_names(["a", " b"], [1, 2]) == ["a", "b"]
    assert class_names(["background", "a", "b"], [1, 2]) == ["a", "b"]
    assert class_names(None, [1, 2]) == ["class 1", "class 2"]


def test_files(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("'n01 tench, Tinca'\n\n\"n02 goldfish\"\n")
    assert class_names(str(tmp_path / "names.txt"), [0, 1]) == ["n01 tench, Tinca", "n02 goldfish"]
    (tmp_path / "labelmap.prototxt").write_text(MAP)
    assert class_names(str(tmp_path / "labelmap.prototxt"), [1, 2]) == ["plane", "bicycle"]


def test_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="3 names, the network tells 2"):
        class_names(["a", "b", "c"], [1, 2])
    with pytest.raises(UserError, match="empty"):
        class_names(["a", " "], [1, 2])
    with pytest.raises(UserError, match="list of classes"):
        class_names(str(tmp_path / "nowhere.txt"), [1])
    (tmp_path / "labelmap.prototxt").write_text(MAP)
    with pytest.raises(UserError, match="no name for label 3"):
        class_names(str(tmp_path / "labelmap.prototxt"), [1, 3])
