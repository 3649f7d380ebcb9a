import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary

from ssd.tracking.event_file import EventFile, drop_from, records


def write(folder, steps, next_step=1):
    file = EventFile(folder, next_step, "final/")
    for step in steps:
        file.write(Event(summary=Summary(value=[Summary.Value(tag="a", simple_value=step)])), step)
    file.close()


def message(path):
    """Steps of the summaries that TensorBoard reads."""
    return [int(event.summary.value[0].simple_value) for event in events(path) if event.HasField("summary")]


def events(path):
    return [Event.FromString(data) for data in RawEventFileLoader(str(path)).Load()]


def test_tensorboard_reads_what_was_written(tmp_path):
    write(tmp_path / "new" / "folder", [1, 2, 3])
    (path,) = (tmp_path / "new" / "folder").iterdir()
    first, start, *rest = events(path)
    assert first.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (1, start.session_log.START)
    assert [event.step for event in rest] == message(path) == [1, 2, 3]
    assert path.name.startswith("events.out.tfevents.")


def test_an_event_is_in_the_file_at_once(tmp_path):
    file = EventFile(tmp_path, 1, "final/")
    (path,) = tmp_path.iterdir()
    sizes = [path.stat().st_size]
    for step in (1, 2):
        file.write(Event(), step)
        sizes.append(path.stat().st_size)
    assert sizes == sorted(set(sizes))


@given(st.integers(0, 12), st.integers(0, 60))
def test_later_events_and_half_ones_are_dropped(tmp_path_factory, step, missing):
    folder = tmp_path_factory.mktemp("events")
    write(folder, range(1, 11))
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - missing])
    with open(path, "rb") as file:
        complete = len(list(records(file))) - 2
    drop_from(path, step, "final/")
    assert message(path) == [number for number in range(1, complete + 1) if number < step]
    assert list(folder.iterdir()) == [path]


def test_files_of_a_resumed_run_follow_each_other(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    write(tmp_path, [3, 4, 5], next_step=3)
    write(tmp_path, [5, 6], next_step=5)
    assert [message(path) for path in sorted(tmp_path.iterdir())] == [[1, 2], [3, 4], [5, 6]]


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        EventFile(tmp_path / "file" / "folder", 1, "final/")


@pytest.mark.parametrize("damage", [b"\xff" * 8, (2**40).to_bytes(8, "little")])
def test_a_file_is_read_up_to_its_damage(damage, tmp_path):
    write(tmp_path, range(1, 11))
    (path,) = tmp_path.iterdir()
    with open(path, "rb") as file:
        starts = [len(record) for record, _ in records(file)]
    data = bytearray(path.read_bytes())
    place = sum(starts[:6])
    data[place : place + 8] = damage  # the length of a record
    path.write_bytes(data)
    drop_from(path, 100, "final/")
    assert path.stat().st_size == place
    data = path.read_bytes()
    place = sum(starts[:4]) + 12
    path.write_bytes(data[:place] + b"\xff" * 8 + data[place + 8 :])
    drop_from(path, 100, "final/")
    assert path.stat().st_size == sum(starts[:4])
