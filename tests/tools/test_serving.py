"""What tools/benchmarks/serving.py counts, and that it finds a service that forgets or errs."""

import math
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from ssd.data.images import decode
from ssd.detection import Detector

FILE = Path(__file__).resolve().parents[2] / "tools" / "benchmarks" / "serving.py"


@pytest.fixture(scope="module")
def serving(module_at: Callable[[Path], ModuleType]) -> ModuleType:
    return module_at(FILE)


@pytest.fixture
def photos(tmp_path: Path, jpeg: Callable[[int, int], bytes]) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, size in enumerate([(120, 80), (64, 64), (50, 90)]):
        (folder / f"{number}.jpg").write_bytes(jpeg(*size))
    return folder


def test_percentiles_are_values_that_occurred(serving: ModuleType) -> None:
    hundred = [float(value) for value in range(100, 0, -1)]
    assert [serving.percentile(hundred, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert [serving.percentile([3.0, 1.0, 2.0], percent) for percent in (0, 50, 99)] == [1, 2, 3]
    assert math.isnan(serving.percentile([], 50))


def test_a_row(serving: ModuleType) -> None:
    assert serving.row([0.1, 0.2, 0.4, 0.3], 2.0).split() == ["2.0", "200.0", "400.0", "400.0", "4"]


def test_clients_ask_for_all_images_and_lose_none(serving: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    ticks = count()  # a clock that goes on whenever it is read
    monkeypatch.setattr(serving, "time", SimpleNamespace(perf_counter=lambda: next(ticks) / 1000))

    def ask(number: int) -> bytes:
        asked.append(number)
        if len(asked) % 10 == 0:
            raise ConnectionError("gone")
        return bytes([number])

    seen, elapsed = serving.measure(lambda: ask, 4, 3, 0.1)
    warm_up = 3
    assert elapsed >= 0.1
    assert len(asked) - warm_up == len(seen.seconds) + seen.problems["ConnectionError: gone"]
    assert seen.problems.total() >= 1
    assert set(seen.answers) == {(0, b"\0"), (1, b"\1"), (2, b"\2")}
    assert seen.answers.total() == len(seen.seconds)
    assert min(seen.seconds) > 0.0009  # a tick or more


def test_other_answers_are_counted(serving: ModuleType, checkpoint: Path, photos: Path) -> None:
    files = [path.read_bytes() for path in sorted(photos.iterdir())]
    detector = Detector.load(str(checkpoint), batch_size=1)
    with serving.in_process(str(checkpoint), files) as way:
        ask = way.connect()
        right = [ask(number) for number in range(3)]
        moved = way.rows(right[0]).copy()
        moved[0, 2:] += 1
        answers = Counter({(0, right[0]): 5, (0, moved.tobytes()): 2, (1, right[2]): 3, (2, b""): 1})
        seen = serving.Seen(answers=answers)
        images = [decode(data, "") for data in files]
        assert all(len(way.rows(answer)) > 3 for answer in right)
        assert serving.count_differing(seen, way.rows, detector, images) == 2 + 3 + 1


def test_answers_of_the_server(serving: ModuleType) -> None:
    text = b'{"predictions": [{"detections": [{"class": 2, "name": "x", "score": 0.5, "box": [1, 2, 3.5, 4]}]}]}'
    np.testing.assert_array_equal(serving.served_rows(text), [[2, 0.5, 1, 2, 3.5, 4]])
    assert serving.served_rows(b'{"predictions": [{"detections": []}]}').shape == (0, 6)


@pytest.mark.slow
def test_three_seconds_of_a_detector(checkpoint: Path, photos: Path) -> None:
    overrides = ["--model", str(checkpoint), "--images", str(photos), "--seconds", "3", "--ways", "Detector"]
    done = subprocess.run([sys.executable, str(FILE), *overrides], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    name, clients, *_, answers, lost, differing, _ = done.stdout.splitlines()[-1].split()
    assert (name, clients, lost, differing) == ("Detector", "8", "0", "0")
    assert int(answers) > 8
