"""What checkpoints.json says of a checkpoint."""

import json
from pathlib import Path

import pytest

from ssd.checkpoint.index import NAME, epoch_of, find_entry
from ssd.utils.errors import UserError

ENTRIES = [{"epoch": 2, "step": 6, "params": "ssd-0002.params", "states": None},
           {"epoch": 2, "step": 7, "params": "ssd-0002+1.params", "states": "ssd-0002+1.states"},
           {"epoch": 3, "step": 9, "params": "ssd-0003.params", "states": "ssd-0003.states"}]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / NAME).write_text(json.dumps({"kept": ENTRIES, "best": ENTRIES[0], "last": ENTRIES[2]}))
    return tmp_path


def test_the_epoch_of_a_checkpoint_is_the_one_that_metrics_csv_has_a_row_of() -> None:
    assert [epoch_of(entry) for entry in ENTRIES] == [2, 3, 3]


@pytest.mark.parametrize(("place", "kind"), [(0, "best"), (1, None), (2, "last")])
def test_a_parameter_file_is_found_in_the_index_beside_it(place: int, kind: str | None, folder: Path) -> None:
    assert find_entry(folder / ENTRIES[place]["params"]) == (kind, ENTRIES[place])  # type: ignore[operator]


def test_files_of_which_no_index_tells(folder: Path, tmp_path: Path) -> None:
    assert find_entry(folder / "other-0001.params") is None
    assert find_entry(tmp_path / "elsewhere" / "ssd-0002.params") is None
    (folder / NAME).write_text("{")
    with pytest.raises(UserError, match="damaged"):
        find_entry(folder / "ssd-0002.params")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda index: index["last"].pop("step"), "'step' is missing"),
        (lambda index: index["kept"].append(3), "is no object"),
        (lambda index: index["kept"][0].update(sha256=3), "'sha256' is of another kind"),
        (lambda index: index["kept"][0].update(sha256={"params": None}), "'sha256' is of another kind"),
        (lambda index: index["kept"][0].update(params=None), "'params' is of another kind"),
        (lambda index: index["kept"][0].update({"val/map_11pt": "0.5"}), "'val/map_11pt' is no number"),
        (lambda index: index["best"].update(states="../x"), "outside of its folder"),
        (lambda index: index.update(words="epochs=1"), "'words' is of another kind"),
        (lambda index: index.update(deep=json.loads("[" * 100 + "]" * 100)), "nested more than 64 deep"),
        (lambda index: index.pop("last") and index, "'last' is missing"),
    ],
)
def test_what_is_no_index_is_one_line(change, part: str, folder: Path) -> None:
    index = json.loads((folder / NAME).read_text())
    change(index)
    (folder / NAME).write_text(json.dumps(index))
    with pytest.raises(UserError, match=part) as caught:
        find_entry(folder / "ssd-0002.params")
    assert "\n" not in str(caught.value)
