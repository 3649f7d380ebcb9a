import csv
import io

import cv2
import numpy as np
import pytest

from ssd.benchmark.grid import Cell, Measured, Network
from ssd.benchmark.report import COLUMNS, row_of, to_csv, to_png, to_table

SMALL = Network("small", "128")


@pytest.fixture
def rows():
    times = np.linspace(0.09, 0.11, 101).tolist()
    good = Measured(Cell(SMALL, "mxnet", 2, 8), times, 250.0)
    bad = Measured(Cell(SMALL, "int8", None, 8), error="not enough memory, they say")
    return [row_of(Measured(Cell(SMALL, "mxnet", 2, 1), [0.02], 200.0)), row_of(good), row_of(bad)]


def test_numbers_of_a_cell(rows):
    assert tuple(rows[1]) == COLUMNS
    assert rows[1]["images_per_second"] == pytest.approx(80)
    assert [rows[1][f"p{share}_ms"] for share in (50, 90, 99)] == pytest.approx([100, 108, 109.8])
    assert rows[1]["calls"] == 101
    assert rows[2]["images_per_second"] is None
    assert rows[2]["error"] == "not enough memory, they say"


def test_csv(rows):
    read = list(csv.DictReader(io.StringIO(to_csv(rows))))
    assert [line["images_per_second"] for line in read] == ["50.00", "80.00", ""]
    assert read[2]["error"] == "not enough memory, they say"


def test_table_lists_what_failed(rows):
    lines = to_table(rows)
    assert len(lines) == 5
    assert lines[2].split()[:6] == ["small", "128", "mxnet", "2", "8", "80.00"]
    assert lines[4] == "failed: small 128 int8 batch 8: not enough memory, they say"


def test_image(rows):
    image = cv2.imdecode(np.frombuffer(to_png(rows), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[1] == 960
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    assert to_png(rows[2:]), "nothing measured is an image, too"
