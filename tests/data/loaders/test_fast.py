import gc
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ssd.config.parts import loader_config
from ssd.data.loaders.base import Shard
from ssd.data.loaders.batch_builder import BatchBuilder
from ssd.data.loaders.fast import MOSAIC_ROWS, FastLoader
from ssd.data.loaders.workers import ProcessPool, Worker
from ssd.data.recordio.cache import ensure_records
from ssd.utils.errors import UserError

COUNT = 13


@pytest.fixture
def packed(voc, tmp_path, jpeg):
    """Thirteen images of noise, two or three objects each."""
    names = [f"x{number:02}" for number in range(COUNT)]
    for number, name in enumerate(names):
        objects = [("cat", 5 + 10 * k, 5, 14 + 10 * k, 25 + k) for k in range(2 + number % 2)]
        voc.add(name, objects, jpeg(60, 40, seed=number))
    voc.sets(train=names)
    return ensure_records(voc.dataset().split("train"), tmp_path / "records", "train", seed=0)


@pytest.fixture
def make(packed, make_cfg):
    """FastLoader of the images; workers, prefetch, timeout and hung by name, anything else as in make_cfg."""

    def loader(
        augment: str = "ssd",
        workers: int = 0,
        prefetch: int = 2,
        timeout=None,
        hung="replace",
        share=Shard(),  # noqa: B008
        **values,
    ) -> FastLoader:
        group = SimpleNamespace(name="fast", workers=workers, prefetch=prefetch, patience_s=timeout, on_hung=hung)
        cfg = make_cfg(augment, loader=group, **values)
        return FastLoader(packed, loader_config(cfg), packed.label_width, share)

    return loader


def epochs(loader: FastLoader, count: int) -> list[tuple[np.ndarray, np.ndarray, list[int]]]:
    """Batches of the next epochs, one after the other."""
    batches = []
    for _ in range(count):
        loader.reset()
        batches += [(batch.data[0].asnumpy(), batch.label[0].asnumpy(), batch.index) for batch in loader]
    return batches


def assert_same(first, second):
    assert len(first) == len(second) > 0
    for (data, label, index), (data2, label2, index2) in zip(first, second, strict=True):
        assert index == index2
        np.testing.assert_array_equal(data, data2)
        np.testing.assert_array_equal(label, label2)


def workers() -> list:
    """Threads and processes that load."""
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("loader")]
    return threads + processes()


def processes() -> list[int]:
    """Numbers of the worker processes that this process has."""
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "ssd.data.loaders.workers"], stdout=subprocess.PIPE, text=True
    )
    return [int(line) for line in found.stdout.split()]


def assert_no_workers():
    gc.collect()
    deadline = time.monotonic() + 600
    while workers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not workers()


@pytest.mark.parametrize("augment", ["ssd", "ssd_plus"])
def test_the_same_batches_with_any_number_of_workers(make, augment):
    one = epochs(make(augment, workers=0, prefetch=1, batch_size=4), 3)
    for workers, prefetch in ((1, 1), (3, 2)):
        assert_same(one, epochs(make(augment, workers=workers, prefetch=prefetch, batch_size=4), 3))


def test_batches_made_in_portions(make, monkeypatch):
    """Images of one portion share their random numbers; every part of a batch is made, whoever makes it."""
    monkeypatch.setattr("ssd.data.loaders.batch_builder.RNG_CHUNK", 3)
    for data, label, index in epochs(make(batch_size=8), 2):
        assert len(set(index)) == 8
        assert all(image.std() > 1 for image in data)
        assert (label[:, 0, 0] >= -1).all()


@pytest.mark.parametrize(("augment", "count", "group"), [("ssd", 2, 32), ("ssd_plus", 3, 32), ("ssd_plus", 2, 3)])
def test_shares_together_are_the_batch_of_one(make, monkeypatch, augment, count, group):
    """Several workers see what one alone would see, to the last pixel, whatever is drawn for it."""
    monkeypatch.setattr("ssd.data.loaders.batch_builder.RNG_CHUNK", group)
    whole = epochs(make(augment, batch_size=7), 3)
    shares = [epochs(make(augment, batch_size=7, share=Shard(rank, count)), 3) for rank in range(count)]
    assert {len(index) for _, _, index in shares[0]} == {7 // count}
    joined = [
        (np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]),
         [number for part in parts for number in part[2]])
        for parts in zip(*shares, strict=True)
    ]  # fmt: skip
    assert_same(whole, joined)


def test_batches_that_are_kept_stay_as_they_are(make):
    """However many are held, more than there is room for in the shared memory."""
    loader = make(batch_size=1, epochs=2)
    held = []
    for _ in range(2):
        loader.reset()
        held += list(loader)
    assert_same(
        [(batch.data[0].asnumpy(), batch.label[0].asnumpy(), batch.index) for batch in held],
        epochs(make(batch_size=1, epochs=2), 2),
    )


@pytest.mark.parametrize("augment", ["ssd", "ssd_plus"])
def test_a_worker_that_is_killed_is_replaced_and_its_batches_are_made_again(make, augment, caplog):
    whole = epochs(make(augment, batch_size=2), 10)
    loader = make(augment, batch_size=2, workers=3)
    alive = [worker.number for worker in loader._pool._workers]  # not those that replace one: a batch may end one only
    rng, found = random.Random(3), []
    for _ in range(10):
        loader.reset()
        for batch in loader:
            found.append((batch.data[0].asnumpy(), batch.label[0].asnumpy(), batch.index))
            if alive and rng.random() < 0.2:
                os.kill(alive.pop(), signal.SIGKILL)
    assert_same(whole, found)
    lines = [record.getMessage() for record in caplog.records]
    assert 0 < len(lines) == len(set(lines)) <= 3
    for line in lines:
        assert re.fullmatch(
            r"loader process \d+ is gone: killed by SIGKILL \(out of memory\?\); another makes its batch again", line
        )
    loader.close()
    assert_no_workers()


@pytest.fixture
def deadly(monkeypatch):
    """deadly(batch, times): that batch ends so many workers."""

    def make_deadly(batch: int, times: int) -> None:
        make_portion = Worker.make
        left = [None] * times

        def make(self, portion, *rest):
            if portion.batch == batch and left:
                left.pop()
                self._process.kill()
            make_portion(self, portion, *rest)

        monkeypatch.setattr(Worker, "make", make)

    return make_deadly


def test_a_batch_may_end_one_worker(make, deadly, caplog):
    whole = epochs(make(batch_size=2), 2)
    deadly(batch=7, times=1)
    assert_same(whole, epochs(make(batch_size=2, workers=2), 2))
    assert len(caplog.records) == 1


def test_a_batch_that_ends_two_workers_ends_the_run_and_its_images_are_named(make, deadly):
    whole = make(batch_size=2)
    whole.start(1, 1)
    names = ", ".join(whole.names(whole.next()))
    whole.close()
    deadly(batch=7, times=2)
    loader = make(batch_size=2, workers=2)
    message = re.escape(
        "two processes that load images ended over the same batch, the second killed by SIGKILL (out of memory?); "
        f"its images: {names}; where memory is short, try loader.workers=1"
    )
    with pytest.raises(UserError, match=f"^{message}$"):
        epochs(loader, 2)
    assert_no_workers()


@pytest.fixture
def stopped(make, monkeypatch):
    """stopped(hung): a loader whose only process has made batches, and is stopped. Its successor has time."""
    replace = ProcessPool._replace

    def replaced(self, place, reason):
        replace(self, place, reason)
        self._patience.timeout = None

    def start(hung: str) -> FastLoader:
        monkeypatch.setattr(ProcessPool, "_replace", replaced)
        loader = make(batch_size=2, workers=1, hung=hung)
        loader.next()
        os.kill(loader._pool._workers[0].number, signal.SIGSTOP)
        return loader

    return start


def test_a_worker_that_hangs_is_killed_and_its_batches_are_made_again(make, stopped, caplog):
    whole = epochs(make(batch_size=2), 2)[1:]
    loader = stopped("replace")
    loader._pool._patience.timeout = 0.3
    left = [(batch.data[0].asnumpy(), batch.label[0].asnumpy(), batch.index) for batch in loader]
    assert_same(whole, [*left, *epochs(loader, 1)])
    expected = (
        r"loader process \d+ is gone: hung for 0.3 s, loader.patience_s, and was killed; another makes its batch again"
    )
    assert caplog.records
    assert all(re.fullmatch(expected, record.getMessage()) for record in caplog.records)


def test_a_worker_that_hangs_is_named_and_waited_for_if_told(make, stopped, caplog):
    whole = epochs(make(batch_size=2), 2)[1:]
    loader = stopped("wait")
    loader._pool._patience.timeout = 0.3
    loader.heed = lambda: [os.kill(worker.number, signal.SIGCONT) for worker in loader._pool._workers if caplog.records]
    left = [(batch.data[0].asnumpy(), batch.label[0].asnumpy(), batch.index) for batch in loader]
    assert_same(whole, [*left, *epochs(loader, 1)])
    expected = r"loader process \d+ has been at a batch for 0.3 s .loader.patience_s.; waiting on .loader.on_hung=wait."
    assert all(re.fullmatch(expected, record.getMessage()) for record in caplog.records)


def test_whoever_waits_for_a_hung_worker_can_be_interrupted(stopped):
    class Interrupted(Exception):  # noqa: N818
        pass

    def heed() -> None:
        raise Interrupted

    loader = stopped("wait")
    loader.heed = heed
    with pytest.raises(Interrupted):
        epochs(loader, 2)
    loader.close()  # which does not wait either
    assert_no_workers()


@pytest.mark.parametrize(
    "stopped",
    [False, pytest.param(True, marks=pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux"))],
)
def test_workers_end_with_their_parent(packed, stopped):
    """Also when it has no time to end them."""
    code = f"""
import os, signal, sys, time
from pathlib import Path
from ssd.data.loaders.workers import Patience, ProcessPool, SharedBatchBuffer
from ssd.data.loaders.batch_builder import BatchConfig
from ssd.config.parts import InputSpec
from ssd.config.augment import Augment, MultiScale
from ssd.data.recordio.cache import Records
records = Records(*(Path(path) for path in {[str(packed.rec), str(packed.idx), str(packed.lst)]}), {COUNT}, 20)
augment = Augment(multi_scale=MultiScale([], 1))
recipe = BatchConfig(records, augment, InputSpec(8, 8, (0, 0, 0), (1, 1, 1), "force", True), 0, 2, 3, 0)
pool = ProcessPool(recipe, SharedBatchBuffer(recipe, 2), 2, 1, Patience(None, True), lambda portion: [])
number = pool._workers[0].number
if {stopped}:
    while str(records.rec) not in [os.path.realpath(link) for link in Path(f"/proc/{{number}}/fd").iterdir()]:
        time.sleep(0.05)  # it is not there yet
    os.kill(number, signal.SIGSTOP)
print(number, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    number = int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True).stdout)
    deadline = time.monotonic() + 600
    while Path(f"/proc/{number}/cmdline").exists() and Path(f"/proc/{number}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_every_epoch_is_different_and_the_seed_decides(make):
    first, second = (epochs(make(seed=seed, batch_size=COUNT), 2) for seed in (1, 2))
    for one, other in ((first[0], first[1]), (first[0], second[0])):
        assert one[2] != other[2]
        assert sorted(one[2]) == sorted(other[2])
        same = [other[2].index(index) for index in one[2]]  # the same image is augmented in another way
        assert not any((one[0][slot] == other[0][place]).all() for slot, place in enumerate(same))


def test_any_epoch_can_be_made_first(make):
    whole = epochs(make(batch_size=4), 5)
    loader = make(batch_size=4)
    loader.start(3, 0)
    assert_same(whole[9:12], [(b.data[0].asnumpy(), b.label[0].asnumpy(), b.index) for b in loader])
    assert_same(whole[12:15], epochs(loader, 1))
    loader.start(3, 2)  # from the middle of it
    assert_same(whole[11:12], [(b.data[0].asnumpy(), b.label[0].asnumpy(), b.index) for b in loader])
    assert_same(whole[12:15], epochs(loader, 1))
    loader.start(3, 3)
    assert list(loader) == []
    loader.start(1, 0)
    loader.next()
    assert_same(whole[6:9], epochs(loader, 1))  # reset in the middle of epoch 1 starts epoch 2


def test_what_an_epoch_leaves_over_comes_first_in_the_next(make):
    seen = [index for _, _, indices in epochs(make(batch_size=4, epochs=13), 13) for index in indices]
    assert len(seen) == 13 * 12
    passes = np.reshape(seen, (12, COUNT))
    assert (np.sort(passes) == np.arange(COUNT)).all()


def test_the_whole_file_is_shuffled(voc, tmp_path, make_cfg, jpeg):
    names = [f"y{number:03}" for number in range(200)]
    image = jpeg(60, 40)
    for name in names:
        voc.add(name, [], image)
    voc.sets(train=names)
    records = ensure_records(voc.dataset(classes=["cat"]).split("train"), tmp_path / "r", "train", 0)
    orders = np.array(
        [index for _, _, index in epochs(FastLoader(records, loader_config(make_cfg(batch_size=200)), 20, Shard()), 3)]
    )
    assert (np.sort(orders) == np.arange(200)).all()
    places = np.argsort(orders)
    # Of two random orders of n, places differ by n / 3 on average.
    assert np.abs(places[0] - places[1]).mean() == pytest.approx(200 / 3, rel=0.2)
    assert np.abs(np.corrcoef(places)[np.triu_indices(3, 1)]).max() < 0.25


def test_batches_are_made_ahead_and_no_more_than_asked_for(make, monkeypatch):
    begun: list[int] = []
    fill = BatchBuilder.make
    monkeypatch.setattr(BatchBuilder, "make", lambda *args: (begun.append(args[1].batch), fill(*args))[1])
    loader = make(batch_size=2, prefetch=2, epochs=2)
    loader.next()
    deadline = time.monotonic() + 600
    while len(begun) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert begun == [0, 1, 2]  # the batch that was asked for and two more
    epochs(loader, 1)
    assert begun == [*range(3), *range(6, 12)]  # the second epoch, and nothing beyond the end of the run
    loader.close()


def test_a_batch_stays_as_it_is_while_others_are_made(make):
    loader = make(batch_size=4)
    first = loader.next()
    before = first.data[0].asnumpy().copy()
    epochs(loader, 2)
    np.testing.assert_array_equal(first.data[0].asnumpy(), before)


def test_mosaic_and_mixup_end_before_the_run_does(make):
    """mix_until is 0.85: three epochs of four, rounded."""
    plus, plain = (
        epochs(make(batch_size=4, epochs=4, **extra), 4) for extra in ({"augment": "ssd_plus"}, {"augment": "ssd"})
    )
    assert plus[0][1].shape == (4, MOSAIC_ROWS, 6)
    assert plain[0][1].shape == (4, 3, 6)
    most = [(label[..., 0] >= 0).sum(axis=1).max() for _, label, _ in plus]
    assert max(most[:9]) > 3
    assert max(most[9:]) <= 3


def test_labels_that_would_overflow_are_not_mixed(make, monkeypatch):
    monkeypatch.setattr("ssd.data.loaders.fast.MOSAIC_ROWS", 4)
    for _, label, _ in epochs(make("ssd_plus", batch_size=4), 5):
        assert label.shape == (4, 4, 6)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_ends_in_one_line_and_nothing_is_left(make, packed, workers):
    data = bytearray(packed.rec.read_bytes())
    start = data.rfind(b"\xff\xd8\xff")
    data[start : start + 3] = b"bad"
    packed.rec.write_bytes(data)
    loader = make(workers=workers, batch_size=4, epochs=50)
    with pytest.raises(UserError, match=r"train.rec: image \d+ \(x\d\d.jpg\): the image file is no JPEG") as error:
        epochs(loader, 50)
    assert "\n" not in str(error.value)
    assert_no_workers()


def test_a_image_that_only_the_decoder_refuses(make, packed):
    """A whole file with a good header whose compressed data are not: decoders differ in what they make of it."""
    data = bytearray(packed.rec.read_bytes())
    tables = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xc4"]
    for at in tables:
        data[at + 4 : at + 21] = b"\xff" * 17
    packed.rec.write_bytes(data)
    with pytest.raises(UserError, match="the image cannot be decoded"):
        epochs(make(batch_size=4), 1)
    assert_no_workers()


def test_leaving_an_epoch_or_an_exception_leaves_nothing(make):
    with make(batch_size=2, workers=2) as loader:
        for _ in loader:
            break
        assert workers()
    assert_no_workers()

    def fail() -> None:
        with make(batch_size=2) as loader:
            loader.next()
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert_no_workers()
    loader = make(batch_size=2, workers=1)
    loader.next()
    del loader  # nobody closed it
    assert_no_workers()


def test_an_interrupt_while_waiting_ends_the_threads(make, monkeypatch):
    loader = make(batch_size=2)
    monkeypatch.setattr("concurrent.futures.Future.result", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        loader.next()
    assert_no_workers()


def test_closing_twice_is_harmless(make):
    loader = make()
    loader.close()
    loader.close()
