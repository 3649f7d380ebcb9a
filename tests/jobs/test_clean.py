"""job=clean: what no run needs, and nothing else, is listed and removed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ssd.config.compose import compose
from ssd.data.base import Sample
from ssd.data.recordio.cache import RECORDS, ensure_records, in_use
from ssd.jobs.clean import run
from ssd.utils.errors import UserError


@pytest.fixture
def pack(tmp_path, jpeg):
    """pack(seed): records of two images in tmp_path/records/voc."""
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_bytes(jpeg(60, 40))
    box = np.array([[0, 1, 1, 9, 9, 0]], np.float32)
    samples = [Sample(name, tmp_path / f"{name}.jpg", 60, 40, box) for name in "ab"]
    return lambda seed: ensure_records(samples, tmp_path / "records" / "voc", "train", seed)


def cleaned(tmp_path, *overrides):
    """Name of a folder -> (needed by, removed)."""
    out = tmp_path / "clean"
    out.mkdir(exist_ok=True)
    run(compose(["job=clean", f"job.runs={tmp_path}/outputs", f"training.records={tmp_path}/records", *overrides]), out)
    return {
        Path(found["folder"]).name: (found["needed_by"], found["removed"])
        for found in json.loads((out / "clean.json").read_text())
    }


def test_what_no_run_refers_to_goes(tmp_path, pack):
    trained, prepared, old = pack(0), pack(1), pack(2)
    runs = tmp_path / "outputs" / "train" / "x", tmp_path / "outputs" / "multirun" / "y" / "3"
    for place in runs:
        place.mkdir(parents=True)
    (runs[0] / RECORDS).write_text(json.dumps({"train": f"/moved/since/voc/{trained.folder.name}"}))
    (runs[1] / "prepare.json").write_text(json.dumps({"splits": {"train": {"file": str(prepared.rec)}}}))
    expected = {
        trained.folder.name: (str(runs[0]), False),
        prepared.folder.name: (str(runs[1]), False),
        old.folder.name: (None, False),
    }
    assert cleaned(tmp_path) == expected
    assert old.rec.is_file()
    assert cleaned(tmp_path, "job.delete=true") == {**expected, old.folder.name: (None, True)}
    assert sorted(path.name for path in (tmp_path / "records" / "voc").iterdir()) == sorted(
        [trained.folder.name, prepared.folder.name]
    )
    assert pack(2).rec.is_file()  # whoever needs them again packs them anew


def test_records_that_a_process_reads_stay(tmp_path, pack):
    (tmp_path / "outputs").mkdir()
    records = pack(0)
    with in_use(records):
        assert cleaned(tmp_path, "job.delete=true") == {records.folder.name: ("in use", False)}
    assert cleaned(tmp_path, "job.delete=true") == {records.folder.name: (None, True)}
    with pytest.raises(UserError, match="removed while"), in_use(records):
        pass


def test_what_a_killed_packing_left_goes_and_one_that_runs_stays(tmp_path):
    (tmp_path / "outputs").mkdir()
    voc = tmp_path / "records" / "voc"
    for name in (".train-0123456789ab.part", ".val-0123456789ab.part", ".val-0123456789ab.0123456789ab.tmp", "mine"):
        (voc / name).mkdir(parents=True)
    os.utime(voc / ".val-0123456789ab.0123456789ab.tmp", (0, 0))
    script = "import sys; from pathlib import Path; from ssd.utils.atomic_files import exclusive_dir\n"
    script += "with exclusive_dir(Path(sys.argv[1])):\n    print('inside', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(voc / ".train-0123456789ab.part")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as packing:
        assert packing.stdout.readline() == b"inside\n"
        found = cleaned(tmp_path, "job.delete=true")
        packing.stdin.close()
    assert found == {
        ".train-0123456789ab.part": ("in use", False),
        ".val-0123456789ab.part": (None, True),
        ".val-0123456789ab.0123456789ab.tmp": (None, True),
    }
    assert (voc / "mine").is_dir()


def test_without_runs_or_records_nothing_is_guessed(tmp_path):
    with pytest.raises(UserError, match="records: no such folder"):
        cleaned(tmp_path)
    (tmp_path / "records").mkdir()
    with pytest.raises(UserError, match=r"job.runs=.*outputs: no such folder"):
        cleaned(tmp_path)


@pytest.mark.parametrize("name", [RECORDS, "prepare.json"])
@pytest.mark.parametrize(
    "text", ["{", "[]", "7", '{"train": 5}', '{"train": ""}', '{"splits": {"train": {}}}', "\0", '"x"']
)
def test_nothing_goes_while_it_is_not_known_what_a_run_needs(tmp_path, pack, name, text):
    records = pack(0)
    place = tmp_path / "outputs" / "train" / "x"
    place.mkdir(parents=True)
    (place / name).write_text(text)
    with pytest.raises(UserError, match=f"{name}.*so nothing is removed") as error:
        cleaned(tmp_path, "job.delete=true")
    assert "\n" not in str(error.value)
    assert records.rec.is_file()
