import time

import pytest

from ssd.detection.stages import Stages


def lap(stages, size, seconds):
    with stages.measure("forward"):
        time.sleep(seconds)
    stages.batch_done(size)


def test_times_are_per_frame():
    stages = Stages()
    assert list(stages.each("decode", [1, 2, 3])) == [1, 2, 3]
    lap(stages, 4, 0.02)
    times = stages.milliseconds()
    assert tuple(times) == ("decode", "forward")  # nothing of what was not done, such as drawing
    assert 5 <= times["forward"] < 50
    assert stages.frames == 4


def test_first_batches_of_a_size_count_only_if_there_are_no_others():
    stages = Stages()
    lap(stages, 2, 0.2)
    lap(stages, 2, 0.01)
    lap(stages, 1, 0.2)
    assert 5 <= stages.milliseconds()["forward"] < 50
    assert stages.frames == 5


def test_an_item_that_takes_time_and_one_that_fails():
    def slow():
        time.sleep(0.02)
        yield 1
        raise ValueError("broken")

    stages = Stages()
    with pytest.raises(ValueError, match="broken"):
        list(stages.each("decode", slow()))
    stages.batch_done(1)
    assert stages.milliseconds()["decode"] >= 15


def test_table():
    stages = Stages()
    assert stages.milliseconds() == {}
    lap(stages, 1, 0.01)
    lines = stages.table()
    assert len(lines) == 1 + 2
    name, milliseconds, per_second = lines[-1].split()
    assert name == "together"
    assert float(milliseconds) * float(per_second) == pytest.approx(1000, rel=0.02)
