import pytest

from ssd.detection.stages import StageTimer


@pytest.fixture
def clock(clock_of):
    return clock_of("ssd.detection.stages")


@pytest.fixture
def lap(clock):
    def run(stages, size, seconds):
        with stages.measure("forward"):
            clock.sleep(seconds)
        stages.batch_done(size)

    return run


def test_times_are_per_frame(lap):
    stages = StageTimer()
    assert list(stages.each("decode", [1, 2, 3])) == [1, 2, 3]
    lap(stages, 4, 0.02)
    times = stages.milliseconds()
    assert tuple(times) == ("decode", "forward")  # nothing of what was not done, such as drawing
    assert times["forward"] == pytest.approx(5)
    assert stages.frames == 4


def test_first_batches_of_a_size_count_only_if_there_are_no_others(lap):
    stages = StageTimer()
    lap(stages, 2, 0.2)
    lap(stages, 2, 0.01)
    lap(stages, 1, 0.2)
    assert stages.milliseconds()["forward"] == pytest.approx(5)
    assert stages.frames == 5


def test_an_item_that_takes_time_and_one_that_fails(clock):
    def slow():
        clock.sleep(0.02)
        yield 1
        clock.sleep(0.01)
        raise ValueError("broken")

    stages = StageTimer()
    with pytest.raises(ValueError, match="broken"):
        list(stages.each("decode", slow()))
    stages.batch_done(1)
    assert stages.milliseconds()["decode"] == pytest.approx(30)


def test_table(lap):
    stages = StageTimer()
    assert stages.milliseconds() == {}
    lap(stages, 1, 0.01)
    lines = stages.table()
    assert len(lines) == 1 + 2
    assert lines[-1].split() == ["together", "10.00", "100.0"]
