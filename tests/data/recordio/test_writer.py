import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from ssd.data.recordio.cache import ensure_records
from ssd.data.recordio.format import opened, scan
from ssd.data.recordio.writer import Packing, write_records

# Packs half of the images, says so, and waits to be killed.
SLOW = """
import sys, time
from pathlib import Path
import ssd.data.recordio.writer as packing
from ssd.data.recordio.cache import ensure_records
from ssd.data.datasets.voc import VOC
encode = packing.encode_pieces
done = []
def slow(*values):
    done.append(1)
    if len(done) == 20:
        print("half", flush=True)
        time.sleep(6000)
    return encode(*values)
packing.encode_pieces = slow
packing.BATCH = packing.THREADS = 1
voc = VOC("x", sys.argv[1], None, {"train": ["train"]}, None, "error", {"val": 0, "test": 0, "seed": 0})
ensure_records(voc.split("train"), Path(sys.argv[2]), "train", seed=0)
"""


@pytest.fixture
def many(voc):
    for number in range(40):
        voc.add(f"x{number:02d}", [("dog", 1, 1, 9, 9)])
    voc.sets(train=[f"x{number:02d}" for number in range(40)])
    return voc


def contents(records) -> list[bytes]:
    return [file.read_bytes() for file in (records.rec, records.idx, records.lst)]


def whole(voc, folder):
    return ensure_records(voc.dataset().split("train"), folder, "train", seed=0)


def test_a_killed_packing_is_gone_on_with(many, tmp_path, caplog):
    caplog.set_level("INFO")
    expected = contents(whole(many, tmp_path / "whole"))
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", SLOW, str(many.root), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout.readline() == "half\n"
        worker.send_signal(signal.SIGKILL)
    assert not list(folder.glob("train-*"))
    caplog.clear()
    assert contents(whole(many, folder)) == expected
    assert "goes on behind the" in caplog.text
    assert [path.name[:6] for path in folder.iterdir()] == ["train-"]


@pytest.mark.parametrize("cut", [0, 1, 5, 300, 2000, 7000])
@pytest.mark.parametrize("suffix", [".rec", ".idx", ".lst"])
def test_wherever_a_file_ends(many, tmp_path, monkeypatch, suffix, cut):
    samples = many.dataset().split("train")
    write_records(Packing(samples, 0), tmp_path / "train")
    files = [tmp_path / f"train{name}" for name in (".rec", ".idx", ".lst")]
    expected = [file.read_bytes() for file in files]
    for file, data in zip(files, expected, strict=True):
        if file.suffix == suffix:
            file.write_bytes(data[: max(0, len(data) - cut)])
    message: list[int] = []
    monkeypatch.setattr("ssd.data.recordio.writer.BATCH", 1)
    write_records(Packing(samples, 0), tmp_path / "train", message.append)
    assert [file.read_bytes() for file in files] == expected
    assert message == list(range(41 - len(message), 41))
    assert len(message) < 40 or suffix != ".rec"


def test_zeros_behind_a_power_cut_are_not_taken_for_records(many, tmp_path):
    samples = many.dataset().split("train")
    write_records(Packing(samples, 0), tmp_path / "train")
    rec = tmp_path / "train.rec"
    expected = rec.read_bytes()
    rec.write_bytes(expected[:-3000] + b"\0" * 3000)
    write_records(Packing(samples, 0), tmp_path / "train")
    assert rec.read_bytes() == expected


def test_an_interruption_keeps_what_is_packed(many, tmp_path, monkeypatch):
    from ssd.data.recordio import writer

    encode, calls = writer.encode_pieces, []

    def interrupted(*values):
        calls.append(1)
        if len(calls) == 10:
            raise KeyboardInterrupt
        return encode(*values)

    with monkeypatch.context() as patch:
        patch.setattr(writer, "BATCH", 4)
        patch.setattr(writer, "encode_pieces", interrupted)
        with pytest.raises(KeyboardInterrupt):
            whole(many, tmp_path / "r")
    (part,) = (tmp_path / "r").iterdir()
    assert part.name.startswith(".train-")
    assert contents(whole(many, tmp_path / "r")) == contents(whole(many, tmp_path / "other"))


def test_long_images_are_made_smaller(voc, tmp_path, jpeg):
    voc.add("a", [("dog", 11, 6, 30, 20)], jpeg(60, 40))
    big = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8), (300, 200))
    voc.add("b", [], cv2.imencode(".png", big)[1].tobytes())
    (voc.xml("b")).write_bytes(voc.xml("b").read_bytes().replace(b">60<", b">300<").replace(b">40<", b">200<"))
    samples = voc.dataset().split("train")
    records = ensure_records(samples, tmp_path / "r", "train", seed=0, max_side=100)
    assert records != ensure_records(samples, tmp_path / "r", "train", seed=0)
    assert records == ensure_records(samples, tmp_path / "r", "train", seed=0, max_side=100)
    with opened(records.rec) as view:
        packed = {record.id: record for record in scan(view, "x")}
    assert packed[0].data == samples[0].path.read_bytes()  # short enough: untouched
    small = cv2.imdecode(np.frombuffer(packed[1].data, np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (67, 100, 3)
    assert packed[1].data.startswith(b"\xff\xd8")
    wanted = cv2.resize(big, (100, 67), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - wanted).mean() < 4
