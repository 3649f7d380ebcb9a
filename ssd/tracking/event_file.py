"""A file of TensorBoard events."""

import logging
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from ssd.utils.atomic_files import atomic_write

log = logging.getLogger(__name__)

LENGTH, CHECK = struct.Struct("<Q"), struct.Struct("<I")  # a record: length, its checksum, event, its checksum


class EventFile:
    """Appends events, each in one write: it is there for TensorBoard at once, and a kill cannot cut it in two.

    Not tensorboardX's writer, which passes events to a thread through a queue of ten: once the disk is full the thread
    is gone, and so is, with the eleventh event, the training that waits for it.

    next_step: the first that these events may be of. What earlier files of the folder say of it and later ones is
    dropped: a run that is resumed goes through these steps once more. So are scalars under `ended`: the numbers that it
    ended with before.

    Errors: OSError of the files.
    """

    def __init__(self, folder: Path, next_step: int, ended: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for earlier in sorted(folder.glob("*.tfevents.*")):
            drop_from(earlier, next_step, ended)
        # TensorBoard reads the files of a folder in the order of their names: those of a resumed run one after another.
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(folder / name, "ab", buffering=0)  # noqa: SIM115
        self.write(Event(file_version="brain.Event:2"), 0)
        # For a TensorBoard that has read the earlier files before they were cut.
        self.write(Event(session_log=SessionLog(status=SessionLog.START)), next_step)

    def write(self, event: Event, step: int) -> None:
        event.wall_time, event.step = time.time(), step
        data = event.SerializeToString()
        length = LENGTH.pack(len(data))
        self._file.write(length + CHECK.pack(masked_crc32c(length)) + data + CHECK.pack(masked_crc32c(data)))

    def close(self) -> None:
        self._file.close()


def drop_from(path: Path, step: int, ended: str) -> None:
    """Rewrites a file without its events of this step and later ones, those with tags under `ended`, and without a last
    one that is cut short."""
    with open(path, "rb") as file, atomic_write(path) as draft, open(draft, "wb") as kept:
        for record, event in records(file):
            if event.step < step and not any(value.tag.startswith(ended) for value in event.summary.value):
                kept.write(record)


def records(file: BinaryIO) -> Iterator[tuple[bytes, Event]]:
    """The complete records of a file, each with its event, up to one that is damaged: TensorBoard reads no further."""
    size = os.fstat(file.fileno()).st_size
    while len(head := file.read(LENGTH.size + CHECK.size)) == LENGTH.size + CHECK.size:
        (length,) = LENGTH.unpack_from(head)
        if length + CHECK.size > size - file.tell():
            return
        body = file.read(length + CHECK.size)
        try:
            event = Event.FromString(body[:length])
        except DecodeError:
            log.warning("%s: damaged %d bytes before its end; what follows is dropped", file.name, size - file.tell())
            return
        yield head + body, event
